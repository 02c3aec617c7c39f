"""Jobs run on this machine under progress bars, as `train` and `submit --cluster local` show them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from gaprun.cli.common import err_console

if TYPE_CHECKING:
    from gaprun.recipe.jobs import Job
    from gaprun.store import Store
    from gaprun.training.events import Report
    from gaprun.training.parallel import Finished, Outcome


def run_all(jobs: list[Job], store: Store, db: str | None, devices: list[str]) -> None:
    """Run `jobs`, one a device at a time; raises the first failure once all have ended."""
    from gaprun.training.parallel import run_jobs

    _check(jobs, store, devices[0])
    _shown(jobs, lambda report, finished: run_jobs(jobs, db, devices, report, finished))


def run_together(jobs: list[Job], store: Store, db: str | None, device: str) -> None:
    """As the first of several processes that train each of `jobs` together; the others wait for its word even where
    there are none."""
    from gaprun.training.parallel import run_shared

    _check(jobs, store, device)
    _shown(jobs, lambda report, finished: run_shared(jobs, db, device, report, finished))


def _check(jobs: list[Job], store: Store, device: str) -> None:
    """Raise UserError for what can be known to be wrong with any job before the first one starts."""
    from gaprun.model.towers import tokenizer_for
    from gaprun.training.environment import check_precision, pick_device
    from gaprun.training.preflight import prepare_job

    where = pick_device(device)
    for job in jobs:
        prepare_job(job, store)
        check_precision(job.recipe.compute, where)
        tokenizer_for(job.recipe.model)


def _shown(jobs: list[Job], run: Callable[[Report, Finished], None]) -> None:
    """`run` under progress bars; raises the first failure once all have ended."""
    from gaprun.cli.progress import JobProgress

    failures: list[Outcome] = []
    with JobProgress() as progress:

        def finished(outcome: Outcome) -> None:
            progress.done(outcome.job.id)
            if outcome.error is None:
                progress.message(f"finished {outcome.job.id}")
            else:
                failures.append(outcome)
                progress.message(f"failed   {outcome.job.id}: {outcome.error}")

        run(progress, finished)
    if failures:
        first = failures[0].error
        assert first is not None
        count = f"{len(failures)} of {len(jobs)} runs failed; the first: " if len(jobs) > 1 else ""
        raise type(first)(f"{count}{first}")


def closing_words(store: Store, jobs: list[Job]) -> None:
    from rich.markup import escape

    err_console.print(
        f"{len(jobs)} runs in {escape(store.url)}; next: gaprun compare --metric gap --metric recall@5",
        highlight=False,
    )
