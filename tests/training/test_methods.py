"""Each method in real training: the temperature's path against a float64 reference, exact baselines, repeatability."""

import math

import pytest
import torch

from gaprun.model.saved import load_checkpoint, newest_checkpoint
from gaprun.training.optimizer import learning_rate, parameter_groups
from tests.training.conftest import METHODS, RunSmall


def final(job, store) -> dict:
    return load_checkpoint(newest_checkpoint(store.artifacts / job.id / "checkpoints")[0])


def taus(job, store) -> list[float]:
    return [row["temperature"] for row in store.trajectory(job.id)]


def test_fixed_temperature_never_moves(run_small: RunSmall) -> None:
    job, store = run_small("flt")
    assert taus(job, store) == pytest.approx([0.04] * 12, rel=1e-6) and final(job, store)["head"] == {}


def test_schedule_rises_linearly_over_the_run(run_small: RunSmall) -> None:
    job, store = run_small("schedule")
    assert taus(job, store) == pytest.approx([0.01 + 0.04 * k / 11 for k in range(12)], rel=1e-6)


def adam(gradients: list[float], nu: float, job) -> list[float]:
    """AdamW on one number in float64, without decay: the path of nu that the recorded gradients give."""
    opt, rule = job.recipe.optimizer, job.recipe.temperature
    (b1, b2), m, v, path = opt.betas, 0.0, 0.0, [nu]
    for k, g in enumerate(gradients):
        rate = learning_rate(k, 12, 2, opt.lr) * opt.temperature_lr_factor * rule.lr_factor
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g * g
        nu -= rate * (m / (1 - b1 ** (k + 1))) / (math.sqrt(v / (1 - b2 ** (k + 1))) + opt.eps)
        path.append(nu)
    return path


@pytest.mark.parametrize("method", ["baseline", "reparam", "reparam-scaled", "slrt"])
def test_learned_temperature_follows_a_float64_reference(method, run_small: RunSmall, monkeypatch) -> None:
    """nu after k steps is what AdamW, at the rule's own rate, makes of the gradients d loss / d nu."""
    from gaprun.training.state import TrainState

    seen: list[float] = []
    original = TrainState._clamp

    def watch(self, before: torch.Tensor) -> None:
        seen.append(self.head.nu.grad.item())
        original(self, before)

    monkeypatch.setattr(TrainState, "_clamp", watch)
    job, store = run_small(method)
    rule = job.recipe.temperature
    path = adam(seen, rule.initial_nu(), job)
    expected = [1 / rule.beta(torch.tensor(nu, dtype=torch.float64), 0).item() for nu in path[:12]]
    assert taus(job, store) == pytest.approx(expected, rel=2e-5)
    assert final(job, store)["head"]["nu"].item() == pytest.approx(path[12], rel=2e-5)
    assert taus(job, store)[-1] != pytest.approx(0.07, rel=1e-3)  # it did move


def test_slrt_moves_nu_at_the_set_fraction(run_small: RunSmall) -> None:
    """With equal first gradients the first update of nu is a tenth of the baseline's, exactly Adam's ratio."""
    moved = {}
    for method in ("baseline", "slrt"):
        job, store = run_small(method, "schedule.steps=1", "schedule.warmup_steps=0", db=method)
        moved[method] = final(job, store)["head"]["nu"].item() - job.recipe.temperature.initial_nu()
    assert moved["slrt"] / moved["baseline"] == pytest.approx(0.1, rel=1e-3)


def test_zero_probability_swaps_are_the_baseline_bit_for_bit(run_small: RunSmall) -> None:
    hashes = set()
    for name, sets in {
        "baseline": [],
        "hard-swap": ["swap.probability=0"],
        "soft-swap": ["swap.probability=0"],
    }.items():
        _, store = run_small(name, *sets, db=name)
        hashes.add(store.runs()[0].checkpoint_hash)
    assert len(hashes) == 1


def test_swaps_change_the_weights(run_small: RunSmall) -> None:
    hashes = [
        run_small(m, "swap.probability=1", db=m)[1].runs()[0].checkpoint_hash
        for m in ("hard-swap", "soft-swap")
    ]
    base = run_small("baseline")[1].runs()[0].checkpoint_hash
    assert len({*hashes, base}) == 3


@pytest.mark.parametrize("method", METHODS)
def test_same_seed_same_weights_and_metrics(method: str, run_small: RunSmall) -> None:
    found = []
    evals = "eval=[{task: gap, data: [scenes/test]}, {task: retrieval, data: [scenes/test]}]"
    for db in ("a", "b"):
        job, store = run_small(method, evals, db=db)
        metrics = {(m["metric"], m["protocol"]): m["value"] for m in store.metrics(job.id)}
        rows = [{k: v for k, v in row.items()} for row in store.trajectory(job.id)]
        found.append((store.runs()[0].checkpoint_hash, metrics, rows))
    assert found[0] == found[1] and len(found[0][1]) > 20
    _, other = run_small(method, seed=1, db="c")
    assert other.runs()[0].checkpoint_hash != found[0][0]


def test_the_clamp_holds_and_can_be_lifted(run_small: RunSmall) -> None:
    for limit, highest in (("15", 15.0), ("null", math.inf)):
        job, store = run_small(
            "baseline",
            "optimizer.temperature_lr_factor=500",
            f"temperature.max_beta={limit}",
            "temperature.init=0.069",
            db=limit,
        )
        assert max(1 / tau for tau in taus(job, store)) <= highest * (1 + 1e-6)
        assert min(1 / tau for tau in taus(job, store)) >= (1 - 1e-6 if limit == "15" else 0)


def test_every_parameter_is_in_the_right_group() -> None:
    """Decay on matrices and convolutions only; nu apart; nothing left out, nothing twice."""
    from gaprun.model.loss import ClipLoss
    from gaprun.model.spec import Inline, Model
    from gaprun.model.temperature import Exponential
    from gaprun.model.towers import build_towers
    from gaprun.recipe.schema import Optimizer
    from gaprun.training.head import Head

    clip = build_towers(Model(inline=Inline())).clip
    clip.logit_scale.requires_grad_(False)
    head = Head(Exponential(), ClipLoss())
    groups = {g["name"]: g for g in parameter_groups(clip, head, Optimizer(weight_decay=0.3), 0.1)}
    names = {id(p): name for name, p in clip.named_parameters()}
    decayed = {names[id(p)] for p in groups["matrices"]["params"]}
    plain = {names[id(p)] for p in groups["vectors"]["params"]}
    assert (
        decayed | plain == {name for name, p in clip.named_parameters() if p.requires_grad}
        and not decayed & plain
    )
    assert all("bn" not in name and "ln_" not in name and not name.endswith("bias") for name in decayed)
    assert {"visual.conv1.weight", "token_embedding.weight", "text_projection"} <= decayed
    assert {"visual.bn1.weight", "ln_final.bias"} <= plain
    assert groups["matrices"]["weight_decay"] == 0.3 and groups["vectors"]["weight_decay"] == 0
    assert groups["temperature"]["params"] == [head.nu] and groups["temperature"]["factor"] == pytest.approx(
        0.1
    )


def test_learning_rate_is_open_clips_cosine() -> None:
    from open_clip_train.scheduler import cosine_lr

    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    theirs = cosine_lr(optimizer, 2e-3, 60, 600)
    for step in (0, 1, 30, 59, 60, 61, 300, 599):
        assert learning_rate(step, 600, 60, 2e-3) == pytest.approx(theirs(step), rel=1e-12)
