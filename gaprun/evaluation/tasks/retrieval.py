"""The retrieval task: recall and median rank in both directions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from gaprun.evaluation.task import FULL, POOL_SEED, TASKS, Embedder, Measured, Protocol, Task, pool_protocol

if TYPE_CHECKING:
    from gaprun.data.split import Split


@TASKS.register
class Retrieval(Task):
    """Image and text retrieval: recall@{1,5,10} and median rank, in the full gallery and in pools of 512 pairs."""

    task: Literal["retrieval"] = "retrieval"
    ties: Literal["pessimistic", "expected", "optimistic"] = Field(
        "pessimistic", description="Rank among equal scores; pessimistic gives a collapsed model no credit."
    )
    draws: int = Field(10, ge=1, le=1000, description="Fixed draws of 512 pairs that pool512 averages over.")

    def protocols(self, split: Split) -> list[Protocol]:
        """`full`: every image and caption, any-hit; `pool512`: the paper's likely gallery."""
        return [FULL, pool_protocol(split)]

    def measure(self, embedder: Embedder, split: Split, protocol: Protocol) -> Measured:
        """Recalls in percent and median ranks; `repeated_captions` where there are any; details: every query's rank."""
        from gaprun.evaluation import retrieval

        embeddings = embedder.embeddings(split)
        if protocol.pool is None:
            found = retrieval.full_retrieval(embeddings, ties=self.ties)
            details = {
                "image_rank": found.image_rank,
                "text_rank": found.text_rank,
                "owner": embeddings.owner,
            }
            return Measured(
                found.metrics() | repeated_captions(split), len(embeddings.images), embeddings.dim, details
            )
        pooled = retrieval.pool_retrieval(
            embeddings, pool=protocol.pool, draws=self.draws, seed=POOL_SEED, ties=self.ties
        )
        return Measured(pooled.metrics, protocol.pool, embeddings.dim)


def repeated_captions(split: Split) -> dict[str, float]:
    """`repeated_captions`: how many captions stand with another picture too, letter by letter; nothing where none does.

    Such a caption finds only the picture that it stands with: it is owned by index, not by text.
    """
    owners: dict[str, set[int]] = {}
    for image, captions in enumerate(split.captions):
        for caption in captions:
            owners.setdefault(caption, set()).add(image)
    count = sum(len(owners[caption]) > 1 for captions in split.captions for caption in captions)
    return {"repeated_captions": float(count)} if count else {}
