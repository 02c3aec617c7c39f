"""The gap task: the geometry of matched pairs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from gaprun.evaluation.task import (
    FULL,
    POOL,
    POOL_SEED,
    TASKS,
    Embedder,
    Measured,
    Protocol,
    Task,
    pool_protocol,
)

if TYPE_CHECKING:
    from gaprun.data.split import Split


@TASKS.register
class Gap(Task):
    """Gap geometry of matched pairs, one caption an image: over 512 fixed random pairs and over the whole split."""

    task: Literal["gap"] = "gap"

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
