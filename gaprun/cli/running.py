"""Jobs run on this machine under progress bars, as `train` and `submit --cluster local` show them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from gaprun.cli.common import err_console, with_db
from gaprun.errors import Failure, GaprunError
from gaprun.tables.numbers import counted

if TYPE_CHECKING:
    from gaprun.jobs.outcome import Finished, Outcome
    from gaprun.recipe.jobs import Job
    from gaprun.runtime.events import Report
    from gaprun.store import Store


MOST_NAMED = 6


def run_all(
    jobs: list[Job],
    store: Store,
    db: str | None,
    devices: list[str],
    refused: Sequence[Outcome] = (),
    fail_fast: bool = False,
) -> None:
    """Run `jobs`, one a device at a time, and list at the end what could not be done, with what was `refused` before.

    With `fail_fast` none is started after the first that failed. Raises a single job's own error, or a Failure for
    several jobs, once all that were started have ended.
    """
    from gaprun.jobs.parallel import run_jobs

    good, bad = checked(jobs, lambda job: _check(job, store, devices[0], True), fail_fast)
    _shown(
        good,
        [*refused, *bad],
        lambda report, finished: run_jobs(good, db, devices, report, finished, fail_fast),
    )


def run_together(
    jobs: list[Job],
    store: Store,
    db: str | None,
    device: str,
    refused: Sequence[Outcome] = (),
    fail_fast: bool = False,
) -> None:
    """As the first of several processes that train each of `jobs` together; the others wait for its word even where
    there are none."""
    from gaprun.jobs.parallel import run_shared

    good, bad = checked(jobs, lambda job: _check(job, store, device, False), fail_fast)
    _shown(
        good,
        [*refused, *bad],
        lambda report, finished: run_shared(good, db, device, report, finished, fail_fast),
    )


def checked(
    jobs: Sequence[Job], check: Callable[[Job], object], fail_fast: bool = False
) -> tuple[list[Job], list[Outcome]]:
    """The jobs that `check` lets pass, and the others with why.

    Raises its error where no job passes, and with `fail_fast` that of the first which does not.
    """
    from gaprun.cli.progress import waiting
    from gaprun.jobs.outcome import Outcome

    good: list[Job] = []
    bad: list[Outcome] = []
    with waiting(
        f"{counted(len(jobs), 'run')}: looking at recipes and data"
    ):  # the first look may load torch
        for job in jobs:
            try:
                check(job)
                good.append(job)
            except GaprunError as error:
                bad.append(Outcome(job, error))
                if fail_fast and len(jobs) > 1:
                    raise _stopped(bad[0], len(jobs)) from None
    if bad and not good:
        give_reasons(bad, len(jobs))
    for outcome in bad:
        _say(outcome)
    return good, bad


def _check(job: Job, store: Store, device: str, alone: bool) -> None:
    """Raise UserError for what can be known to be wrong with a job before it starts, `alone` in one process or not."""
    from gaprun.jobs.preflight import prepare_job
    from gaprun.model.frozen import trained_parameters
    from gaprun.model.towers import tokenizer_for
    from gaprun.runtime.environment import check_precision, pick_device
    from gaprun.training.alone import check_micro_batch

    where = pick_device(device)
    ready = prepare_job(job, store)
    if alone:  # several processes share the statistics of a batch
        check_micro_batch(job.recipe, ready.length)
    check_precision(job.recipe.compute, where)
    tokenizer_for(job.recipe.model)
    if job.recipe.model.freeze is not None:
        trained_parameters(job.recipe.model)


def _shown(jobs: list[Job], refused: Sequence[Outcome], run: Callable[[Report, Finished], None]) -> None:
    """`run` under progress bars; raises for what failed or was refused once all have ended."""
    from gaprun.cli.progress import JobProgress

    failures, ended = list(refused), 0
    with JobProgress(f"{counted(len(jobs), 'run')}: starting", jobs=len(jobs)) as progress:

        def finished(outcome: Outcome) -> None:
            nonlocal ended
            ended += 1
            progress.ended(outcome.job.id)
            if outcome.error is None:
                progress.message(f"finished {outcome.job.id}{progress.so_far()}")
            else:
                failures.append(outcome)
                if len(jobs) > 1:
                    progress.message(f"failed   {outcome.job.id}: {outcome.error}")

        run(progress, finished)
    if failures and ended < len(jobs):
        raise _stopped(failures[0], len(jobs) - ended)
    if failures:
        give_reasons(failures, len(jobs) + len(refused))


def give_reasons(failures: Sequence[Outcome], of: int) -> None:
    """Raise the one job's own error, or list the failures and raise that they were."""
    first = failures[0].error
    assert first is not None
    if of == 1:
        raise first
    reasons = {str(outcome.error) for outcome in failures}
    if len(reasons) == 1 and len(failures) == of:
        raise type(first)(f"none of {of} runs could be done: {first}")
    for outcome in failures:
        _say(outcome)
    raise Failure(f"{len(failures)} of {of} runs could not be done; they are listed above")


def _stopped(first: Outcome, left: int) -> GaprunError:
    """The error of a sweep that ends (--fail-fast) with its `first` failed job, `left` others not started."""
    assert first.error is not None
    return type(first.error)(
        f"{first.job.id}: {first.error}; {counted(left, 'run')} not started (--fail-fast): the same command goes on"
    )


def _say(outcome: Outcome) -> None:
    err_console.print(
        f"failed   {outcome.job.id}: {outcome.error}", highlight=False, soft_wrap=True, markup=False
    )


def plan_line(jobs: Sequence[Job]) -> str:
    """`4 runs of 600 steps: baseline, hard-swap; seeds 0, 1`: what is asked for, before anything heavy is loaded."""
    names = list(dict.fromkeys(job.recipe.name for job in jobs))
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    steps = {job.recipe.schedule.steps for job in jobs}
    length = f" of {steps.pop():,} steps" if len(steps) == 1 and None not in steps else ""
    seeds = sorted({job.seed for job in jobs})
    said = f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"
    return f"{counted(len(jobs), 'run')}{length}: {', '.join(names[:MOST_NAMED])}{more}; {said}"


def say_other_names(known: Mapping[str, str | None]) -> None:
    """Of jobs (by id) that are done as a run of another name, which run: tables show that one's name."""
    for job, run in known.items():
        if run not in (None, job):
            err_console.print(
                f"{job}: the same training is there as {run}; tables show it by that name",
                highlight=False,
                markup=False,
                soft_wrap=True,
            )


def say_unfinished(store: Store, jobs: Sequence[Job], db: str | None) -> None:
    """Which unfinished runs have the name and seed of one of `jobs` and another recipe, and how each goes on.

    Whoever changes a recipe after a stop gets a run from step 0 beside the one that was stopped.
    """
    from gaprun.store.standing import GOING

    wanted, ids = {(job.recipe.name, job.seed) for job in jobs}, {job.id for job in jobs}
    beside = [
        run
        for run in store.unfinished([], lambda run: (run.recipe, run.seed) in wanted and run.id not in ids)
        if run.step
    ]
    for run in beside[:MOST_NAMED]:
        command = with_db(f"gaprun train --resume {run.id}", db)
        how = "" if run.status in GOING else f"; go on with it: {command}"
        err_console.print(
            f"{run.id} ({run.status} at step {run.step:,}) has another recipe of the same name and stays as it is{how}",
            highlight=False,
            markup=False,
            soft_wrap=True,
        )
    if len(beside) > MOST_NAMED:
        more = f"and {len(beside) - MOST_NAMED} more unfinished runs of these names"
        err_console.print(more, highlight=False)


def closing_words(store: Store, jobs: list[Job], db: str | None) -> None:
    """Where the runs are, and what to look at them with."""
    command = with_db("gaprun compare --metric gap --metric recall@5", db)
    where = store.place.path.absolute() if store.place.path else store.url
    err_console.print(
        f"{counted(len(jobs), 'run')} in {where}; next: {command}",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )
