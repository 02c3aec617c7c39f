"""The gap task: the geometry of matched pairs."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from gaprun.evaluation.task import POOL, POOL_SEED, TASKS, Embedder, Measured, Task, pool_protocol
from gaprun.metrics import DOWN, NONE, UP, Metric
from gaprun.protocols import FULL, Protocol

if TYPE_CHECKING:
    from gaprun.data.split import Split


@TASKS.register
class Gap(Task):
    """Gap geometry of matched pairs, one caption an image: over 512 fixed random pairs and over the whole split."""

    task: Literal["gap"] = "gap"
    family: ClassVar[str] = "geometry"
    # The gap and its kin get DOWN because closing it is what the methods are for; whether that helps is the paper's
    # question, which other metrics answer. Uniformity has two conventions: Wang & Isola's log potential falls as points
    # spread, Fang's -W2 rises.
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("gap", DOWN, "modality gap"),
        Metric("rmg", DOWN, "relative modality gap"),
        Metric("alignment", DOWN, "alignment: mean squared distance of pairs"),
        Metric("distribution_gap", DOWN, "alignment less the gap squared"),
        Metric("matched_cosine", UP, "cosine of matched pairs", short="cosine"),
        Metric("mismatched_cosine", NONE, "cosine of mismatched pairs", short="cosine"),
        Metric("uniformity_image", DOWN, "uniformity of images (log potential)", short="uniformity"),
        Metric("uniformity_text", DOWN, "uniformity of texts (log potential)", short="uniformity"),
        Metric("uniformity_joint", DOWN, "uniformity of both (log potential)", short="uniformity"),
        Metric("uniformity_w2_image", UP, "uniformity of images (-W2)", short="uniformity_w2"),
        Metric("uniformity_w2_text", UP, "uniformity of texts (-W2)", short="uniformity_w2"),
        Metric("uniformity_w2_joint", UP, "uniformity of both (-W2)", short="uniformity_w2"),
        Metric("separability", DOWN, "accuracy of telling images from texts"),
        Metric("separability_auc", DOWN, "area under the ROC curve of telling images from texts"),
        Metric("effective_rank_image", UP, "effective rank of images", places=1, short="effective_rank"),
        Metric("effective_rank_text", UP, "effective rank of texts", places=1, short="effective_rank"),
        Metric("cka", UP, "centred kernel alignment"),
        Metric("frechet", DOWN, "Fréchet distance of the two clouds"),
        Metric("mismatched_share", DOWN, "share of pairs with a nearer mismatched text"),
    )

    def protocols(self, split: Split) -> list[Protocol]:
        """The paper's likely protocol (a fixed pool of 512 pairs) and all images, each with its first caption."""
        return [pool_protocol(split), FULL]

    def measure(self, embedder: Embedder, split: Split, protocol: Protocol) -> Measured:
        """All measures of docs/metrics.md's geometry section."""
        from gaprun.evaluation.geometry import measure_geometry

        embeddings = embedder.embeddings(split)
        if protocol.pool is None:
            images, texts = embeddings.pairs()
        else:
            images, texts = embeddings.draw(POOL, POOL_SEED).pairs()
        return Measured(measure_geometry(images, texts), len(images), embeddings.dim)
