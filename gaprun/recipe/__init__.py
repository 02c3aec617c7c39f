"""Recipes: the schema, YAML loading with `extends` and `--set`, and expansion into jobs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gaprun.recipe.jobs import Job, load_jobs, load_recipe, recipe_hash
    from gaprun.recipe.schema import Recipe

__all__ = ["Job", "Recipe", "load_jobs", "load_recipe", "recipe_hash"]


def __getattr__(name: str) -> Any:
    """Import on first use: `gaprun.recipe.identity` is read without pydantic."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from gaprun.recipe import jobs, schema

    return getattr(schema if name == "Recipe" else jobs, name)
