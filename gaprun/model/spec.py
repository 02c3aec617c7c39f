"""The recipe's `model`: an architecture by name or written inline. No torch here."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from gaprun.section import Positive, Section


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
        description="What to start from: open_clip's tag, a weights file, or a checkpoint of gaprun's (its file, or "
        "the folder of its run or of its checkpoints, which means the newest); null is from scratch. Architecture and "
        "vocabulary must be the weights'; the temperature starts as `temperature` says.",
    )
    pretrained_sha256: str | None = Field(
        None,
        pattern=r"^[0-9a-f]{64}$",
        description="sha256 of the weights file, of a checkpoint of gaprun's its weights hash (`checkpoint_hash`), "
        "filled in when jobs are made: weights count by content, not by path. One given here must be theirs.",
    )
    inline: Inline | None = Field(None, description="A small architecture instead of `arch`.")
    vocabulary: Literal["full", "used"] = Field(
        "full",
        description="`used` keeps only the token ids of the training captions (plus one for unknown ids): "
        "a tiny model's 49,408-row token embedding would dominate its optimiser step.",
    )

    freeze: Literal["image", "text"] | Annotated[list[str], Field(min_length=1)] | None = Field(
        None,
        description="What is not trained: a tower, or a list of towers and parts by open_clip's names, each with all "
        "below it (`[visual.conv1, token_embedding]`). Frozen layers are in evaluation mode (batch normalisation keeps "
        "its statistics), get no weight decay, and end bit for bit as they began. The inputs of a tower that is frozen "
        "whole are embedded once and kept beside the runs: captions, and pictures with `data.crop: centre`.",
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.arch is None) == (self.inline is None):
            raise ValueError("give exactly one of arch and inline (set the other to null)")
        if self.pretrained_sha256 is not None and self.pretrained is None:
            raise ValueError("pretrained_sha256 belongs to a weights file: name it in pretrained")
        return self
