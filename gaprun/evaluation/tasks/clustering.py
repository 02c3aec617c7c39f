"""The clustering task: do k-means clusters of images and texts follow the class or the modality?"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from gaprun.evaluation.task import TASKS, Embedder, Measured, Needs, Task
from gaprun.evaluation.tasks.labelled import labelled_texts
from gaprun.metrics import DOWN, UP, Metric
from gaprun.protocols import Protocol

if TYPE_CHECKING:
    from gaprun.data.split import Split

SEED = (
    0  # of the balanced sample and of k-means: one for all models, so that they are compared on the same rows
)


@TASKS.register
class Clustering(Task):
    """k-means over pooled images and texts of labelled data, as many of each a class.

    Do clusters follow the class or the modality? Texts are the captions of labelled images, else the prompts of the
    class names.
    """

    task: Literal["clustering"] = "clustering"
    needs: ClassVar[Needs] = "labels"
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("cluster_v_measure", UP, "V-measure of clusters and classes"),
        Metric("cluster_nmi", UP, "mutual information of clusters and classes, normalised"),
        Metric("cluster_ari", UP, "adjusted Rand index of clusters and classes"),
        Metric("cluster_modality", DOWN, "mutual information of clusters and modality, normalised"),
        Metric("cluster_purity_modality", DOWN, "share of rows of their cluster's larger modality"),
    )
    templates: str | list[str] | None = Field(
        None,
        description="Where images have no captions: `simple`, `openai`, or own prompts with {}; null takes the data "
        "set's, else openai.",
    )

    def measure(self, embedder: Embedder, split: Split, protocol: Protocol) -> Measured:
        """The measures of docs/metrics.md's clustering section."""
        from gaprun.evaluation.clustering import balanced, cluster_measures

        embeddings = embedder.embeddings(split)
        texts, classes = labelled_texts(embedder, split, self.templates)
        assert embeddings.labels is not None
        x, y = balanced(embeddings.labels, classes, SEED)
        values = cluster_measures(embeddings.images[x], texts[y], embeddings.labels[x], classes[y], seed=SEED)
        return Measured(values, len(x), embeddings.dim)
