"""How the processes of jobs side by side are started: on the CPU as forks of one that has imported everything once."""

from __future__ import annotations

import multiprocessing
import multiprocessing.context
import multiprocessing.forkserver
import multiprocessing.resource_tracker
import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from typing import Any

# What takes long to import on a job's way. Importing it starts no thread and asks for no GPU (a test looks).
_ours: set[int | None] = set()  # process ids of the servers that were started here
PRELOADED = ["gaprun.jobs.run", "gaprun.jobs.parallel", "gaprun.evaluation.probe"]


def child_context(cards: bool) -> multiprocessing.context.BaseContext:
    """The context that makes jobs' processes; `cards` says whether they work on GPUs.

    PyTorch takes seconds to import, so on the CPU a server imports it once and forks for every job; it computes
    nothing, so nothing but modules is shared. Jobs on GPUs import it anew: beside their hours that is little, and
    their loader processes come from a server of the job's own. So do all jobs on systems where forking is not safe, and
    where this process has a server already for other work (a process has but one): it would not outlive a Ctrl-C.
    """
    if cards or sys.platform != "linux" or _server() not in (None, *_ours):
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    # A Ctrl-C or SIGTERM sent to the whole group is for the jobs: the server outlives them, to tell how they ended.
    multiprocessing.resource_tracker.ensure_running()  # not below: it would let the signals through
    with _deaf_to(signal.SIGINT, signal.SIGTERM):
        multiprocessing.forkserver.ensure_running()
    _ours.add(_server())
    return context


def _server() -> int | None:
    """The process id of this process's fork server, if it has one."""
    return getattr(multiprocessing.forkserver._forkserver, "_forkserver_pid", None)


def start_child(
    context: multiprocessing.context.BaseContext, work: Callable[..., None], *given: Any
) -> BaseProcess:
    """A process that does `work(*given)` in this one's environment; it hears SIGTERM and no Ctrl-C."""
    process: BaseProcess = context.Process(target=_begin, args=(dict(os.environ), work, *given))  # type: ignore[attr-defined]
    if context.get_start_method() == "forkserver":  # it is deaf already, and may still be importing
        process.start()
        return process
    with _deaf_to(signal.SIGINT):  # while it imports it could only answer by a traceback
        process.start()
    return process


def _begin(environment: Mapping[str, str], work: Callable[..., None], *given: Any) -> None:
    # The terminal sends Ctrl-C to the whole group; only the parent's SIGTERM counts, so that none is stopped twice.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    if os.environ != environment:  # a server has the environment of its own start
        os.environ.clear()
        os.environ.update(environment)
    work(*given)


@contextmanager
def _deaf_to(*signals: signal.Signals) -> Iterator[None]:
    """Block `signals` here and in the processes that are started meanwhile."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
