"""Jobs run on this machine under progress bars, as `train` and `submit --cluster local` show them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gaprun.cli.common import err_console

if TYPE_CHECKING:
    from gaprun.recipe.jobs import Job
    from gaprun.store import Store


def run_all(jobs: list[Job], store: Store, db: str | None, devices: list[str]) -> None:
    """Run `jobs`, one a device at a time; raises the first failure once all have ended."""
    from gaprun.cli.progress import JobProgress
    from gaprun.model.towers import tokenizer_for
    from gaprun.training.environment import check_precision, pick_device
    from gaprun.training.parallel import Outcome, run_jobs
    from gaprun.training.preflight import prepare_job

    where = pick_device(devices[0])
    for job in jobs:
        prepare_job(job, store)
        check_precision(job.recipe.compute, where)
        tokenizer_for(job.recipe.model)
    failures: list[Outcome] = []
    with JobProgress() as progress:

        def finished(outcome: Outcome) -> None:
            progress.done(outcome.job.id)
            if outcome.error is None:
                progress.message(f"finished {outcome.job.id}")
            else:
                failures.append(outcome)
                progress.message(f"failed   {outcome.job.id}: {outcome.error}")

        run_jobs(jobs, db, devices, progress, finished)
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
