"""The mixed task: retrieval from a gallery of images, texts and mixtures of both."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from gaprun.evaluation.task import POOL_SEED, TASKS, Embedder, Measured, Protocol, Task

if TYPE_CHECKING:
    from gaprun.data.split import Split


@TASKS.register
class Mixed(Task):
    """Text queries into a gallery where each item is an image, a text, or both: recall, NDCG@10, who is on top."""

    task: Literal["mixed"] = "mixed"

    def measure(self, embedder: Embedder, split: Split, protocol: Protocol) -> Measured:
        """The measures of docs/metrics.md's section on mixed retrieval; the forms are drawn by one seed for all."""
        from gaprun.evaluation.mixed import mixed_retrieval

        embeddings = embedder.embeddings(split)
        return Measured(mixed_retrieval(embeddings, seed=POOL_SEED), len(embeddings.images), embeddings.dim)
