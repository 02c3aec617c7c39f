"""The intra task: image-to-image retrieval by class."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from gaprun.evaluation.task import TASKS, Embedder, Measured, Needs, Task
from gaprun.metrics import Metric, percentage
from gaprun.protocols import Protocol

if TYPE_CHECKING:
    from gaprun.data.split import Split


@TASKS.register
class Intra(Task):
    """Each labelled image asks for the others of its class: precision@1, recall@5 and mean average precision."""

    task: Literal["intra"] = "intra"
    needs: ClassVar[Needs] = "labels"
    metrics: ClassVar[tuple[Metric, ...]] = (
        percentage("intra_precision@1", "nearest image of the same class"),
        percentage("intra_recall@5", "one of the five nearest images of the same class"),
        percentage("intra_map", "mean average precision of images by class"),
    )

    def measure(self, embedder: Embedder, split: Split, protocol: Protocol) -> Measured:
        """The measures of docs/metrics.md's section on image-to-image retrieval."""
        from gaprun.evaluation.intra import intra_retrieval

        embeddings = embedder.embeddings(split)
        assert embeddings.labels is not None
        return Measured(
            intra_retrieval(embeddings.images, embeddings.labels), len(embeddings.images), embeddings.dim
        )
