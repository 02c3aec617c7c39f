"""The probe task: a linear classifier on image embeddings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from gaprun.errors import UserError
from gaprun.evaluation.outcomes import hits
from gaprun.evaluation.task import TASKS, Embedder, Measured, Needs, Task
from gaprun.evaluation.transforms import Identity
from gaprun.metrics import NONE, Metric, percentage
from gaprun.protocols import Protocol

if TYPE_CHECKING:
    import numpy as np

    from gaprun.data.split import Split
    from gaprun.evaluation.embeddings import Embeddings


@TASKS.register
class Probe(Task):
    """Linear probe: multinomial logistic regression on image embeddings, its penalty chosen on held-out training
    images."""

    task: Literal["probe"] = "probe"
    needs: ClassVar[Needs] = "labels"
    metrics: ClassVar[tuple[Metric, ...]] = (
        percentage("probe_top1", "linear probe top-1", outcome=hits("correct")),
        percentage(
            "probe_chance", "share of the largest class, which one answer for all gets", direction=NONE
        ),
        Metric(
            "probe_penalty", NONE, "C of the linear probe, chosen on held-out training images", places=None
        ),
    )
    fitted: ClassVar[str] = "train"
    train: str | None = Field(
        None, description="Split to fit on; null takes the `train` sibling of the measured split."
    )
    shots: int | None = Field(
        None, ge=1, description="Few-shot: this many seeded images a class; null for all."
    )
    normalise: bool = Field(
        True,
        description="Features of length 1; false: as the image tower gives them (in the authors' snapshot).",
    )
    C: float | None = Field(
        None,
        gt=0,
        description="Inverse penalty as scikit-learn's, fixed (the authors' snapshot: 0.316); null chooses it on "
        "held-out training images.",
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if not self.normalise and self.transforms != [Identity()]:
            raise ValueError("normalise: false is of the features as they are: leave transforms out")
        return self

    def options(self, split: Split, protocol: Protocol) -> dict[str, Any]:
        """The options, with the fingerprint of what the probe is fitted on."""
        found = {"shots": self.shots, "train_fingerprint": self.source("train", split).fingerprint}
        if not self.normalise:
            found["normalise"] = False
        return found if self.C is None else found | {"C": self.C}

    def measure(self, embedder: Embedder, split: Split, protocol: Protocol) -> Measured:
        """probe_top1 in percent and the chosen penalty; details: correct or not, an image."""
        from gaprun.evaluation.probe import PENALTIES, linear_probe

        fitted = self.source("train", split)
        if fitted.classes != split.classes:
            raise UserError(f"probe: {fitted.path} and {split.path} have different classes; set train")
        if fitted.fingerprint == split.fingerprint:
            raise UserError(
                f"probe: {split.path} cannot be fitted and measured on the same images; set train"
            )
        train, test = embedder.embeddings(fitted), embedder.embeddings(split)
        assert train.labels is not None and test.labels is not None
        penalties = PENALTIES if self.C is None else (self.C,)
        x, x_test = (self._features(found, source) for found, source in ((train, fitted), (test, split)))
        given = x, train.labels, x_test, test.labels
        result = linear_probe(*given, penalties=penalties, shots=self.shots, device=embedder.device)
        return Measured(result.metrics, len(test.images), test.dim, {"correct": result.correct})

    def _features(self, found: Embeddings, split: Split) -> np.ndarray:
        if self.normalise:
            return found.images
        if found.image_norms is None:
            raise UserError(
                f"probe: the lengths of the image rows of {split.path} are not known: leave normalise out, or measure "
                "the model itself"
            )
        return found.images * found.image_norms[:, None]
