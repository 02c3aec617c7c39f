"""The transfer task: a classifier fitted on one modality and tested on the other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from gaprun.errors import UserError
from gaprun.evaluation.task import TASKS, Embedder, Measured, Needs, Task
from gaprun.evaluation.tasks.labelled import labelled_texts
from gaprun.metrics import UP, Metric, percentage
from gaprun.protocols import Protocol

if TYPE_CHECKING:
    from gaprun.data.split import Split


@TASKS.register
class Transfer(Task):
    """Are modalities interchangeable? Logistic regression on texts tested on images, and the reverse.

    Image classifiers are fitted on the training split and tested on the measured one. Texts are the captions of
    labelled images, else the prompts of the class names: fitted on every other template, tested on the rest.
    """

    task: Literal["transfer"] = "transfer"
    needs: ClassVar[Needs] = "labels"
    metrics: ClassVar[tuple[Metric, ...]] = (
        percentage("transfer_text_to_image", "classifier of texts, tested on images"),
        percentage("transfer_image_to_text", "classifier of images, tested on texts"),
        percentage("transfer_image_to_image", "classifier of images, tested on images"),
        percentage("transfer_text_to_text", "classifier of texts, tested on texts"),
        Metric("transfer_kept", UP, "accuracy across modalities over accuracy within"),
    )
    templates: str | list[str] | None = Field(
        None,
        description="Where images have no captions: `simple`, `openai`, or own prompts with {} (two or more); null "
        "takes the data set's, else openai.",
    )
    fitted: ClassVar[str] = "train"
    train: str | None = Field(
        None, description="Split to fit on; null takes the `train` sibling of the measured split."
    )

    def options(self, split: Split, protocol: Protocol) -> dict[str, Any]:
        """The prompts, with the fingerprint of what is fitted on."""
        return {"templates": self.templates, "train_fingerprint": self.source("train", split).fingerprint}

    def measure(self, embedder: Embedder, split: Split, protocol: Protocol) -> Measured:
        """The measures of docs/metrics.md's section on transfer."""
        from gaprun.evaluation.interchange import Side, transfer_measures

        fitted = self.source("train", split)
        if fitted.classes != split.classes:
            raise UserError(f"transfer: {fitted.path} and {split.path} have different classes; set train")
        if fitted.fingerprint == split.fingerprint:
            raise UserError(
                f"transfer: {split.path} cannot be fitted and measured on the same images; set train"
            )
        train, test = embedder.embeddings(fitted), embedder.embeddings(split)
        assert train.labels is not None and test.labels is not None
        x, x_test = train.labels >= 0, test.labels >= 0
        images = Side(train.images[x], train.labels[x], test.images[x_test], test.labels[x_test])
        return Measured(
            transfer_measures(images, self._texts(embedder, fitted, split)), int(x_test.sum()), test.dim
        )

    def _texts(self, embedder: Embedder, fitted: Split, split: Split) -> Any:
        import numpy as np

        from gaprun.evaluation.interchange import Side

        rows, classes = labelled_texts(embedder, split, self.templates)
        if len(embedder.embeddings(split).texts):
            fit_rows, fit_classes = labelled_texts(embedder, fitted, self.templates)
            known, tested = fit_classes >= 0, classes >= 0
            return Side(fit_rows[known], fit_classes[known], rows[tested], classes[tested])
        number = np.arange(len(rows)) % (len(rows) // len(split.classes or ()))
        even = number % 2 == 0
        if even.all():
            raise UserError("transfer: one template leaves no prompt to test on; give two or more")
        return Side(rows[even], classes[even], rows[~even], classes[~even])
