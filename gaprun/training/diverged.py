"""Runs that learn nothing: a loss that is no number, and (`schedule.stop_when_diverged`) one that stays at chance."""

from __future__ import annotations

import math
from pathlib import Path

from gaprun.errors import Failure
from gaprun.training.state import TrainState

LOOKS = 100  # at the loss, evenly over a run
PATIENCE = 10  # looks in a row at chance that end it: a tenth of the run
SAME = 1e-3  # a loss within this share of chance is at chance


class Diverged(Failure):
    """The run learns nothing; its weights are not worth saving."""


def check_finite(loss: float, step: int, folder: Path) -> None:
    """Raise Diverged for a loss that is no number."""
    if not math.isfinite(loss):
        raise Diverged(
            f"the loss became {loss} at step {step}; checkpoints saved before it, if any, are kept in "
            f"{folder / 'checkpoints'}; try a lower optimizer.lr or optimizer.grad_clip"
        )


def check_learning(state: TrainState, folder: Path) -> None:
    """Where the recipe asks for it, raise Diverged once the loss has stayed at chance or above for a tenth of the run.

    Looked at every hundredth of the run (each step of a shorter one) after the warm-up: the contrastive loss alone,
    without its weight and terms, against what it is at best where no pair is told from another (`Loss.chance`).
    Every process of the state's world calls this after each step. What was seen is part of the state, so a resumed run
    ends where the other would have.
    """
    length = state.length
    if not state.recipe.schedule.stop_when_diverged or state.step % max(1, length.total // LOOKS):
        return
    loss, pairs = state.contrastive()
    check_finite(loss, state.step, folder)
    chance = state.recipe.loss.chance(pairs)
    if state.step <= length.warmup or loss < (1 - SAME) * chance:
        state.at_chance = 0
        return
    state.at_chance += 1
    if state.at_chance >= PATIENCE:
        raise Diverged(
            f"diverged: the contrastive loss stayed at chance ({chance:.3f} for {pairs} pairs) or above for {PATIENCE} "
            f"looks in a row, {loss:.3f} at step {state.step}; checkpoints saved before it, if any, are kept in "
            f"{folder / 'checkpoints'}; try a lower optimizer.lr, a longer warm-up "
            "or optimizer.grad_clip, or set schedule.stop_when_diverged=false"
        )
