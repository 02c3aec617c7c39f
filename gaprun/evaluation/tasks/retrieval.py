"""The retrieval task: recall and median rank in both directions."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from gaprun.evaluation.outcomes import Details, of_ranks, within
from gaprun.evaluation.task import POOL_SEED, TASKS, Embedder, Measured, Task, pool_protocol
from gaprun.metrics import DOWN, NONE, Metric, Outcomes, percentage
from gaprun.protocols import FULL, Protocol

if TYPE_CHECKING:
    from gaprun.data.split import Split

RANKS = (1, 5, 10)


def _captions_within(k: int) -> Any:
    """Outcomes of captions that ask for their image. Files of earlier versions do not say whose each caption is: where
    every image has equally many, it is known; else there is no test."""

    def read(details: Details) -> Outcomes | None:
        import numpy as np

        if not {"image_rank", "text_rank"} <= set(details):
            return None
        ranks, texts = details["image_rank"], details["text_rank"]
        if "owner" in details:
            return of_ranks(ranks, k, details["owner"])
        if len(ranks) % len(texts) == 0 and (texts > 0).all():
            return of_ranks(ranks, k, np.repeat(np.arange(len(texts)), len(ranks) // len(texts)))
        return None

    return read


@TASKS.register
class Retrieval(Task):
    """Image and text retrieval: recall@{1,5,10} and median rank, in the full gallery and in pools of 512 pairs."""

    task: Literal["retrieval"] = "retrieval"
    metrics: ClassVar[tuple[Metric, ...]] = (
        *(
            percentage(f"{side}_recall@{k}", f"{side} recall@{k}", short=f"recall@{k}", outcome=outcome(k))
            for k in RANKS
            for side, outcome in (("image", _captions_within), ("text", partial(within, "text_rank")))
        ),
        Metric("image_median_rank", DOWN, "median rank of the right image", places=1, short="median_rank"),
        Metric(
            "text_median_rank", DOWN, "median rank of the best right caption", places=1, short="median_rank"
        ),
        Metric("repeated_captions", NONE, "captions that stand with another image too", places=0),
    )
    ties: Literal["pessimistic", "expected", "optimistic"] = Field(
        "pessimistic", description="Rank among equal scores; pessimistic gives a collapsed model no credit."
    )
    draws: int = Field(10, ge=1, le=1000, description="Fixed draws of 512 pairs that pool512 averages over.")

    def options(self, split: Split, protocol: Protocol) -> dict[str, Any]:
        """The rank of ties, and the number of draws, which says nothing where there are none."""
        draws = self.draws if protocol.pool else type(self).model_fields["draws"].default
        return {"ties": self.ties, "draws": draws}

    def protocols(self, split: Split) -> list[Protocol]:
        """`full`: every image and caption, any-hit; `pool512`: the paper's likely gallery."""
        return [FULL, pool_protocol(split)]

    def measure(self, embedder: Embedder, split: Split, protocol: Protocol) -> Measured:
        """Recalls in percent and median ranks; `repeated_captions` where there are any; details: every query's rank."""
        from gaprun.evaluation import retrieval

        embeddings = embedder.embeddings(split)
        if protocol.pool is None:
            found = retrieval.full_retrieval(embeddings, ties=self.ties, device=embedder.device)
            details = {
                "image_rank": found.image_rank,
                "text_rank": found.text_rank,
                "owner": embeddings.owner,
            }
            return Measured(
                found.metrics() | repeated_captions(split), len(embeddings.images), embeddings.dim, details
            )
        pooled = retrieval.pool_retrieval(
            embeddings,
            pool=protocol.pool,
            draws=self.draws,
            seed=POOL_SEED,
            ties=self.ties,
            device=embedder.device,
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
