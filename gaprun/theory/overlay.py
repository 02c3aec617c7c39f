"""Theory laid over a recorded run: its gap path from the store, and the law that it follows, if one can be told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gaprun.errors import UserError
from gaprun.theory.fits import LawVerdict, judge

if TYPE_CHECKING:
    from gaprun.store import Store


@dataclass(frozen=True)
class Overlay:
    """A run's recorded gap path (`gap` after `step` updates) and the verdict on it."""

    run: str
    step: NDArray[np.float64]
    gap: NDArray[np.float64]
    verdict: LawVerdict

    def row(self) -> dict[str, Any]:
        """The verdict as plain values, as it is printed and kept."""
        return {"run": self.run} | self.verdict.row()


def overlay_run(store: Store, name: str) -> Overlay:
    """The overlay of the run that `name` is, or begins, the id of.

    Raises UserError for an unknown run, and for one without a recorded gap (an external checkpoint).
    """
    run = store.run(name)
    rows = [row for row in store.trajectory(run.id) if row["gap"] is not None]
    if not rows:
        raise UserError(f"run {run.id} has no recorded gap path (an external checkpoint has none)")
    step, gap = (np.array([row[column] for row in rows], dtype=float) for column in ("step", "gap"))
    return Overlay(run.id, step, gap, judge(step, gap))
