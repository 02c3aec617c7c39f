"""A run that learns nothing ends where the recipe asks for it: chance in closed form, the rule, also after resuming."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from gaprun.errors import Failure
from gaprun.model.loss import LOSSES, ClipLoss, SigmoidLoss
from gaprun.recipe.identity import hash_of
from gaprun.runtime.events import Interrupted
from gaprun.store import open_store
from tests.training.conftest import RunSmall, small_job
from tests.training.gradients import VIT
from tests.training.test_resume import stop_at

STOP = "schedule.stop_when_diverged=true"
# At tau 100 and next to no rate the loss stays within a thousandth of chance.
NOTHING = (*VIT, STOP, "temperature.tau=100", "optimizer.lr=1e-9", "schedule.steps=24")


def test_chance_is_the_least_loss_of_pairs_that_are_all_alike() -> None:
    """Against the losses themselves: equal rows, and for the sigmoid every constant logit (a search over its bias)."""
    x = torch.nn.functional.normalize(torch.ones(7, 5, dtype=torch.float64), dim=1)
    assert ClipLoss().chance(7) == pytest.approx(ClipLoss()(x, x, 3.0).item(), rel=1e-12) == math.log(7)
    biases = torch.linspace(-6, 2, 4001, dtype=torch.float64)
    least = min(SigmoidLoss()(x, x, 1.0, {"bias": bias}).item() for bias in biases)
    assert SigmoidLoss().chance(7) == pytest.approx(least, rel=1e-6)
    assert all(math.isfinite(LOSSES.get(name)().chance(9)) for name in LOSSES.names())


def test_a_run_at_chance_is_ended_and_ends_again_after_resuming(run_small: RunSmall, tmp_path: Path) -> None:
    """Warm-up of two steps, then looks at steps 3 to 12."""
    said = r"stayed at chance \(3\.466 for 32 pairs\) or above for 10 looks in a row, 3\.46\d at step 12;"
    with pytest.raises(Failure, match=said):
        run_small("flt", *NOTHING)
    (run,) = open_store(str(tmp_path / "a" / "results.db")).runs()
    assert run.status == "failed" and run.error.startswith("diverged: the contrastive loss stayed at chance")
    with pytest.raises(Interrupted):
        run_small("flt", *NOTHING, db="cut", report=stop_at(7))
    with pytest.raises(Failure, match=said):
        run_small("flt", *NOTHING, db="cut")
    job, store = run_small("flt", *NOTHING, "schedule.stop_when_diverged=false")  # goes on with it to the end
    assert store.run(job.id).status == "finished" and job.id == run.id


def test_a_run_that_may_go_on_is_the_run_without_the_key(run_small: RunSmall) -> None:
    sets = (*VIT, "schedule.warmup_steps=3")  # nine looks of twelve
    _, plain = run_small("baseline", *sets, db="plain")
    _, watched = run_small("baseline", *sets, STOP, db="watched")
    one, other = (store.runs()[0] for store in (plain, watched))
    assert one.checkpoint_hash == other.checkpoint_hash and one.id == other.id
    documents = [small_job("baseline", *s).recipe.model_dump(mode="json") for s in ((), (STOP,))]
    assert hash_of(documents[0]) == hash_of(documents[1])
    del documents[0]["schedule"]["stop_when_diverged"]
    assert hash_of(documents[0]) == hash_of(documents[1])
