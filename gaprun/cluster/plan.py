"""Which of a sweep's jobs are sent, and how they stand in the store while they wait."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gaprun.cluster.asking import cluster_name
from gaprun.cluster.resources import Resources
from gaprun.cluster.slurm import count_nodes, log_of, script, submit_tasks
from gaprun.cluster.task import ClusterTask
from gaprun.data.split import data_root
from gaprun.errors import UserError
from gaprun.jobs.preflight import is_finished, new_run, prepare_job
from gaprun.recipe.jobs import Job
from gaprun.store import NewRun, Store, queued
from gaprun.store.liveness import this_host, this_process
from gaprun.version import __version__


@dataclass(frozen=True)
class Planned:
    """A job and what becomes of it: `action` is submit, or finished, queued or running, and then it is left alone."""

    job: Job
    action: str
    run: NewRun


def plan(jobs: Sequence[Job], store: Store | None) -> list[Planned]:
    """Look at every job's data and at what the store has of it. Raises UserError as training would."""
    statuses = {run.id: run.status for run in store.runs(light=True)} if store else {}
    planned = []
    for job in jobs:
        ready = prepare_job(job, store)
        status = statuses.get(job.id)
        done = store is not None and is_finished(store, job)
        action = "finished" if done else str(status) if status in ("queued", "running") else "submit"
        folder = store.artifacts if store else Path("runs")
        run = new_run(job, ready, folder, __version__, {})
        planned.append(Planned(job, action, run))
    return planned


def rows(planned: Sequence[Planned], ids: dict[str, str] | None = None) -> list[dict[str, Any]]:
    """`planned` as plain values: run, recipe, seed, steps, action, and the SLURM job's id where it has one."""
    return [
        {
            "run": item.job.id,
            "recipe": item.job.recipe.name,
            "seed": item.job.seed,
            "steps": item.run.total_steps,
            "action": item.action,
            "slurm_job": (ids or {}).get(item.job.id),
        }
        for item in planned
    ]


def to_slurm(planned: Sequence[Planned], store: Store, resources: Resources, name: str) -> dict[str, str]:
    """Submit what is to be submitted; returns SLURM job ids by run. Raises as `submit_tasks`.

    A run stands as queued before SLURM knows of it, so that a job which starts at once finds its row.
    """
    chosen = [item for item in planned if item.action == "submit"]
    runs = [item.run for item in chosen]
    folder = jobs_folder(store.artifacts)
    environment = {"GAPRUN_DATA": str(data_root().absolute()), "GAPRUN_RUNS": str(store.artifacts.absolute())}
    tasks = [
        ClusterTask(
            item.run.resolved_recipe, item.job.seed, shared_url(store), environment, resources.max_requeues
        )
        for item in chosen
    ]
    note: dict[str, Any] = {"cluster": "slurm", "cluster_name": cluster_name(), "uid": os.getuid()}
    queued.enqueue(store, runs, note)
    try:
        ids = submit_tasks(tasks, resources, name, folder)
    except BaseException:
        queued.withdraw(store, [run.id for run in runs], "its submission to SLURM failed")
        raise
    for run, job in zip(runs, ids, strict=True):
        queued.note_job(store, run.id, job, str(log_of(folder, job)))
    return {run.id: job for run, job in zip(runs, ids, strict=True)}


def jobs_folder(artifacts: Path) -> Path:
    """Where this user's jobs and logs go, beside the runs: closed to others, since a job holds the database's URL.

    `slurm`, or `slurm-UID` where that is another user's who shares the folder of runs.
    """
    folder = artifacts.absolute() / "slurm"
    taken = folder.exists() and folder.stat().st_uid != os.getuid()
    return folder.with_name(f"slurm-{os.getuid()}") if taken else folder


def slurm_script(planned: Sequence[Planned], store: Store | None, resources: Resources, name: str) -> str:
    """The batch script that would be sent."""
    folder = jobs_folder(store.artifacts if store else Path("runs"))
    return script(resources, name, folder, sum(item.action == "submit" for item in planned))


def to_this_machine(planned: Sequence[Planned], store: Store) -> list[Job]:
    """Put the jobs to be run in the store as queued behind this process, and return them."""
    chosen = [item for item in planned if item.action == "submit"]
    note = {"cluster": "local", "host": this_host(), "pid": os.getpid(), "process": this_process()}
    queued.enqueue(store, [item.run for item in chosen], note)
    return [item.job for item in chosen]


def check_database(place_is_file: bool, name: str, resources: Resources, allowed: bool) -> None:
    """Raise UserError for a SQLite file that jobs on several nodes would write (unless `allowed`)."""
    if not place_is_file or allowed:
        return
    nodes = max(resources.nodes, count_nodes(resources.partition))
    if nodes > 1:
        raise UserError(
            f"{name} is a SQLite file and the jobs may run on {nodes} nodes: a file on a network disk does not keep "
            "several machines apart. Give a PostgreSQL URL with --db, or --allow-sqlite if one node writes at a time"
        )


def shared_url(store: Store) -> str:
    """The store's database as a job elsewhere must name it: an absolute path, or the URL with its password."""
    path = store.place.path
    return str(path.absolute()) if path else store.place.url.render_as_string(hide_password=False)
