"""What a person reads beside a run's numbers: `recipe.yaml` as it was resolved, and `log.txt` of what happened when."""

from __future__ import annotations

import time
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from gaprun.files import write_atomically
from gaprun.runtime.events import Event, Report

if TYPE_CHECKING:
    from gaprun.recipe.schema import Recipe

RECIPE, LOG = "recipe.yaml", "log.txt"
EVERY_SECONDS = 60.0


def write_recipe(folder: Path, recipe: Recipe) -> None:
    """Every key of `recipe` with its value; trains the same run when given to `gaprun train`."""
    text = yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False)
    with suppress(OSError):
        write_atomically(folder / RECIPE, lambda path: path.write_text(text, encoding="utf-8"))


class RunLog:
    """Passes events on, and appends to the log when a phase begins and ends, once a minute, and what must be read.

    A log that cannot be written is left: the numbers are elsewhere.
    """

    def __init__(self, folder: Path, report: Report) -> None:
        self._path, self._report = folder / LOG, report
        self._phase, self._written = "", 0.0

    def __call__(self, event: Event) -> None:
        now = time.monotonic()
        due = event.phase != self._phase or event.done == event.total or now - self._written >= EVERY_SECONDS
        if due:
            self._phase, self._written = event.phase, now
            count = "" if event.phase == "resume" else f" {event.done}/{event.total}"
            self.line(f"{event.phase}{count} {event.note}")
        self._report(event)

    def line(self, text: str) -> None:
        """Append a line with the time."""
        with suppress(OSError), self._path.open("a", encoding="utf-8") as file:
            file.write(f"{datetime.now().astimezone().isoformat(timespec='seconds')} {text}".rstrip() + "\n")
