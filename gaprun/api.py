"""gaprun from Python: the same four verbs as the command line."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from contextlib import closing
from numbers import Integral
from pathlib import Path
from typing import Any

from gaprun.comparison import compare, listed
from gaprun.errors import Failure, GaprunError, UserError
from gaprun.evaluation.choose import chosen_tasks, task_names
from gaprun.jobs.measure import Measurement, measure_model
from gaprun.jobs.preflight import finished_as, prepare_job
from gaprun.jobs.run import run_job
from gaprun.recipe.jobs import Job, load_jobs, load_recipe, seeds_of
from gaprun.recipe.schema import Recipe
from gaprun.runtime.events import Event, Interrupted
from gaprun.store import open_store

__all__ = ["compare", "evaluate", "load_recipe", "train"]


def train(
    recipe: str | Path | Recipe,
    *,
    seeds: int | Sequence[int] | None = None,
    overrides: str | Sequence[str] = (),
    db: str | None = None,
    device: str = "auto",
    progress: bool | None = None,
) -> list[str]:
    """Train and measure every job of a recipe file (or one Recipe), one after another; returns the runs' ids.

    A training that is there already, also under another recipe name, is that run.

    `overrides` are `key=value` strings as for `--set`. Finished jobs are found and not run again. Raises UserError
    and Failure as the command does, for a job that fails once all have ended. `progress`: show a bar; None: in a
    notebook and on a terminal.
    """
    if isinstance(recipe, Recipe):
        if overrides:
            raise UserError("overrides go with a recipe file; change a Recipe with model_copy")
        jobs = [Job(recipe, seed) for seed in seeds_of(_whole(seeds), "train")]
    else:
        jobs = load_jobs(recipe, listed(overrides), _whole(seeds))
    for job in jobs:
        prepare_job(job)
    store = open_store(db)
    failures: list[GaprunError] = []
    runs: list[str] = []
    for job in jobs:
        try:
            known = finished_as(store, job)
            runs.append(known or job.id)
            if known is None:
                with closing(Bar(progress)) as report:
                    run_job(job, store, device, report)
        except Interrupted:
            raise
        except GaprunError as error:
            failures.append(error)
    if len(failures) > 1:
        raise Failure(f"{len(failures)} of {len(jobs)} runs failed: {'; '.join(map(str, failures))}")
    if failures:
        raise failures[0]
    return runs


def _whole(seeds: int | Sequence[int] | None) -> Any:
    """Seeds as a recipe has them, also where they are numpy's."""
    if seeds is None:
        return None
    several = seeds if isinstance(seeds, Iterable) else [seeds]
    return [int(s) if isinstance(s, Integral) and not isinstance(s, bool) else s for s in several]


class Bar:
    """One job's events as tqdm's bar, anew for each phase: a widget in a notebook."""

    def __init__(self, wanted: bool | None) -> None:
        watched = "ipykernel" in sys.modules or (sys.stderr is not None and sys.stderr.isatty())
        self._wanted = watched if wanted is None else wanted
        self._phase = ""
        self._bar: Any = None

    def __call__(self, event: Event) -> None:
        """Show one event."""
        if not self._wanted:
            return
        from tqdm.auto import tqdm

        if event.phase == "resume":
            tqdm.write(f"{event.job}: {event.note}")
            return
        if self._bar is None or event.phase != self._phase:
            self.close()
            self._phase = event.phase
            self._bar = tqdm(total=event.total, desc=f"{event.job} {event.phase}", leave=False)
        self._bar.set_postfix_str(event.note, refresh=False)
        self._bar.update(event.done - self._bar.n)

    def close(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.close()


def evaluate(
    ckpt: str | Path | None = None,
    *,
    data: str | Sequence[str] = (),
    tasks: str | Sequence[str] = (),
    model: str | None = None,
    pretrained: str | None = None,
    random: bool = False,
    db: str | None = None,
    device: str = "auto",
) -> Measurement:
    """Measure a run, a checkpoint, or an open_clip `model` with `pretrained` tag; see `gaprun eval --help`.

    Without `data`, a run is measured by its own recipe's list; `random` measures a `model` without weights. Raises
    UserError and Failure as the command does, also when only some of it could be measured (the rest is stored).
    """
    names, data = ",".join(listed(tasks)) or None, listed(data)
    if names:
        task_names(names)
    chosen = chosen_tasks(names, data) if data or ckpt is None else None
    measured = measure_model(
        open_store(db),
        ckpt=None if ckpt is None else str(ckpt),
        arch=model,
        pretrained=pretrained,
        tasks=chosen.tasks if chosen else None,
        names=names,
        random=random,
        failures=chosen.failures if chosen else (),
        device_name=device,
    )
    measured.raise_failures()
    return measured
