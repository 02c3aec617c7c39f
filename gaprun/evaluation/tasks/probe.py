"""The probe task: a linear classifier on image embeddings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from gaprun.errors import UserError
from gaprun.evaluation.task import TASKS, Embedder, Measured, Needs, Protocol, Task, open_source, sibling

if TYPE_CHECKING:
    from gaprun.data.split import Split


@TASKS.register
class Probe(Task):
    """Linear probe: multinomial logistic regression on image embeddings, its penalty chosen on held-out training
    images."""

    task: Literal["probe"] = "probe"
    needs: ClassVar[Needs] = "labels"
    train: str | None = Field(
        None, description="Split to fit on; null takes the `train` sibling of the measured split."
    )
    shots: int | None = Field(
        None, ge=1, description="Few-shot: this many seeded images a class; null for all."
    )

    def options(self, split: Split) -> dict[str, Any]:
        """The options, with the fingerprint of what the probe is fitted on."""
        return {"shots": self.shots, "train_fingerprint": self._fitted(split).fingerprint}

    def _fitted(self, split: Split) -> Split:
        return open_source(self.train if self.train else sibling(split))

    def measure(self, embedder: Embedder, split: Split, protocol: Protocol) -> Measured:
        """probe_top1 in percent and the chosen penalty; details: correct or not, an image."""
        from gaprun.evaluation.probe import linear_probe

        fitted = self._fitted(split)
        if fitted.classes != split.classes:
            raise UserError(f"probe: {fitted.path} and {split.path} have different classes; set train")
        if fitted.fingerprint == split.fingerprint:
            raise UserError(
                f"probe: {split.path} cannot be fitted and measured on the same images; set train"
            )
        train, test = embedder.embeddings(fitted), embedder.embeddings(split)
        assert train.labels is not None and test.labels is not None
        result = linear_probe(train.images, train.labels, test.images, test.labels, shots=self.shots)
        return Measured(result.metrics, len(test.images), test.dim, {"correct": result.correct})
