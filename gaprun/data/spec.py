"""The recipe's `data`: what is trained on and how pictures and captions become batches."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from gaprun.section import Section


class WeightedSet(Section):
    """One data set of a mix."""

    set: str = Field(description="Split folder, as in `train`.")
    weight: float = Field(
        1.0,
        gt=0,
        le=1000,
        description="How often an epoch passes through its pictures: 2 shows each twice, 0.5 half of them, the other "
        "half in the next epoch.",
    )


class Data(Section):
    """What is trained on and how pictures and captions become batches."""

    train: list[str | WeightedSet] = Field(
        min_length=1,
        description="Split folders (relative to the data root), e.g. coco/train; joined if several, and mixed by "
        "weight where one is given: [{set: cc3m/train, weight: 2}, coco/train]. Pictures of a set come in passes, each "
        "in an order of its own; an epoch is what the weights add up to.",
    )
    subset: int | None = Field(
        None,
        ge=2,
        description="Only so many captioned pictures, drawn by the run's seed, no two with a caption in common "
        "(such pairs cannot be told apart); null for all.",
    )
    crop: Literal["random", "centre"] = Field(
        "random",
        description="`random`: a random resized crop. `centre`: the largest central square, the same in every epoch, "
        "as in measuring (up to a fraction of a pixel).",
    )
    crop_scale: tuple[float, float] = Field(
        (0.9, 1.0), description="Area range of the random resized crop (open_clip: 0.9 to 1.0); no flip."
    )
    mean: tuple[float, float, float] | None = Field(
        None,
        description="Mean of red, green and blue (0 to 1) that pictures are normalised by, in training and in "
        "measuring; null: the model's own (CLIP's).",
    )
    std: tuple[float, float, float] | None = Field(
        None, description="Standard deviation of the same; null: the model's own."
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
    captions: Literal["random", "cycle", "first", "pairs"] = Field(
        "random",
        description="Which caption a picture is shown with. `random`: any of its captions, drawn anew each epoch. "
        "`cycle`: each of its captions once before any comes again. `first`: always its first. `pairs`: all of them, "
        "every (picture, caption) pair a row of its own, so an epoch shows a picture with all of its captions and has "
        "as many more steps.",
    )
    cache: Literal["none", "memory", "disk", "device"] = Field(
        "none",
        description="Keep decoded pictures (uint8, see margin) from the first epoch on, in memory or in a file beside "
        "the runs that later runs find again; or `device`: decode all of them before the first step into the GPU's "
        "memory, where steps crop them without any loader (22 GiB for MSCOCO at 224 pixels, divided by the processes "
        "of a run).",
    )
    mismatched: float = Field(
        0.0,
        ge=0.0,
        le=1.0,
        description="Seeded share of pairs whose caption comes from another image; above 0 two images at least.",
    )
    damage_budget: float = Field(
        0.001,
        ge=0.0,
        le=1.0,
        description="Share of pictures that may prove damaged (at least one) before a stop.",
    )
    workers: int = Field(
        2,
        ge=0,
        le=128,
        description="Loader processes; 0 loads in the training process. With cache: device, threads that decode.",
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        low, high = self.crop_scale
        if not 0 < low <= high <= 1:
            raise ValueError("crop_scale must satisfy 0 < low <= high <= 1")
        if self.crop == "centre" and self.crop_scale != (0.9, 1.0):
            raise ValueError("crop_scale belongs to crop: random; leave it out with crop: centre")
        if self.mean is not None and not all(0 <= value <= 1 for value in self.mean):
            raise ValueError("mean must lie in [0, 1]: pictures are normalised in units of the whole range")
        if self.std is not None and not all(0 < value <= 1 for value in self.std):
            raise ValueError("std must lie in (0, 1]: pictures are normalised in units of the whole range")
        return self

    @field_validator("train")
    @classmethod
    def _plain_where_it_can_be(cls, sets: list[str | WeightedSet]) -> list[str | WeightedSet]:
        """A weight of 1 is no weight: the same recipe, whichever way it is written; a set stands there once."""
        names = [one if isinstance(one, str) else one.set for one in sets]
        if twice := [name for name in names if names.count(name) > 1]:
            raise ValueError(f"train: {twice[0]} is named twice; to see it more often, give it a weight")
        return [one.set if isinstance(one, WeightedSet) and one.weight == 1 else one for one in sets]

    @property
    def sets(self) -> list[str]:
        """The names of the training sets."""
        return [one if isinstance(one, str) else one.set for one in self.train]

    @property
    def weights(self) -> tuple[float, ...] | None:
        """The weight of each set; None where none is given."""
        if all(isinstance(one, str) for one in self.train):
            return None
        return tuple(1.0 if isinstance(one, str) else one.weight for one in self.train)

    @property
    def normalisation(self) -> dict[str, tuple[float, float, float]]:
        """What takes the place of the model's own picture settings: `mean` and `std` where they are given."""
        given = {"mean": self.mean, "std": self.std}
        return {name: value for name, value in given.items() if value is not None}
