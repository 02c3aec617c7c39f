"""How a job ended."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from gaprun.errors import GaprunError
from gaprun.recipe.jobs import Job


@dataclass(frozen=True)
class Outcome:
    """How a job ended: `error` is None when it finished."""

    job: Job
    error: GaprunError | None


Finished = Callable[[Outcome], None]
