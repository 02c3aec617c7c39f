"""Running jobs one after another in this process, several side by side in their own, or each by several processes."""

from __future__ import annotations

import os
import queue
import signal
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from typing import TYPE_CHECKING, Any

from gaprun.errors import Failure, GaprunError, UserError
from gaprun.files import refusal
from gaprun.jobs.children import child_context, start_child
from gaprun.jobs.outcome import Finished, Outcome
from gaprun.jobs.run import run_job
from gaprun.recipe.jobs import Job
from gaprun.runtime.cards import let_go
from gaprun.runtime.distributed import ALONE, World
from gaprun.runtime.environment import pick_device
from gaprun.runtime.events import Event, Interrupted, LostProcess, Report, acknowledge
from gaprun.runtime.joining import joined

if TYPE_CHECKING:
    from gaprun.store import Store


def run_jobs(
    jobs: list[Job],
    db: str | None,
    devices: list[str],
    report: Report,
    finished: Finished,
    fail_fast: bool = False,
) -> None:
    """Run `jobs`, as many at once as there are `devices`; a job takes the device that another left.

    A device may stand in the list several times. A job that fails does not stop the others: on a GPU each of several
    has a process of its own, since a process whose use of a GPU broke cannot use it again. With `fail_fast` none is
    started after the first that failed; those under way go on to their end. Raises Interrupted after Ctrl-C or SIGTERM,
    once every running job has saved.
    """
    alone = len(devices) <= 1 and not (len(jobs) > 1 and on_card(devices[0]))
    if alone or len(jobs) <= 1:
        _one_by_one(jobs, db, devices[0], report, finished, fail_fast)
    else:
        _side_by_side(jobs, db, devices, report, finished, fail_fast)


def run_shared(
    jobs: list[Job],
    db: str | None,
    device: str,
    report: Report,
    finished: Finished,
    fail_fast: bool = False,
) -> None:
    """Run the first process's `jobs` one after another, each by all processes that the launcher started together.

    The others' `jobs`, `report`, `finished` and `fail_fast` do not count. Raises as `run_jobs` does, and LostProcess.
    """
    with joined(device) as world:
        jobs, fail_fast = world.from_first((jobs, fail_fast))
        try:
            if world.first:
                _one_by_one(jobs, db, device, report, finished, fail_fast, world)
            else:
                _one_by_one(jobs, db, device, lambda event: None, lambda outcome: None, fail_fast, world)
        except LostProcess:
            # The launcher will stop this process too; it has yet to say why it ends.
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            raise
        except GaprunError:
            world.outlast_first()
            raise


def _one_by_one(
    jobs: list[Job],
    db: str | None,
    device: str,
    report: Report,
    finished: Finished,
    fail_fast: bool,
    world: World = ALONE,
) -> None:
    from gaprun.store import open_store

    for job in jobs:
        failed: Exception | None = None
        try:
            store = open_store(db) if world.first else _unopened(db)
            run_job(job, store, device, report, world)
        except Interrupted:
            raise
        except GaprunError as error:
            failed = error
            finished(Outcome(job, error))
        except Exception as error:
            failed = error
            # Several processes may be at different places by now; and a traceback is what --debug asks for.
            if world.size > 1 or os.environ.get("GAPRUN_DEBUG"):
                raise
            finished(Outcome(job, _unexpected(error)))
        else:
            finished(Outcome(job, None))
        if not os.environ.get("GAPRUN_DEBUG"):  # there, the traceback is wanted
            let_go(failed)
        if failed and fail_fast:
            break


def _unopened(db: str | None) -> Store:
    """For processes that never read or write the database and only ask where the runs' files are."""
    from gaprun.store.database import Store
    from gaprun.store.engine import make_engine
    from gaprun.store.place import locate

    place = locate(db)
    return Store(place, make_engine(place))


def _start_child(job: Job, db: str | None, device: str, threads: int, events: Any) -> None:
    import torch

    from gaprun.store import open_store

    device = pinned(device)
    torch.set_num_threads(job.recipe.compute.threads or threads)
    try:
        run_job(job, open_store(db), device, events.put)
        events.put((job.id, None, ""))
    except KeyboardInterrupt:
        events.put((job.id, "Interrupted", "stopped"))
    except GaprunError as error:
        events.put((job.id, type(error).__name__, str(error)))
    except Exception as error:
        if os.environ.get("GAPRUN_DEBUG"):
            raise
        events.put((job.id, "Failure", str(_unexpected(error))))


def _unexpected(error: Exception) -> Failure:
    return Failure(refusal(error) or f"{type(error).__name__}: {error} (run it alone with --debug)")


def on_card(device: str) -> bool:
    """Whether `device` (as for `--device`) is a GPU; the GPU is not woken."""
    return pick_device(device).type == "cuda"


def _may_be_card(device: str) -> bool:
    return device != "cpu" and (device != "auto" or on_card(device))


def shared_out(device: str, count: int) -> list[str]:
    """Devices for `count` jobs side by side: a GPU without a number means every GPU in turn."""
    if not on_card(device) or ":" in device:
        return [device] * count
    import torch

    return [f"cuda:{k % torch.cuda.device_count()}" for k in range(count)]


def pinned(device: str) -> str:
    """`cuda:N` as this process's only GPU (CUDA_VISIBLE_DEVICES), then called cuda:0; other names as they are.

    For a process that has not touched a GPU yet. N counts the GPUs that this process was given.
    """
    kind, _, number = device.partition(":")
    if kind != "cuda" or not number.isdigit():
        return device
    given = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    os.environ["CUDA_VISIBLE_DEVICES"] = given[int(number)] if int(number) < len(given) else number
    return "cuda:0"


def _side_by_side(
    jobs: list[Job],
    db: str | None,
    devices: list[str],
    report: Report,
    finished: Finished,
    fail_fast: bool,
) -> None:
    context = child_context(cards=any(map(_may_be_card, devices)))
    events: Any = context.Queue()
    threads = max(1, (os.cpu_count() or 1) // len(devices))
    waiting, running, taken = list(jobs), dict[str, tuple[Job, BaseProcess]](), dict[str, str]()
    stopping = False

    def ended(outcome: Outcome) -> None:
        if outcome.error is not None and fail_fast:
            waiting.clear()
        finished(outcome)

    def forward(number: int, frame: object) -> None:
        nonlocal stopping
        if not stopping:
            acknowledge()
        stopping = True
        for _, process in running.values():
            if process.pid is not None and process.is_alive():
                os.kill(process.pid, signal.SIGTERM)

    before = {kind: signal.signal(kind, forward) for kind in (signal.SIGINT, signal.SIGTERM)}
    if hasattr(signal, "SIGHUP"):  # a terminal that closes does not end a training
        before[signal.SIGHUP] = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        while running or (waiting and not stopping):
            while waiting and len(running) < len(devices) and not stopping:
                job, free = waiting.pop(0), list(devices)
                for name in running:
                    free.remove(taken[name])
                device = taken[job.id] = free[0]
                process = start_child(context, _start_child, job, db, device, threads, events)
                running[job.id] = (job, process)
                if stopping and process.pid is not None:  # meanwhile, when it was not yet among those told
                    os.kill(process.pid, signal.SIGTERM)
            _collect(events, running, report, ended, lambda: stopping)
    finally:
        for _, left in running.values():  # only when something broke here: no job outlives its parent
            left.terminate()
            left.join()
        for kind, handler in before.items():
            signal.signal(kind, handler)
    if stopping:
        raise Interrupted("stopped; the same command goes on from the saved checkpoints")


def _collect(
    events: Any,
    running: dict[str, tuple[Job, BaseProcess]],
    report: Report,
    finished: Finished,
    stopping: Callable[[], bool],
) -> None:
    kinds = {kind.__name__: kind for kind in (UserError, Failure, Interrupted)}
    try:
        message = events.get(timeout=0.2)
    except queue.Empty:
        for name, (job, process) in list(running.items()):
            if not process.is_alive() and events.empty():
                del running[name]
                code = process.exitcode
                if stopping() and code == -signal.SIGTERM:
                    continue  # stopped before it had begun
                error = Failure(f"{name}: its process ended with code {code}; run it again to go on")
                finished(Outcome(job, error))
        return
    if isinstance(message, Event):
        report(message)
        return
    name, kind, text = message
    if name in running:
        job, process = running.pop(name)
        process.join()
        if kind != "Interrupted":
            finished(Outcome(job, kinds.get(kind, Failure)(text) if kind else None))
