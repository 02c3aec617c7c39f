"""A micro-batch of one pair under a batch normalisation: refused before training where the recipe says enough. No torch
here until a recipe may have one."""

from __future__ import annotations

from gaprun.errors import UserError
from gaprun.recipe.schema import Recipe
from gaprun.training.length import Length


def check_micro_batch(recipe: Recipe, length: Length | None = None) -> None:
    """Raise UserError where `compute.micro_batch` leaves a pair of one process's batch alone, and a batch normalisation
    of the towers then has one value a channel: the step would stop at it, the last of an epoch perhaps.

    length: of the run, where its data are known. A step of towers that do not run without values says it itself.
    """
    size = recipe.compute.micro_batch
    batches = {recipe.schedule.batch_size}
    if length is not None and recipe.schedule.remainder == "keep":
        batches.add(length.rows % length.batch_size)
    alone = [pairs for pairs in batches if size and pairs > 1 and (size == 1 or pairs % size == 1)]
    if not alone:
        return
    from gaprun.training.memory import run_without_values

    try:
        run_without_values(recipe, 1)
    except ValueError as error:
        if "more than 1 value per channel" in str(error):
            raise alone_in_batch(size, max(alone), error) from None
    except Exception:  # whatever a model of another package does
        return


def alone_in_batch(size: int | None, pairs: int, error: ValueError) -> UserError:
    """What to say of a micro-batch of one pair, with what the batch normalisation said."""
    return UserError(
        f"compute.micro_batch: {size} leaves one of {pairs} pairs alone, and a batch normalisation has no statistics "
        f"of one value ({error}); choose another micro_batch"
    )
