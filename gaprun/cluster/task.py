"""What runs inside a SLURM job: one run, ended in time when the limit nears, and requeued to go on; also after one of
its processes was lost.

submitit starts it (through srun, once a task) and offers a handler for the signal that SLURM sends before the time
limit. We catch that signal, ask the training loop to stop as after Ctrl-C, and hand over to submitit's handler only
once the checkpoint is written: it counts the requeues, calls `checkpoint` below, asks SLURM to requeue, and exits.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import FrameType
from typing import TYPE_CHECKING, Any

from gaprun.errors import GaprunError

if TYPE_CHECKING:
    from gaprun.recipe.jobs import Job
    from gaprun.runtime.events import Event
    from gaprun.store import Store

REPORT_SECONDS = 30.0
TURN_SECONDS = 5.0


@dataclass
class ClusterTask:
    """One run: plain values only, so that it can wait in a queue for days. `environment` is set before it starts.

    restarts: how many times more it is started again after one of its processes was lost.
    """

    recipe: dict[str, Any]
    seed: int
    db: str
    environment: dict[str, str]
    restarts: int = 0

    def __call__(self) -> str:
        """Train and measure the run; returns its id. Ends by SystemExit where SLURM requeues it."""
        os.environ.update(self.environment)
        join_processes()
        from gaprun.recipe.jobs import Job
        from gaprun.recipe.load import validate
        from gaprun.store import open_store

        job = Job(validate(self.recipe, "submitted recipe"), self.seed)
        store = open_store(self.db)
        with warned() as warning:
            try:
                _run(job, store, warning)
            except GaprunError as error:
                if is_lost(error):
                    self.speak_for_all(error)
                elif not (warning.came and is_interrupted(error)):
                    _note_failure(store, job, error)
                    raise
                requeue(store, job, warning)
        return job.id

    def speak_for_all(self, error: GaprunError) -> None:
        """Another process of the job hangs or is gone, as `error` says: this one may now requeue the job, and SLURM
        ends what is left of it.

        Raises `error` where another one did so before, and where the job was started again often enough; then too a
        process that hangs is ended.
        """
        # The first that is left does it; the others are ended before their turn comes, but for one that hung until
        # SLURM woke it to end it.
        time.sleep(TURN_SECONDS * int(os.environ.get("SLURM_PROCID", "0")))
        if not _runs():
            raise error
        if self.restarts == 0:
            print(error, flush=True)
            step = f"{os.environ.get('SLURM_JOB_ID')}.{os.environ.get('SLURM_STEP_ID')}"
            subprocess.run(["scancel", "--signal=KILL", step], timeout=60)
            raise error
        self.restarts -= 1
        print(f"{error}: started again, at most {self.restarts} times more", flush=True)
        os.environ["SLURM_PROCID"] = "0"  # submitit hears only the first process

    def checkpoint(self) -> Any:
        """What submitit starts after the requeue: the same, since the run's own checkpoint holds its state."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


class TimeWarning:
    """The signal before the time limit: whether it came, and whether the training loop has been asked to stop."""

    def __init__(self) -> None:
        self.came = False
        self.submitits: Any = signal.getsignal(signal.SIGUSR2)
        self._process = os.getpid()
        self._asked = False

    def handle(self, number: int, frame: FrameType | None) -> None:
        """Catch the signal; loader processes inherit this handler and leave the matter to their parent."""
        if os.getpid() == self._process:
            self.came = True
            self.ask()

    def ask(self) -> None:
        """Pass a warning that came on to the loop, once, as soon as the loop listens (a second would break it off)."""
        from gaprun.runtime.events import StopRequest

        listener = getattr(signal.getsignal(signal.SIGTERM), "__self__", None)
        if self.came and not self._asked and isinstance(listener, StopRequest):
            self._asked = True
            os.kill(self._process, signal.SIGTERM)


@contextmanager
def warned() -> Iterator[TimeWarning]:
    """Catch SLURM's warning inside the block."""
    warning = TimeWarning()
    before = signal.signal(signal.SIGUSR2, warning.handle)
    try:
        yield warning
    finally:
        signal.signal(signal.SIGUSR2, before)


def join_processes() -> None:
    """Describe the job's processes as torchrun does (RANK, WORLD_SIZE, MASTER_ADDR, ...), where they are several."""
    if int(os.environ.get("SLURM_NTASKS", "1")) > 1:
        from submitit.helpers import TorchDistributedEnvironment

        TorchDistributedEnvironment().export(set_cuda_visible_devices=False, overwrite=True)


def is_interrupted(error: GaprunError) -> bool:
    """Whether `error` says that the loop saved and stopped because it was asked to."""
    from gaprun.runtime.events import Interrupted

    return type(error) is Interrupted


def is_lost(error: GaprunError) -> bool:
    """Whether `error` says that another process of the job hangs or is gone."""
    from gaprun.runtime.events import LostProcess

    return isinstance(error, LostProcess)


def _run(job: Job, store: Store, warning: TimeWarning) -> None:
    from gaprun.jobs.run import run_job
    from gaprun.runtime.joining import joined

    last = 0.0

    def report(event: Event) -> None:
        nonlocal last
        warning.ask()
        if event.phase == "resume" or time.monotonic() - last > REPORT_SECONDS:
            last = time.monotonic()
            with suppress(OSError, ValueError):  # a full disk under the log is no reason to stop
                print(f"{event.phase} {event.done}/{event.total} {event.note}".rstrip(), flush=True)

    with joined("auto") as world:
        run_job(job, store, "auto", report, world)


def requeue(store: Store, job: Job, warning: TimeWarning) -> None:
    """Let the run wait again and hand over to submitit, which ends this process; `interrupted` if it refuses."""
    from gaprun.store import queued

    if os.environ.get("SLURM_PROCID", "0") != "0":
        return  # the first process requeues the whole job
    queued.requeue(store, job.id)
    try:
        warning.submitits(signal.SIGUSR2, None)
    except Exception as error:
        queued.give_up(store, [job.id], f"stopped and not requeued: {error}; submit it again")
        raise


def _runs() -> bool:
    """Whether SLURM has not begun to end this job; true where it does not say."""
    command = ["squeue", "--noheader", "--format=%T", f"--jobs={os.environ.get('SLURM_JOB_ID')}"]
    with suppress(OSError, subprocess.SubprocessError):
        said = subprocess.run(command, capture_output=True, text=True, timeout=60)
        return said.returncode != 0 or said.stdout.strip() == "RUNNING"
    return True


def _note_failure(store: Store, job: Job, error: GaprunError) -> None:
    """A run that could not even begin says so itself; one that began has recorded its own end."""
    if os.environ.get("SLURM_PROCID", "0") == "0" and store.run(job.id).status == "queued":
        store.finish_run(job.id, "failed", error=str(error))
