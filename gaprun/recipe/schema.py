"""The recipe: every option of a training run, its meaning and its limits. Strict: an unknown key is an error.

The reference in docs/recipes.md is generated from these descriptions (`python -m gaprun.recipe.reference`).
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from gaprun.evaluation.tasks import AnyTask
from gaprun.model.loss import LOSSES, AnyLoss, ClipLoss
from gaprun.model.swap import SWAPS, AnySwap, NoSwap
from gaprun.model.temperature import RULES, AnyTemperature, Exponential
from gaprun.registry import load_plugins

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+=,-]*$", max_length=100)]
Positive = Annotated[int, Field(gt=0)]


class Section(BaseModel):
    """A strict, immutable part of a recipe."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class VisionTower(Section):
    """A small image tower: four layer counts make a ModifiedResNet (CLIP's RN50 family), one number a ViT."""

    image_size: Positive = Field(32, description="Side of the square input in pixels.")
    layers: Positive | tuple[Positive, Positive, Positive, Positive] = Field(
        (1, 1, 1, 1), description="Blocks in each of a ResNet's four stages, or the layers of a ViT."
    )
    width: Positive = Field(16, description="Channels of the stem (ResNet) or of the tokens (ViT).")
    head_width: Positive = Field(32, description="Channels a head.")
    patch_size: Positive | None = Field(None, description="ViT only: side of a patch.")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if isinstance(self.layers, tuple):
            if self.image_size % 32:
                raise ValueError("image_size must be a multiple of 32 for a ResNet tower")
            if self.patch_size is not None:
                raise ValueError("patch_size belongs to a ViT: give layers as one number, or leave it out")
            if (self.width * 32) % self.head_width:
                raise ValueError("32 * width must be a multiple of head_width for a ResNet tower")
        elif self.patch_size is None or self.image_size % self.patch_size or self.width % self.head_width:
            raise ValueError(
                "a ViT tower needs patch_size dividing image_size, and head_width dividing width"
            )
        return self


class TextTower(Section):
    """A small text transformer, causal and pooled at the end token like CLIP's."""

    context_length: int = Field(24, ge=4, le=1024, description="Tokens a caption, start and end included.")
    width: Positive = Field(64, description="Channels of the tokens.")
    heads: Positive = Field(4, description="Attention heads; must divide width.")
    layers: Positive = Field(2, description="Transformer layers.")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.width % self.heads:
            raise ValueError("heads must divide width")
        return self


class Inline(Section):
    """An architecture written in the recipe, for towers smaller than open_clip lists."""

    embed_dim: Positive = Field(128, description="Dimension d of the shared embedding space.")
    vision: VisionTower = Field(default_factory=VisionTower, description="The image tower.")
    text: TextTower = Field(default_factory=TextTower, description="The text tower.")
    shared: bool = Field(
        False,
        description="One transformer, last normalisation and projection for both modalities, as in AlignCLIP; each "
        "keeps its own embeddings. For a ViT whose layers, width and heads are the text tower's.",
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        vision, text = self.vision, self.text
        if self.shared and (
            (vision.layers, vision.width) != (text.layers, text.width)
            or vision.width != text.heads * vision.head_width
        ):
            raise ValueError(
                "shared needs a ViT (layers as one number) with the text tower's layers and width, and head_width = "
                "width / heads"
            )
        return self


class Model(Section):
    """The two towers: an open_clip architecture by name, or one written inline."""

    arch: str | None = Field(
        None, description="Any open_clip architecture, e.g. RN50 (the paper's) or ViT-B-32."
    )
    pretrained: str | None = Field(
        None,
        description="open_clip pretrained tag or a local weights file to start from; null is from scratch.",
    )
    pretrained_sha256: str | None = Field(
        None,
        pattern=r"^[0-9a-f]{64}$",
        description="sha256 of the weights file, filled in when jobs are made: the file counts by its content and "
        "not by its path. One that is given here must be the file's.",
    )
    inline: Inline | None = Field(None, description="A small architecture instead of `arch`.")
    vocabulary: Literal["full", "used"] = Field(
        "full",
        description="`used` keeps only the token ids of the training captions (plus one for unknown ids): "
        "a tiny model's 49,408-row token embedding would dominate its optimiser step.",
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.arch is None) == (self.inline is None):
            raise ValueError("give exactly one of arch and inline (set the other to null)")
        if self.inline is not None and self.pretrained is not None:
            raise ValueError("pretrained needs an open_clip arch, not an inline architecture")
        if self.pretrained_sha256 is not None and self.pretrained is None:
            raise ValueError("pretrained_sha256 belongs to a weights file: name it in pretrained")
        if self.pretrained is not None and self.vocabulary == "used":
            raise ValueError("pretrained weights need the full vocabulary")
        return self


class Data(Section):
    """What is trained on and how pictures and captions become batches."""

    train: list[str] = Field(
        min_length=1,
        description="Split folders (relative to the data root), e.g. coco/train; joined if several.",
    )
    crop_scale: tuple[float, float] = Field(
        (0.9, 1.0), description="Area range of the random resized crop (open_clip: 0.9 to 1.0); no flip."
    )
    resize: Literal["model", "bicubic", "bilinear"] = Field(
        "model",
        description="Filter that training pictures are resized with, antialiased as in measuring: the model's own "
        "(open_clip's `interpolation`, bicubic where nothing else is said), bicubic, or bilinear. Another than the "
        "model's makes pictures in training softer or sharper than in measuring.",
    )
    margin: float = Field(
        1.125,
        ge=1.0,
        le=16.0,
        description="Decoded pictures are kept so large that the narrowest crop still has margin x image size pixels "
        "a side, or whole where they are not much larger. More keeps more detail and takes memory as its square.",
    )
    captions: Literal["random", "cycle", "pairs"] = Field(
        "random",
        description="Which caption a picture is shown with. `random`: any of its captions, drawn anew each epoch. "
        "`cycle`: each of its captions once before any comes again. `pairs`: every (picture, caption) pair is a row "
        "of its own, so an epoch shows a picture with all of its captions and has as many more steps.",
    )
    cache: Literal["none", "memory", "disk"] = Field(
        "none",
        description="Keep decoded pictures (uint8, see margin) from the first epoch on, in memory or in a file beside "
        "the runs that later runs find again.",
    )
    mismatched: float = Field(
        0.0, ge=0.0, le=1.0, description="Seeded share of pairs whose caption comes from another image."
    )
    damage_budget: float = Field(
        0.001,
        ge=0.0,
        le=1.0,
        description="Share of pictures that may prove damaged (at least one) before a stop.",
    )
    workers: int = Field(2, ge=0, le=128, description="Loader processes; 0 loads in the training process.")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        low, high = self.crop_scale
        if not 0 < low <= high <= 1:
            raise ValueError("crop_scale must satisfy 0 < low <= high <= 1")
        return self


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
    warmup_epochs: float | None = Field(None, ge=0, description="Warm-up in epochs (this or warmup_steps).")
    warmup_steps: int | None = Field(None, ge=0, description="Warm-up in steps.")
    shape: Literal["cosine", "constant", "linear"] = Field(
        "cosine",
        description="The rate after the warm-up: half a cosine to zero, the peak throughout, or a line to zero.",
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


class Compute(Section):
    """How the arithmetic is done."""

    precision: Literal["fp32", "bf16", "fp16"] = Field(
        "fp32", description="Autocast type of the towers; the loss is always fp32. fp16 needs CUDA."
    )
    micro_batch: Positive | None = Field(
        None,
        description="Pairs that the towers see at a time in each process; the loss still spans the whole batch. Saves "
        "memory for about a third more time. Exact but for batch normalisation, whose statistics are then a "
        "micro-batch's; null embeds the batch at once.",
    )
    channels_last: bool = Field(False, description="Memory format of pictures and convolutions.")
    compile: bool = Field(
        False,
        description="torch.compile the towers. Captions are then padded to few lengths, so that little is compiled.",
    )
    threads: Positive | None = Field(
        None, description="CPU threads a job; null leaves torch's default. Part of what repeats bit for bit."
    )
    deterministic: bool = Field(True, description="Insist on deterministic kernels.")
    tf32: bool = Field(
        False,
        description="GPU: let fp32 products and convolutions round their factors to 10 bits (TF32), in training and in "
        "measuring alike. Off, so that fp32 means fp32 and a GPU's numbers are the CPU's up to rounding.",
    )
    cudnn_benchmark: bool = Field(
        False,
        description="GPU: cuDNN times its convolutions and takes the fastest, maybe another at each start; needs "
        "deterministic: false.",
    )
    attention: Literal["auto", "math", "flash", "efficient", "cudnn"] = Field(
        "auto",
        description="GPU: the one attention kernel that may be used (a step fails where it cannot be); auto lets torch "
        "choose.",
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.cudnn_benchmark and self.deterministic:
            raise ValueError("cudnn_benchmark chooses anew at each start: set deterministic to false with it")
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

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.loss.needs_unit_rows and not self.swap.keeps_unit_rows:
            raise ValueError("the sigmoid loss needs unit rows: set swap.renormalise to true")
        if self.loss.needs_teacher and self.model.pretrained is None:
            raise ValueError(
                "loss.terms: distillation is from the weights that training starts from: set model.pretrained, or "
                "leave the term out"
            )
        return self


for registry in (RULES, SWAPS, LOSSES):
    registry.used_by(Recipe)
load_plugins()  # last, so that a plugin may import this module
