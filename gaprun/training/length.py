"""How long a run is: epochs turned into steps, once the training images and captions are counted. No torch here."""

from __future__ import annotations

from dataclasses import dataclass

from gaprun.data.plan import steps_per_epoch
from gaprun.errors import UserError
from gaprun.recipe.schema import Recipe


@dataclass(frozen=True)
class Length:
    """Steps of one run; `rows` pass in an epoch (images, or pairs); `checkpoint_every` is 0 for only at the end.

    `measured`: the steps before the end after which the recipe's `eval` is measured.
    """

    images: int
    rows: int
    batch_size: int
    steps_per_epoch: int
    total: int
    warmup: int
    checkpoint_every: int
    measured: frozenset[int] = frozenset()

    def samples_before(self, step: int) -> int:
        """Pairs that passed in the steps before `step`: whole batches but for a kept remainder."""
        epochs, over = divmod(step, self.steps_per_epoch)
        return epochs * min(self.rows, self.steps_per_epoch * self.batch_size) + over * self.batch_size


def run_length(recipe: Recipe, images: int, captions: int, passed: int | None = None) -> Length:
    """The lengths of `recipe` on `images` captioned images with `captions` in all; `passed`: rows of an epoch where the
    sets are weighted.

    Raises UserError when the batch is too large.
    """
    schedule, batch = recipe.schedule, recipe.schedule.batch_size
    rows, what = (captions, "pairs") if recipe.data.captions == "pairs" else (images, "images")
    rows = rows if passed is None else passed
    if batch > rows:
        raise UserError(f"schedule.batch_size: {batch} is more than the {rows} training {what}: set it lower")
    per_epoch = steps_per_epoch(rows, batch, schedule.remainder)
    if schedule.remainder == "keep" and rows % batch == 1:
        raise UserError(
            f"schedule.remainder: {rows} {what} in batches of {batch} leave one pair alone, which no "
            "other is told from; choose another batch_size, or drop"
        )

    def steps(count: int | None, epochs: float | None) -> int:
        return count if count is not None else round((epochs or 0) * per_epoch)

    total = steps(schedule.steps, schedule.epochs)
    warmup = steps(schedule.warmup_steps, schedule.warmup_epochs)
    if total < 1:
        raise UserError(f"schedule.epochs: {schedule.epochs} of {per_epoch} steps each is less than one step")
    if warmup > total:
        raise UserError(f"schedule: a warm-up of {warmup} steps is longer than the training ({total} steps)")
    every = steps(recipe.checkpoint.every_steps, recipe.checkpoint.every_epochs)
    measured = _measured_steps(recipe, per_epoch, total)
    return Length(images, rows, batch, per_epoch, total, warmup, every, measured)


def _measured_steps(recipe: Recipe, per_epoch: int, total: int) -> frozenset[int]:
    """Each multiple of `eval_every` before the end, to the nearest step."""
    if recipe.eval_every is None:
        return frozenset()
    apart = recipe.eval_every.steps or (recipe.eval_every.epochs or 0) * per_epoch
    if apart < 1:
        raise UserError(
            f"eval_every.epochs: {recipe.eval_every.epochs} of {per_epoch} steps each is less than one step"
        )
    return frozenset(round(k * apart) for k in range(1, int(total / apart) + 1) if round(k * apart) < total)


def recorded_steps(total: int, dense: int = 20, points: int = 160) -> frozenset[int]:
    """Steps at which the trajectory is recorded: the first `dense`, about `points` log-spaced, and the last.

    The theory speaks about the start and about log t, so that is where the record is dense.
    """
    ratio = max(total - 1, 1) ** (1 / points)
    spaced = {round(ratio**k) for k in range(points + 1)}
    return frozenset(step for step in {*range(dense), *spaced, total - 1} if 0 <= step < total)
