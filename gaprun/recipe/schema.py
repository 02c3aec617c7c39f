"""The recipe: every option of a training run, its meaning and its limits. Strict: an unknown key is an error.

The reference in docs/recipes.md is generated from these descriptions (`python -m gaprun.recipe.reference`).
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from gaprun.data.spec import Data
from gaprun.evaluation.tasks import AnyTask
from gaprun.model.loss import AnyLoss, ClipLoss
from gaprun.model.spec import Model
from gaprun.model.swap import AnySwap, NoSwap
from gaprun.model.temperature import AnyTemperature, Exponential
from gaprun.registry import load_plugins, registries_of
from gaprun.runtime.spec import Compute
from gaprun.section import Positive, Section

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+=,-]*$", max_length=100)]


class Optimizer(Section):
    """AdamW; by default weight decay skips biases, normalisation, other 1-D parameters and the temperature."""

    lr: float = Field(5e-4, gt=0, description="Peak learning rate.")
    weight_decay: float = Field(0.2, ge=0, description="AdamW's weight decay, on what `decay` says.")
    decay: Literal["matrices", "all"] = Field(
        "matrices",
        description="What decays: matrices and convolutions, or every parameter, nu and the loss's own included (as in "
        "the authors' snapshot).",
    )
    betas: tuple[float, float] = Field((0.9, 0.98), description="AdamW's moment decays.")
    eps: float = Field(1e-6, gt=0, description="AdamW's epsilon.")
    grad_clip: float | None = Field(None, gt=0, description="Clip the gradient norm to this; null for none.")
    grad_clip_over: Literal["towers", "all"] = Field(
        "towers", description="Whose joint norm is clipped: the towers', or that of all that is trained."
    )
    ema: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="Decay a step of an exponential moving average of all weights, which is then what is saved as the "
        "run's model and measured; null for none.",
    )
    temperature_lr_factor: float = Field(
        1.0,
        ge=0,
        description="Factor on nu's learning rate for every method alike, so that a short run's temperature "
        "moves; a method's own lr_factor multiplies it.",
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if not all(0 <= b < 1 for b in self.betas):
            raise ValueError("betas must lie in [0, 1)")
        return self


class Schedule(Section):
    """Length of training and the learning rate's path: linear warm-up, then cosine to zero by default."""

    epochs: float | None = Field(None, gt=0, description="Length in epochs (give this or steps).")
    steps: Positive | None = Field(None, description="Length in optimiser steps.")
    batch_size: int = Field(1024, ge=2, description="Pairs a step.")
    remainder: Literal["drop", "keep"] = Field(
        "drop",
        description="The pairs of an epoch that fill no whole batch: left out (others each epoch), or a smaller last "
        "batch (in one process).",
    )
    warmup_epochs: float | None = Field(None, ge=0, description="Warm-up in epochs (this or warmup_steps).")
    warmup_steps: int | None = Field(None, ge=0, description="Warm-up in steps.")
    shape: Literal["cosine", "constant", "linear"] = Field(
        "cosine",
        description="The rate after the warm-up: half a cosine to zero, the peak throughout, or a line to zero.",
    )
    stop_when_diverged: bool = Field(
        False,
        description="End a run (as failed) that learns nothing: after the warm-up, its contrastive loss (without "
        "weight and terms) was at chance or above (log of the batch for `clip`) at ten looks in a row, of a hundred in "
        "the whole run. A loss that is not finite ends every run.",
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.epochs is None) == (self.steps is None):
            raise ValueError("give exactly one of epochs and steps (set the other to null)")
        if self.warmup_epochs is not None and self.warmup_steps is not None:
            raise ValueError("give warmup_epochs or warmup_steps, not both (set the other to null)")
        if self.epochs and self.warmup_epochs and self.warmup_epochs > self.epochs:
            raise ValueError("warmup_epochs is longer than the training (epochs)")
        if self.steps and self.warmup_steps and self.warmup_steps > self.steps:
            raise ValueError("warmup_steps is longer than the training (steps)")
        return self


class Checkpoint(Section):
    """When weights are written; the last one is always kept."""

    every_epochs: float | None = Field(None, gt=0, description="Interval in epochs (this or every_steps).")
    every_steps: Positive | None = Field(None, description="Interval in steps.")
    keep: Positive = Field(2, description="How many to keep; older ones are removed after a newer is safe.")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.every_epochs is not None and self.every_steps is not None:
            raise ValueError("give every_epochs or every_steps, not both (set the other to null)")
        return self


class EvalEvery(Section):
    """How often the entries of `eval` are measured along training too, each time on a checkpoint that is saved first.

    The weights do not depend on it; of what is measured along the way no embeddings are kept.
    """

    epochs: float | None = Field(None, gt=0, description="Each time so many epochs are over (this or steps).")
    steps: Positive | None = Field(None, description="Each so many steps.")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.epochs is None) == (self.steps is None):
            raise ValueError("give exactly one of epochs and steps (set the other to null)")
        return self


class Recipe(Section):
    """One training run but for its seed."""

    name: Name = Field(description="What `compare` calls it.")
    description: str = Field("", description="One line for readers.")
    model: Model = Field(description="The towers.")
    data: Data = Field(description="Training data.")
    temperature: AnyTemperature = Field(default_factory=Exponential, description="Temperature rule.")
    swap: AnySwap = Field(default_factory=NoSwap, description="Modality swapping.")
    loss: AnyLoss = Field(default_factory=ClipLoss, description="The contrastive loss.")
    optimizer: Optimizer = Field(default_factory=Optimizer, description="The optimiser.")
    schedule: Schedule = Field(description="Length and learning-rate path.")
    compute: Compute = Field(default_factory=Compute, description="Precision, threads, kernels.")
    checkpoint: Checkpoint = Field(default_factory=Checkpoint, description="Saving.")
    eval: list[AnyTask] = Field(default_factory=list, description="What is measured at the end.")
    eval_every: EvalEvery | None = Field(
        None, description="Measure along training too: all of `eval` but what says `along: false`."
    )

    plugins: dict[str, str] | None = Field(
        None,
        description="sha256 of the file that each of temperature rule, swap, loss and terms comes from, where it is a "
        "plugin's; filled in when jobs are made, so that other code is another run. One given here must be the file's.",
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.eval_every is not None and not any(task.along for task in self.eval):
            raise ValueError(
                "eval_every: nothing in eval is measured along training; add an entry, or set it to null"
            )
        if self.loss.needs_unit_rows and not self.swap.keeps_unit_rows:
            raise ValueError("the sigmoid loss needs unit rows: set swap.renormalise to true")
        if self.loss.needs_teacher and self.model.pretrained is None:
            raise ValueError(
                "loss.terms: distillation is from the weights that training starts from: set model.pretrained, or "
                "leave the term out"
            )
        return self


for registry in registries_of(Recipe):
    registry.used_by(Recipe)
load_plugins()  # last, so that a plugin may import this module
