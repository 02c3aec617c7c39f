"""The mixed task: retrieval from a gallery of images, texts and mixtures of both."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from gaprun.evaluation.task import POOL_SEED, TASKS, Embedder, Measured, Task
from gaprun.metrics import NONE, Metric, percentage
from gaprun.protocols import Protocol

if TYPE_CHECKING:
    from gaprun.data.split import Split

FORMS = ("image", "text", "mixture")


@TASKS.register
class Mixed(Task):
    """Text queries into a gallery where each item is an image, a text, or both: recall, NDCG@10, who is on top."""

    task: Literal["mixed"] = "mixed"
    metrics: ClassVar[tuple[Metric, ...]] = (
        *(percentage(f"mixed_recall@{k}", f"recall@{k} from a mixed gallery") for k in (1, 5, 10)),
        percentage("mixed_ndcg@10", "NDCG@10 from a mixed gallery"),
        *(
            percentage(f"mixed_recall@10_{form}", f"recall@10 of {form}s from a mixed gallery")
            for form in FORMS
        ),
        *(
            Metric(
                f"mixed_top10_{form}",
                NONE,
                f"{form}s in the first ten places over their share of the gallery",
            )
            for form in FORMS
        ),
    )

    def measure(self, embedder: Embedder, split: Split, protocol: Protocol) -> Measured:
        """The measures of docs/metrics.md's section on mixed retrieval; the forms are drawn by one seed for all."""
        from gaprun.evaluation.mixed import mixed_retrieval

        embeddings = embedder.embeddings(split)
        return Measured(mixed_retrieval(embeddings, seed=POOL_SEED), len(embeddings.images), embeddings.dim)
