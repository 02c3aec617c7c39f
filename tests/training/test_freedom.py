"""Training options against torch's own: decay on everything, shapes of the rate, clipping over all, a temperature that
only rises, the average of the weights; earlier recipes keep their identity."""

from __future__ import annotations

import json

import pytest
import torch
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from gaprun.jobs.plan import plan_rows
from gaprun.model.loss import ClipLoss
from gaprun.model.saved import load_checkpoint, newest_checkpoint
from gaprun.model.temperature import Exponential
from gaprun.recipe.identity import hash_of
from gaprun.recipe.schema import Optimizer
from gaprun.runtime.events import Interrupted
from gaprun.training.average import WeightAverage
from gaprun.training.head import Head
from gaprun.training.optimizer import build_optimizer, learning_rate, set_learning_rate
from gaprun.training.state import TrainState
from tests.training.conftest import RunSmall, small_job
from tests.training.gradients import VIT
from tests.training.test_methods import adam, final, taus
from tests.training.test_resume import stop_at


def test_earlier_recipes_keep_their_identity() -> None:
    document = small_job("baseline").recipe.model_dump(mode="json")
    earlier = json.loads(json.dumps(document))
    for section, key in [
        ("optimizer", "decay"),
        ("optimizer", "grad_clip_over"),
        ("optimizer", "ema"),
        ("schedule", "shape"),
        ("temperature", "rising_only"),
    ]:
        del earlier[section][key]
    assert hash_of(document) == hash_of(earlier)
    for change in (
        "optimizer.decay=all",
        "optimizer.ema=0.9",
        "schedule.shape=linear",
        "temperature.rising_only=true",
    ):
        assert hash_of(small_job("baseline", change).recipe.model_dump(mode="json")) != hash_of(earlier)


def test_decay_on_all_is_torchs_adamw_over_all_parameters() -> None:
    """Ten steps of our groups against one group of torch's: towers' vectors, nu and a term's parameters decay too."""
    loss = ClipLoss(terms=[{"name": "adversary", "width": 0}])
    made = []
    for _ in range(2):
        torch.manual_seed(3)
        made.append((torch.nn.Linear(4, 3), Head(Exponential(), loss, size=4, seed=0)))
    settings = Optimizer(lr=1e-2, weight_decay=0.3, decay="all")
    ours = build_optimizer(*made[0], settings, 1.0)
    plain = [p for module in made[1] for p in module.parameters()]
    theirs = torch.optim.AdamW(plain, lr=1e-2, weight_decay=0.3, betas=(0.9, 0.98), eps=1e-6)
    set_learning_rate(ours, 1e-2)
    own = [p for module in made[0] for p in module.parameters()]
    for step in range(10):
        for a, b in zip(own, plain, strict=True):
            a.grad = torch.full_like(a, 0.1 * step - 0.3)
            b.grad = a.grad.clone()
        ours.step(), theirs.step()
    for a, b in zip(own, plain, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("shape", ["constant", "linear"])
def test_the_rate_is_open_clips_constant_and_torchs_line(shape: str) -> None:
    from open_clip_train.scheduler import const_lr

    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=2e-3)
    if shape == "constant":
        const = const_lr(optimizer, 2e-3, 60, 600)
        expected = [const(step) for step in range(600)]
    else:
        line = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=540)
        expected = [2e-3 * (step + 1) / 60 for step in range(60)]
        for _ in range(540):
            expected.append(optimizer.param_groups[0]["lr"])
            optimizer.step(), line.step()
    found = [learning_rate(step, 600, 60, 2e-3, shape) for step in range(600)]
    assert found == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_a_run_follows_its_shape(run_small: RunSmall) -> None:
    job, store = run_small("flt", *VIT, "schedule.shape=constant")
    rates = [row["learning_rate"] for row in store.trajectory(job.id)]
    assert rates == pytest.approx([1e-3] + [2e-3] * 11)


@pytest.mark.parametrize("over", ["towers", "all"])
def test_clipping_is_torchs_over_what_is_named(over: str, run_small: RunSmall, monkeypatch) -> None:
    """After one step's backward pass the joint norm of what is named is the limit; nu's share counts in `all` only."""
    seen: dict[str, float] = {}
    original = TrainState._clamp

    def watch(self: TrainState, before: torch.Tensor) -> None:
        towers = [p.grad for p in self.towers.clip.parameters() if p.grad is not None]
        for name, grads in {"towers": towers, "all": [*towers, self.head.nu.grad]}.items():
            seen[name] = torch.stack([g.double().norm() for g in grads]).norm().item()
        original(self, before)

    monkeypatch.setattr(TrainState, "_clamp", watch)
    sets = (
        "optimizer.grad_clip=1e-3",
        f"optimizer.grad_clip_over={over}",
        "schedule.steps=1",
        "schedule.warmup_steps=0",
    )
    run_small("baseline", *VIT, *sets)
    assert seen[over] == pytest.approx(1e-3, rel=1e-4)
    other = seen["towers" if over == "all" else "all"]
    assert other < 0.9999e-3 if over == "all" else other > 1.0001e-3


def test_tau_that_only_rises_is_the_running_least_of_adams_nu(run_small: RunSmall, monkeypatch) -> None:
    """Against a float64 reference: each step of Adam counts from where nu was left, and one upwards is undone."""
    seen: list[float] = []
    original = TrainState._clamp

    def watch(self: TrainState, before: torch.Tensor) -> None:
        seen.append(self.head.nu.grad.item())
        original(self, before)

    monkeypatch.setattr(TrainState, "_clamp", watch)
    job, store = run_small("baseline", *VIT, "temperature.rising_only=true", "temperature.init=0.02")
    nu, moved = job.recipe.temperature.initial_nu(), []
    for k in range(12):
        before, after = adam(seen[: k + 1], 0.0, job)[k : k + 2]
        nu = min(nu, nu + after - before)
        moved.append(after - before)
    assert final(job, store)["head"]["nu"].item() == pytest.approx(nu, rel=2e-5)
    path = taus(job, store)
    assert path == sorted(path) and min(moved) < 0


def test_the_average_is_torchs(run_small: RunSmall) -> None:
    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
    theirs = AveragedModel(module, multi_avg_fn=get_ema_multi_avg_fn(0.8))
    ours = WeightAverage(0.8, {"m": module})
    optimizer = torch.optim.SGD(module.parameters(), lr=0.3)
    for _ in range(6):
        optimizer.zero_grad()
        module(torch.randn(8, 3)).square().mean().backward()
        optimizer.step()
        ours.update()
        theirs.update_parameters(module)
    for name, value in theirs.module.named_parameters():
        torch.testing.assert_close(ours.weights["m"][name], value, rtol=1e-6, atol=1e-7)
    assert torch.equal(ours.weights["m"]["1.running_mean"], module[1].running_mean)
    assert ours.weights["m"]["1.num_batches_tracked"] == 6


def test_a_shared_weight_is_averaged_under_both_its_names() -> None:
    module = torch.nn.ModuleDict({"a": torch.nn.Linear(2, 2), "b": torch.nn.Linear(2, 2)})
    module["b"].weight = module["a"].weight
    average = WeightAverage(0.5, {"m": module})
    average.update()
    before = module["a"].weight.detach().clone()
    with torch.no_grad():
        module["a"].weight.add_(1)
    average.update()
    average.put_in_place()
    torch.testing.assert_close(module["a"].weight.detach(), before + 0.5)
    assert module["b"].weight is module["a"].weight


def test_a_run_keeps_measures_and_resumes_its_average(run_small: RunSmall, monkeypatch) -> None:
    """The saved model is the average of the weights of all steps, the measured temperature its own; training itself is
    that of the run without it, and goes on exactly after a stop."""
    walks: dict[int, torch.Tensor] = {}
    original = TrainState.train_step

    def watch(self: TrainState, batch, measure):
        out = original(self, batch, measure)
        walks[self.step] = self.towers.clip.text_projection.detach().clone()
        return out

    monkeypatch.setattr(TrainState, "train_step", watch)
    sets = (*VIT, "optimizer.ema=0.7", "eval=[{task: gap, data: [scenes/test]}]")
    job, whole = run_small("baseline", *sets, db="whole")
    expected = walks[1]
    for step in range(2, 13):
        expected = 0.7 * expected + 0.3 * walks[step]
    saved = final(job, whole)
    torch.testing.assert_close(saved["clip"]["text_projection"], expected, rtol=1e-5, atol=1e-7)
    assert torch.equal(saved["trained"]["clip"]["text_projection"], walks[12])
    tau = float((-saved["head"]["nu"]).exp())
    measured = {m["metric"]: m["value"] for m in whole.metrics(job.id)}
    assert measured["temperature"] == pytest.approx(tau, rel=1e-6)
    assert saved["clip"]["logit_scale"].item() == pytest.approx(saved["head"]["nu"].item(), rel=1e-6)
    plain, store = run_small("baseline", *VIT, db="plain")
    assert torch.equal(final(plain, store)["clip"]["text_projection"], walks[12])
    with pytest.raises(Interrupted):
        run_small("baseline", *sets, db="cut", report=stop_at(7))
    _, resumed = run_small("baseline", *sets, db="cut")
    assert resumed.runs()[0].checkpoint_hash == whole.runs()[0].checkpoint_hash
    assert {m["metric"]: m["value"] for m in resumed.metrics(job.id)} == measured
    path, _ = newest_checkpoint(resumed.artifacts / job.id / "checkpoints")
    assert torch.equal(load_checkpoint(path)["trained"]["head"]["nu"], saved["trained"]["head"]["nu"])


def test_the_plan_counts_the_average(scenes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GAPRUN_DATA", str(scenes))
    sets = ((), ("optimizer.ema=0.9",))
    plain, averaged = (plan_rows([small_job("baseline", *VIT, *s)], None)[0] for s in sets)
    assert averaged["model_memory_gib"] == pytest.approx(plain["model_memory_gib"] * 20 / 16)
    assert averaged["disk_gib"] == pytest.approx(plain["disk_gib"] * 16 / 12)
