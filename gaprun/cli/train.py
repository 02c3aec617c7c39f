"""`gaprun train`: a recipe or sweep file becomes trained and measured runs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gaprun.cli import completion
from gaprun.cli.common import err_console
from gaprun.cli.options import DbOption, DeviceOption, JobsOption, ProcessesOption, SeedsOption, SetOption
from gaprun.cli.output import Format, FormatOption, JsonOption, chosen, show
from gaprun.errors import UserError
from gaprun.tables.numbers import counted

if TYPE_CHECKING:
    from gaprun.recipe.jobs import Job

EXAMPLE = """Train a recipe's jobs (grid points x seeds), measure each, and store every number.

Finished jobs are found and not run again; interrupted ones go on from their last checkpoint.

Examples:

  gaprun train recipes/reparam.yaml

  gaprun train recipes/reparam.yaml --set extends=recipes/base/scenes.yaml --seeds 0,1,2 --jobs 2
"""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("train", help=EXAMPLE)(train)


def train(
    recipe: Annotated[
        Path | None,
        typer.Argument(
            help="Recipe or sweep file (YAML), or the name of gaprun's own.",
            autocompletion=completion.recipes,
        ),
    ] = None,
    db: DbOption = None,
    seeds: SeedsOption = None,
    overrides: SetOption = None,
    resume: Annotated[
        str | None,
        typer.Option(
            help="Go on with this run, by id, from its last checkpoint.", autocompletion=completion.runs
        ),
    ] = None,
    device: DeviceOption = "auto",
    side_by_side: JobsOption = None,
    processes: ProcessesOption = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show jobs, sizes and what is done; train nothing.")
    ] = False,
    fail_fast: Annotated[
        bool,
        typer.Option(
            "--fail-fast",
            help="Start no other job after the first that failed; those under way go on to their end.",
        ),
    ] = False,
    format: FormatOption = Format.table,
    json: JsonOption = False,
) -> None:
    """Train a recipe's jobs; see the help text above."""
    from gaprun.jobs.launch import is_announced, is_follower, is_shared, launch

    how = chosen(format, json)
    if how is not Format.table and not dry_run:
        raise UserError("--format and --json go with --dry-run: they print the plan")
    if is_follower():
        _follow(db, device, dry_run)
        return
    if is_shared() and (side_by_side or processes):
        raise UserError("under torchrun, leave out --jobs and --nproc-per-node")
    if side_by_side and processes is not None and processes > 1:
        raise UserError("--nproc-per-node trains one job at a time: leave out --jobs")
    jobs = _jobs(recipe, resume, overrides or [], seeds, db)
    if dry_run:
        from gaprun.jobs.plan import plan_rows, plan_table

        show(plan_table(plan_rows(jobs, db, alone=not is_shared() and (processes or 1) == 1)), how)
        return
    from gaprun.cli.running import (
        checked,
        closing_words,
        give_reasons,
        plan_line,
        run_all,
        run_together,
        say_other_names,
        say_unfinished,
    )

    if not is_announced():
        err_console.print(plan_line(jobs), highlight=False, markup=False, soft_wrap=True)
    from gaprun.jobs.preflight import check_folder, finished_as, prepare_job
    from gaprun.store import open_store
    from gaprun.store.place import locate

    place = locate(db)
    jobs, refused = checked(jobs, lambda job: check_folder(job, prepare_job(job), place), fail_fast)
    store = open_store(db)
    known = {job.id: finished_as(store, job) for job in jobs}
    waiting = [job for job in jobs if known[job.id] is None]
    done = len(jobs) - len(waiting)
    if done and not is_announced():
        verb = "is" if done == 1 else "are"
        err_console.print(f"{done} of {counted(len(jobs), 'run')} {verb} finished already", highlight=False)
        say_other_names(known)
    if resume is None and waiting and not is_announced():
        say_unfinished(store, waiting, db)
    if is_shared():
        run_together(waiting, store, db, device, refused, fail_fast)
    elif waiting and processes is not None and processes > 1:
        again = ["train", *_same(recipe, db, seeds, overrides, resume, device)]
        again += ["--fail-fast"] if fail_fast else []
        code = launch(again, processes)
        if code:
            raise typer.Exit(code)  # the first process has said why
        return
    elif waiting:
        from gaprun.jobs.parallel import on_card, shared_out

        workers = min(side_by_side or (1 if on_card(device) else os.cpu_count() or 1), len(waiting))
        run_all(waiting, store, db, shared_out(device, workers), refused, fail_fast)
    elif refused:
        give_reasons(refused, len(jobs) + len(refused))
    closing_words(store, jobs, db)


def _follow(db: str | None, device: str, dry_run: bool) -> None:
    """What every process but the first does: its part, in silence unless the first may be the one that is lost."""
    from gaprun.errors import GaprunError
    from gaprun.runtime.events import LostProcess

    if dry_run:
        return
    from gaprun.jobs.parallel import run_shared

    try:
        run_shared([], db, device, lambda event: None, lambda outcome: None)
    except LostProcess:
        raise
    except GaprunError as error:
        raise typer.Exit(error.exit_code) from None


def _same(
    recipe: Path | None,
    db: str | None,
    seeds: str | None,
    overrides: list[str] | None,
    resume: str | None,
    device: str,
) -> list[str]:
    """The command line that asks for the same jobs."""
    words = [] if recipe is None else [str(recipe)]
    for option, value in (("--db", db), ("--seeds", seeds), ("--resume", resume), ("--device", device)):
        words += [] if value is None else [option, value]
    for override in overrides or []:
        words += ["--set", override]
    return words


def _jobs(
    recipe: Path | None, resume: str | None, overrides: list[str], seeds: str | None, db: str | None
) -> list[Job]:
    from gaprun.recipe.jobs import Job, load_jobs

    if recipe is None and resume is None:
        raise UserError("name a recipe file, or a run with --resume RUN (see `gaprun train --help`)")
    if recipe is not None and resume is not None:
        raise UserError(f"--resume {resume} goes on with a stored recipe: leave out {recipe}")
    if recipe is not None:
        return load_jobs(recipe, overrides, parse_seeds(seeds))
    if overrides or seeds:
        raise UserError("--resume goes on with a stored recipe: leave out --set and --seeds")
    from gaprun.recipe.load import validate
    from gaprun.store import open_store

    store = open_store(db, create=False)
    run = store.run(str(resume))
    if run.kind != "train" or run.seed is None:
        raise UserError(f"run {run.id} was not trained by gaprun; there is nothing to resume")
    job = Job(validate(run.resolved_recipe, f"run {run.id}"), run.seed)
    if job.recipe_hash != run.recipe_hash:
        raise UserError(
            f"run {run.id} was trained by a gaprun that read its recipe otherwise (such as how pictures are "
            "resized), so going on would mix two trainings; train the recipe anew"
        )
    if run.step > 0 and not (folder := store.artifacts / job.id).exists():
        raise UserError(
            f"run {run.id} came to step {run.step}, but its folder {folder} is not here: go to the folder where `runs` "
            "lies, or name that with GAPRUN_RUNS; `gaprun train RECIPE` trains it from the beginning"
        )
    return [job]


def parse_seeds(text: str | None) -> list[int] | None:
    """`--seeds 0,1,2` as a list; None stays None. Raises UserError for anything but whole numbers >= 0."""
    if text is None:
        return None
    try:
        seeds = [int(part) for part in text.split(",")]
    except ValueError:
        raise UserError(f"--seeds {text}: expected whole numbers with commas, e.g. 0,1,2") from None
    if min(seeds) < 0 or max(seeds) >= 2**63:
        raise UserError(f"--seeds {text}: seeds are not negative, and below 2**63")
    return seeds
