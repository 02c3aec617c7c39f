"""What a SLURM job asks for, in the words of `gaprun submit` and in submitit's."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from gaprun.errors import UserError


@dataclass(frozen=True)
class Resources:
    """One job's share of the cluster; None leaves a choice to the cluster's own default.

    minutes: time limit; signal_seconds: how long before it SLURM warns the job, which then saves and is requeued, at
    most `max_requeues` times, and as often after losing one of its processes; gpus: a node; cpus: a task; memory: a
    node, as sbatch writes it; tasks: a node, by default one a GPU; at_once: jobs of the array that may run at the same
    time; free: any other sbatch options.
    """

    minutes: int = 60
    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    gpus: int | None = None
    cpus: int | None = None
    memory: str | None = None
    nodes: int = 1
    tasks: int | None = None
    at_once: int = 256
    signal_seconds: int = 90
    max_requeues: int = 10
    free: dict[str, str | bool] = field(default_factory=dict)

    @property
    def processes(self) -> int:
        """Processes that train one run together."""
        return self.nodes * (self.tasks or self.gpus or 1)

    def parameters(self, name: str) -> dict[str, Any]:
        """Keyword arguments of submitit's SLURM executor for jobs called `name`."""
        chosen = {
            "partition": self.partition,
            "account": self.account,
            "qos": self.qos,
            "gpus_per_node": self.gpus,
            "cpus_per_task": self.cpus,
        }
        extra: dict[str, str | bool] = {"mem": self.memory} if self.memory else {}
        # Clusters may forbid requeueing by default; a job that saves and goes on asks for it.
        extra |= {"requeue": True, **self.free}
        return {
            "job_name": name,
            "time": self.minutes,
            "nodes": self.nodes,
            "ntasks_per_node": self.processes // self.nodes,
            "signal_delay_s": self.signal_seconds,
            "array_parallelism": self.at_once,
            "stderr_to_stdout": True,
            # Those that are left when one process dies requeue the job.
            "srun_args": ["--kill-on-bad-exit=0"],
            "additional_parameters": extra,
            **{key: value for key, value in chosen.items() if value is not None},
        }


def parse_minutes(text: str) -> int:
    """A time limit in minutes, rounded up, from SLURM's M, M:SS, H:MM:SS and D-HH[:MM[:SS]]. Raises UserError."""
    match = re.fullmatch(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?", text.strip())
    if match is None:
        raise UserError(f"--time {text}: expected minutes, or H:MM:SS, or D-HH:MM:SS")
    days, *rest = match.groups()
    numbers = [int(part) for part in rest if part is not None]
    if (
        days is None and len(numbers) < 3
    ):  # without days, one number is minutes and two are minutes and seconds
        numbers.insert(0, 0)
    hours, minutes, seconds = [*numbers, 0, 0][:3]
    total = -(-(int(days or 0) * 86400 + hours * 3600 + minutes * 60 + seconds) // 60)
    if total < 1:
        raise UserError(f"--time {text}: a job needs at least a minute")
    return total


def parse_free(texts: list[str]) -> dict[str, str | bool]:
    """`--slurm key=value` strings, keys as sbatch's long options; a key alone is a flag. Raises UserError."""
    found: dict[str, str | bool] = {}
    for text in texts:
        key, sign, value = text.partition("=")
        key = key.strip().removeprefix("--")
        if not re.fullmatch(r"[a-z][a-z0-9-]*", key) or (sign and not value):
            raise UserError(
                f"--slurm {text}: expected an option of sbatch, e.g. constraint=h100 or exclusive"
            )
        found[key] = value if sign else True
    return found
