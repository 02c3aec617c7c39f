"""Asking SLURM which of the runs that wait for it still do: `squeue` where its commands reach the cluster.

Importing this module makes the store ask it (`store.schedulers`). A job that SLURM no longer knows was
cancelled or lost; but where it shows each user their own jobs alone (PrivateData), it says so of another's job too.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from gaprun.store.schedulers import SCHEDULERS, submitted_at

if TYPE_CHECKING:
    import subprocess

ASK_SECONDS = 10.0
# Between a run's row and its job's id lies one call of sbatch.
SUBMITTING = timedelta(minutes=10)


def lost_in_slurm(queues: Sequence[Mapping[str, Any]]) -> list[str | None]:
    """For each queue why its run waits for nothing, "" where SLURM has its job, None where SLURM does not say."""
    known = slurm_jobs([queue["job"] for queue in queues if queue.get("job")])
    return [answer(queue, known) for queue in queues]


@dataclass(frozen=True)
class Known:
    """What SLURM says: its `name`, which of the `jobs` asked for it has, and whether others' are `private`."""

    name: str
    jobs: set[str]
    private: bool = False


def answer(queue: Mapping[str, Any], known: Known | None) -> str | None:
    """`lost_in_slurm` of one queue; `known` is None without SLURM."""
    job = queue.get("job")
    if job is None:
        submitted = submitted_at(queue)
        late = submitted is not None and datetime.now(UTC) - submitted > SUBMITTING
        return "its submission was cut short: no SLURM job has it" if late else None
    if known is None or known.name != queue.get("cluster_name"):
        return None
    if job in known.jobs:
        return ""
    if known.private and queue.get("uid") != os.getuid():
        return None
    log = f"; see {queue['log']}" if queue.get("log") else ""
    return f"SLURM job {job} was cancelled, or ended before the run began{log}"


def slurm_jobs(jobs: Sequence[str]) -> Known | None:
    """This host's SLURM cluster and those of `jobs` (ids such as 12 or 12_3) that it has not ended.

    None where SLURM's commands are missing or do not answer, and where no job is asked for.
    """
    settings = _settings() if jobs else {}
    if (name := settings.get("ClusterName")) is None:
        return None
    main = ",".join(sorted({job.partition("_")[0] for job in jobs}))
    listed = _ask("squeue", "--noheader", "--array", "--format=%i", f"--jobs={main}")
    if listed is None:
        return None
    if listed.returncode and "Invalid job id" not in listed.stderr:
        return None
    return Known(name, set(listed.stdout.split()), "jobs" in settings.get("PrivateData", "").split(","))


def cluster_name() -> str | None:
    """What the SLURM that this host's commands reach calls itself; None without one that answers."""
    return _settings().get("ClusterName")


def _settings() -> dict[str, str]:
    said = _ask("scontrol", "show", "config")
    lines = said.stdout.splitlines() if said and said.returncode == 0 else []
    pairs = (line.partition("=") for line in lines)
    return {name.strip(): value.strip() for name, sign, value in pairs if sign}


def _ask(program: str, *arguments: str) -> subprocess.CompletedProcess[str] | None:
    if shutil.which(program) is None:
        return None
    import subprocess  # not before: every command imports this module

    try:
        return subprocess.run(
            [program, *arguments],
            capture_output=True,
            text=True,
            timeout=ASK_SECONDS,
            env={**os.environ, "LC_ALL": "C"},
        )
    except (OSError, subprocess.SubprocessError):
        return None


SCHEDULERS["slurm"] = lost_in_slurm
