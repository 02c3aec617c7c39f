"""Submitting tasks to SLURM through submitit: one job, or an array of them; and the script that this sends."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gaprun.cluster.resources import Resources
from gaprun.cluster.task import ClusterTask
from gaprun.errors import Failure, UserError

ARRAY_LIMIT = 1000  # SLURM's MaxArraySize is 1001 unless the cluster says otherwise
INSTALL = "submitit is not installed: pip install 'gaprun[slurm]'"


def submit_tasks(tasks: Sequence[ClusterTask], resources: Resources, name: str, folder: Path) -> list[str]:
    """Submit `tasks`; returns a SLURM job id each, such as 12 or 12_3. Logs and pickles go to `folder`.

    Raises UserError without SLURM's commands or submitit, Failure with sbatch's own words when it refuses.
    """
    if shutil.which("sbatch") is None or shutil.which("srun") is None:
        raise UserError(
            "sbatch is not on this machine: submit from the cluster's login node, look at the script with --dry-run, "
            "or use --cluster local"
        )
    submitit = _submitit()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)  # a database's URL may hold a password
    ids: list[str] = []
    try:
        for start in range(0, len(tasks), ARRAY_LIMIT):
            executor = submitit.SlurmExecutor(folder, max_num_timeout=resources.max_requeues)
            executor.update_parameters(**resources.parameters(name))
            with executor.batch():
                jobs = [executor.submit(task) for task in tasks[start : start + ARRAY_LIMIT]]
            ids += [job.job_id for job in jobs]
    except (submitit.core.utils.FailedJobError, OSError, subprocess.SubprocessError) as error:
        said = f"; {len(ids)} jobs are submitted already" if ids else ""
        raise Failure(f"sbatch refused: {_last_line(str(error))}{said}") from None
    return ids


def script(resources: Resources, name: str, folder: Path, jobs: int) -> str:
    """The batch script that `submit_tasks` would send for `jobs` tasks. Needs no SLURM on this machine."""
    _submitit()
    from submitit.slurm.slurm import _make_sbatch_string

    parameters = resources.parameters(name) | ({"map_count": jobs} if jobs > 1 else {})
    return str(
        _make_sbatch_string(
            command=f"python -u -m submitit.core._submit {folder}", folder=folder, **parameters
        )
    )


def log_of(folder: Path, job: str) -> Path:
    """Where the first process of SLURM job `job` writes."""
    return folder / f"{job}_0_log.out"


def count_nodes(partition: str | None) -> int:
    """Nodes on which jobs of `partition` (None: any) may run; 0 where SLURM does not say."""
    command = [
        "sinfo",
        "--noheader",
        "--Node",
        "--format=%N",
        *([f"--partition={partition}"] if partition else []),
    ]
    try:
        said = subprocess.run(command, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return 0
    return len(set(said.stdout.split())) if said.returncode == 0 else 0


def _submitit() -> Any:
    try:
        import submitit
        import submitit.core.utils
    except ImportError:
        raise UserError(INSTALL) from None
    return submitit


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    said = [line for line in lines if "error" in line.lower() or "fatal" in line.lower()]
    return (said or lines or ["no reason given"])[-1]
