"""Starting the processes of one run on this machine with torchrun's own launcher. No torch before it is needed."""

from __future__ import annotations

import logging
import os
import signal
from typing import Any

from gaprun.errors import Failure
from gaprun.runtime.events import Interrupted

ANNOUNCED = "GAPRUN_ANNOUNCED"  # set for processes that are started after the plan was said


def is_announced() -> bool:
    """Whether the program that started this process said what is to be done."""
    return ANNOUNCED in os.environ


def is_shared() -> bool:
    """Whether a launcher (torchrun) started this process as one of several."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def is_follower() -> bool:
    """Whether this process is one of several and not the first, which alone reads recipes, writes and speaks."""
    return is_shared() and os.environ.get("RANK", "0") != "0"


def launch(arguments: list[str], processes: int) -> int:
    """Run `gaprun ARGUMENTS` in `processes` processes of this machine; returns the exit code they ended with.

    Raises Interrupted after Ctrl-C or SIGTERM (the launcher passes it on and waits 30 s for the checkpoint), Failure
    when a process was killed.
    """
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import parse_args, run

    logging.disable(
        logging.ERROR
    )  # the launcher logs every ended process over many lines; one line of ours does
    if hasattr(
        signal, "SIGHUP"
    ):  # a terminal that closes does not end a training; the processes inherit this
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
    os.environ[ANNOUNCED] = "1"
    os.environ.setdefault("TORCHELASTIC_SIGNALS_TO_HANDLE", "SIGTERM,SIGINT,SIGQUIT")
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // processes)))
    command = ["--standalone", "--nproc-per-node", str(processes), "-m", "gaprun", *arguments]
    try:
        run(parse_args(command))
    except SignalException:
        raise Interrupted("stopped; the same command goes on from the saved checkpoint") from None
    except ChildFailedError as error:
        return _exit_code(error.failures, processes)
    return 0


def _exit_code(failures: dict[int, Any], processes: int) -> int:
    """The code of the first process that ended by itself. Raises Failure for one that was killed.

    Once one has ended the launcher stops the others by SIGTERM, so that signal says nothing.
    """
    by_time = sorted(failures.items(), key=lambda item: item[1].timestamp)
    for rank, failure in by_time:
        if failure.exitcode < 0 and failure.exitcode != -signal.SIGTERM:
            raise Failure(
                f"process {rank} of {processes} was killed ({failure.signal_name()}); the last checkpoint is kept and "
                "the same command goes on from it"
            )
    return next((failure.exitcode for _, failure in by_time if failure.exitcode > 0), 1)
