"""The progress bars of long work: one line a job with rate and time left, on stderr, plain lines without a terminal."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Any, Self

from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from gaprun.cli.common import err_console

PLAIN_SECONDS = 10.0


class RateColumn(ProgressColumn):
    """Items a second, of whatever the phase counts."""

    def render(self, task: Any) -> Text:
        """`12.3/s`, or dashes before it is known."""
        speed = task.finished_speed or task.speed
        return Text(f"{speed:7.1f}/s" if speed else "   --/s", style="progress.data.speed")


class JobProgress:
    """Shows events that carry `job, phase, done, total, note`; a new phase of a job restarts its bar."""

    def __init__(self) -> None:
        self._progress = Progress(
            TextColumn("{task.fields[job]:<28.28}"),
            TextColumn("[cyan]{task.fields[phase]:<22.22}"),
            BarColumn(bar_width=24),
            TextColumn("{task.completed:.0f}/{task.total:.0f}"),
            RateColumn(),
            TimeElapsedColumn(),
            TextColumn("ETA"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            console=err_console,
        )
        self._tasks: dict[str, tuple[TaskID, str]] = {}
        self._plain: dict[str, tuple[float, float]] = {}

    def __enter__(self) -> Self:
        if err_console.is_terminal:
            self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if err_console.is_terminal:
            self._progress.stop()

    def __call__(self, event: Any) -> None:
        """Show one event."""
        if event.phase == "resume":
            self.message(f"{event.job}: {event.note}")
            return
        if not err_console.is_terminal:
            self._line(event)
            return
        task, phase = self._tasks.get(event.job, (None, ""))
        if task is None:
            task = self._progress.add_task("", job=event.job, phase=event.phase, note="", total=event.total)
        elif phase != event.phase:
            # rich replaces all fields here, so the job must be named again.
            self._progress.reset(task, total=event.total, job=event.job, phase=event.phase, note="")
        self._tasks[event.job] = (task, event.phase)
        fields = {"note": event.note} if event.note else {}
        self._progress.update(task, completed=event.done, total=event.total, **fields)

    def done(self, job: str) -> None:
        """Take a finished job's bar away."""
        if job in self._tasks and err_console.is_terminal:
            self._progress.remove_task(self._tasks.pop(job)[0])

    def message(self, text: str) -> None:
        """A line above the bars."""
        err_console.print(text, highlight=False, soft_wrap=True, markup=False)

    def _line(self, event: Any) -> None:
        key, now = f"{event.job} {event.phase}", time.monotonic()
        if key not in self._plain:
            self._plain[key] = (now, now)
        started, last = self._plain[key]
        if now - last >= PLAIN_SECONDS or event.done == event.total:
            self._plain[key] = (started, now)
            rate = event.done / max(now - started, 1e-9)
            left = f", ETA {(event.total - event.done) / rate:.0f} s" if 0 < event.done < event.total else ""
            speed = f" ({rate:.1f}/s{left})" if now - started > 0.5 else ""
            err_console.print(
                f"{event.job} {event.phase} {event.done}/{event.total}{speed} {event.note}".rstrip(),
                highlight=False,
                soft_wrap=True,
            )
