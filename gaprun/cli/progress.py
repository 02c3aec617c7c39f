"""The one progress display of all commands, on stderr: a line a job with count, rate and time left.

A line fits the terminal: names are shortened, numbers are not. Without a terminal there are plain lines now and then.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from rich.progress import Progress, ProgressColumn, TaskID
from rich.text import Text

from gaprun.cli.common import err_console
from gaprun.tables.names import shortened
from gaprun.tables.numbers import counted

if TYPE_CHECKING:
    from gaprun.runtime.events import Event

PLAIN_SECONDS = 10.0
BAR, LEAST_NAME = 12, 12


class LineColumn(ProgressColumn):
    """A task as one line of the terminal's width."""

    def render(self, task: Any) -> Text:
        """See `line`."""
        speed = task.finished_speed or task.speed
        left = 0.0 if task.finished else task.time_remaining
        fields = task.fields
        if "said" in fields:
            return Text(shortened(fields["said"](), err_console.width), no_wrap=True, overflow="crop")
        text = line(
            err_console.width,
            fields["job"],
            fields["phase"],
            int(task.completed),
            None if task.total is None else int(task.total),
            speed,
            left,
            task.elapsed or 0.0,
            fields["note"],
        )
        return Text(text, no_wrap=True, overflow="crop")


class JobProgress:
    """Shows events that carry `job, phase, done, total, note`; a new phase of a job restarts its line.

    first: what is going on until the first of them, so that something is seen at once. always: without a terminal
    also the end of what took less than `PLAIN_SECONDS`. jobs: how many there will be; of several the last line speaks.
    """

    def __init__(self, first: str = "", always: bool = True, jobs: int = 1) -> None:
        self._progress = Progress(LineColumn(), console=err_console, transient=not always)
        self._tasks: dict[str, tuple[TaskID, str]] = {}
        self._plain: dict[str, tuple[float, float, int]] = {}  # begun, last told, done at the beginning
        self._first, self._always = first, always
        self._all = Share(jobs)
        self._last: TaskID | None = None

    def __enter__(self) -> Self:
        if err_console.is_terminal:
            self._progress.start()
            if self._first:
                task = self._progress.add_task("", job=self._first, phase="", note="", total=None)
                self._tasks[""] = (task, "")
            self._add_last()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if err_console.is_terminal:
            self.done("")
            self._progress.stop()

    def __call__(self, event: Event) -> None:
        """Show one event."""
        if event.phase == "resume":
            self.message(f"{event.job}: {event.note}")
            return
        if event.phase == "train":
            self._all.moved(event.job, event.done / max(event.total, 1))
        if not err_console.is_terminal:
            self._line(event)
            return
        self.done("")
        task, phase = self._tasks.get(event.job, (None, ""))
        if task is None:
            task = self._progress.add_task("", job=event.job, phase=event.phase, note="", total=event.total)
            self._add_last()
        elif phase != event.phase:
            # rich replaces all fields here, so the job must be named again.
            self._progress.reset(task, total=event.total, job=event.job, phase=event.phase, note="")
        self._tasks[event.job] = (task, event.phase)
        self._progress.update(task, completed=event.done, total=event.total)
        if event.note:
            self._progress.update(task, note=event.note)

    def done(self, job: str) -> None:
        """Take a finished job's line away."""
        if job in self._tasks and err_console.is_terminal:
            self._progress.remove_task(self._tasks.pop(job)[0])

    def ended(self, job: str) -> None:
        """Count a job as ended, and take its line away."""
        self._all.ended(job)
        self.done(job)

    def so_far(self) -> str:
        """` (3 of 12 runs, ETA 0:20:00)`; "" of a single job."""
        return f" ({self._all.said()})" if self._all.jobs > 1 else ""

    def _add_last(self) -> None:
        """The line over all jobs, below every other."""
        if self._all.jobs < 2:
            return
        if self._last is not None:
            self._progress.remove_task(self._last)
        self._last = self._progress.add_task("", said=lambda: f"all: {self._all.said()}", total=None)

    def message(self, text: str) -> None:
        """A line above the others."""
        err_console.print(text, highlight=False, soft_wrap=True, markup=False)

    def _line(self, event: Event) -> None:
        key, now = f"{event.job} {event.phase}", time.monotonic()
        if key not in self._plain:
            self._plain[key] = (now, now, event.done)
        started, last, before = self._plain[key]
        late = now - last >= PLAIN_SECONDS
        if late or (event.done == event.total and (self._always or last > started)):
            self._plain[key] = (started, now, before)
            seconds = max(now - started, 1e-9)
            rate = (event.done - before) / seconds  # what a stopped run did before is not of this one
            unfinished = rate and event.done < event.total
            left = f", ETA {clock((event.total - event.done) / rate)}" if unfinished else ""
            speed = f" ({rate:.1f}/s{left})" if now - started > 0.5 else ""
            self.message(f"{event.job} {event.phase} {event.done}/{event.total}{speed} {event.note}".rstrip())


class Share:
    """How far several jobs are together, by the share of its training that each has done since it was first heard."""

    def __init__(self, jobs: int) -> None:
        self.jobs, self._ended = jobs, 0
        self._begun: dict[str, float] = {}
        self._now: dict[str, float] = {}
        self._start = time.monotonic()

    def moved(self, job: str, share: float) -> None:
        """`job` has done `share` (0 to 1) of its training."""
        self._begun.setdefault(job, share)
        self._now[job] = share

    def ended(self, job: str) -> None:
        """`job` has ended, well or not."""
        self._ended += 1
        self.moved(job, 1.0)

    def left(self, passed: float) -> float | None:
        """Seconds that all will still take at their pace in the `passed` ones; None before anything was trained."""
        done = sum(self._now[job] - self._begun[job] for job in self._now)
        unheard = self.jobs - len(self._now)
        return (
            (unheard + sum(1 - share for share in self._now.values())) * passed / done if done > 0 else None
        )

    def said(self) -> str:
        """`3 of 12 runs, ETA 0:20:00`."""
        left = self.left(time.monotonic() - self._start)
        eta = "" if left is None else f", ETA {clock(left)}"
        return f"{self._ended} of {counted(self.jobs, 'run')}{eta if self._ended < self.jobs else ''}"


@contextmanager
def bar(what: str, unit: str = "") -> Iterator[Callable[[int, int], None]]:
    """A line for one piece of work, driven by calls of (done, total)."""
    from gaprun.runtime.events import Event

    with JobProgress(what, always=False) as progress:
        yield lambda done, total: progress(Event(what, unit, done, total))


@contextmanager
def waiting(what: str) -> Iterator[None]:
    """A line with the time that has passed, for work whose size is not known."""
    with JobProgress(what, always=False):
        yield


def line(
    width: int,
    job: str,
    phase: str,
    done: int,
    total: int | None,
    rate: float | None,
    left: float | None,
    elapsed: float,
    note: str = "",
) -> str:
    """One line of at most `width` characters: job, phase, bar, `done/total`, rate, time left, note.

    A total of None is work of unknown size: job and the time that has passed. The job's name is shortened first, then
    the phase, the bar goes next; count, rate and time left stay.
    """
    if total is None:
        return f"{shortened(job, width - 10)}  {clock(elapsed)}"
    speed = f"{rate:.1f}/s" if rate else "--/s"
    numbers = f"{done}/{total} {speed} ETA {'-:--:--' if left is None else clock(left)}"
    room = width - len(numbers) - 1
    if room >= BAR + 1 + 2 * LEAST_NAME:
        filled = BAR * done // total if total else BAR
        numbers = f"{'━' * filled}{'─' * (BAR - filled)} {numbers}"
        room -= BAR + 1
    phase = shortened(phase, max(LEAST_NAME, room - LEAST_NAME - 1, room - len(job) - 1))[: max(room, 0)]
    name = shortened(job, max(0, room - len(phase) - (1 if phase else 0)))
    text = " ".join(filter(None, (name, phase, numbers)))
    return f"{text} {note}"[:width].rstrip() if note and width - len(text) > LEAST_NAME else text


def clock(seconds: float) -> str:
    """`1:02:03`."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"
