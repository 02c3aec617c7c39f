"""The shift task: Liang's experiment of moving both clouds along the gap."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from gaprun.evaluation.task import TASKS, Embedder, Measured, Task
from gaprun.evaluation.tasks.zeroshot import class_embeddings
from gaprun.evaluation.transforms import Centre, Shift, Transform
from gaprun.protocols import Protocol, shortest

if TYPE_CHECKING:
    from gaprun.data.split import Split
    from gaprun.evaluation.embeddings import Embeddings


@TASKS.register
class GapShift(Task):
    """Liang's experiment: move both clouds along the gap vector (and centre them) and measure again at each distance.

    The gap vector is fitted on other pairs than are measured. No encoder runs again for it.
    """

    task: Literal["shift"] = "shift"
    fitted: ClassVar[str] = "means"
    fractions: list[float] = Field(
        [-0.5, 0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0],
        description="Shares of the gap to move by: 0 is the model as it is, at 1 the centroids meet.",
    )
    means: str | None = Field(
        None,
        description="Split whose matched pairs the gap vector is fitted on; null takes the `train` sibling.",
    )

    def accepts(self, split: Split) -> bool:
        """Captioned splits, and labelled ones if `means` names captioned pairs."""
        return any(split.captions) or (split.classes is not None and self.means is not None)

    def options(self, split: Split, protocol: Protocol) -> dict[str, Any]:
        """The fingerprint of what the means are fitted on; the distance is in the protocol."""
        return {"means_fingerprint": self.source("means", split).fingerprint}

    def protocols(self, split: Split) -> list[Protocol]:
        """`shift=<fraction>` for each distance, and `centred`."""
        return [Protocol(name, moved=change.label) for name, change in self._changes().items()]

    def _changes(self) -> dict[str, Transform]:
        """What is done to the embeddings, by the protocol's name."""
        shifts: dict[str, Transform] = {f"shift={shortest(f)}": Shift(fraction=f) for f in self.fractions}
        return shifts | {"centred": Centre()}

    def measure(self, embedder: Embedder, split: Split, protocol: Protocol) -> Measured:
        """Gap, recalls and median ranks of the moved clouds; zero-shot where the split has classes."""
        moved = self._changes()[protocol.name].fit(embedder.embeddings(self.source("means", split)))
        embeddings = embedder.embeddings(split)
        values: dict[str, float] = {}
        if any(split.captions):
            values |= self._captioned(moved.apply(embeddings))
        if split.classes is not None:
            from gaprun.evaluation.zeroshot import zero_shot

            assert embeddings.labels is not None
            vectors = class_embeddings(embedder, split, None)
            values |= zero_shot(
                moved.images(embeddings.images), moved.texts(vectors), embeddings.labels
            ).metrics
        return Measured(values, len(embeddings.images), embeddings.dim)

    def _captioned(self, moved: Embeddings) -> dict[str, float]:
        from gaprun.evaluation.geometry import gap
        from gaprun.evaluation.moments import pair_moments
        from gaprun.evaluation.retrieval import full_retrieval

        return {"gap": gap(pair_moments(*moved.pairs())), **full_retrieval(moved).metrics()}
