"""Recipes: the schema, YAML loading with `extends` and `--set`, and expansion into jobs."""

from gaprun.recipe.jobs import Job, load_jobs, load_recipe, recipe_hash
from gaprun.recipe.schema import Recipe

__all__ = ["Job", "Recipe", "load_jobs", "load_recipe", "recipe_hash"]
