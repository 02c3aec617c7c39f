"""--fail-fast in words: what failed, how many runs were not started, and that the same command goes on."""

from __future__ import annotations

import pytest

from gaprun.cli.running import _shown, checked
from gaprun.errors import Failure, UserError
from gaprun.jobs.outcome import Outcome
from tests.training.conftest import small_job

JOBS = [small_job("baseline", seed=seed) for seed in range(3)]


def test_a_sweep_whose_first_job_fails_on_the_data_says_so_at_once() -> None:
    looked = []

    def check(job) -> None:
        looked.append(job.seed)
        if job.seed == 0:
            raise UserError("scenes/train: no such split")

    said = rf"{JOBS[0].id}: scenes/train: no such split; 3 runs not started \(--fail-fast\)"
    with pytest.raises(UserError, match=said):
        checked(JOBS, check, fail_fast=True)
    assert looked == [0]
    good, bad = checked(JOBS, check)
    assert [job.seed for job in good] == [1, 2] and [outcome.job.seed for outcome in bad] == [0]


def test_a_sweep_that_was_stopped_says_how_many_are_left() -> None:
    def run(report, finished) -> None:
        finished(Outcome(JOBS[0], Failure("the loss became nan")))

    said = rf"{JOBS[0].id}: the loss became nan; 2 runs not started \(--fail-fast\): the same command goes on"
    with pytest.raises(Failure, match=said):
        _shown(JOBS, [], run)
