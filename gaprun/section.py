"""What each part of a recipe is made of; a package holds the parts that it reads, `gaprun.recipe.schema` joins them."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Positive = Annotated[int, Field(gt=0)]


class Section(BaseModel):
    """A strict, immutable part of a recipe."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)
