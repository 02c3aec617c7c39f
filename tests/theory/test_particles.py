"""The particle flow: gradients against autograd, agreement with the reduced flow, swaps, descent."""

import math

import numpy as np
import pytest

from gaprun.errors import Failure, UserError
from gaprun.theory.features import Encoders, Free, Parallel
from gaprun.theory.loss import ParticleSwap, _extreme, _moderate, contrastive_loss, swapped_gradients
from gaprun.theory.particles import State, System, descend, flow, velocity
from gaprun.theory.reduced import FixedMargin, GivenFeatures, integrate
from gaprun.theory.rules import make_rule

N, D = 7, 5


def clouds(seed=0, n=N, d=D):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, d)), rng.standard_normal((n, d))


def unit(a):
    return a / np.linalg.norm(a, axis=1, keepdims=True)


def simplex(n):
    basis = np.linalg.svd(np.eye(n) - 1 / n)[0][:, : n - 1]
    return unit(basis)


def torch_loss(x, y, beta):
    import torch

    logits = beta * x @ y.T
    target = torch.arange(len(x))
    cross = torch.nn.functional.cross_entropy
    return (cross(logits, target) + cross(logits.T, target)) / 2


def torch_features(maker, parameters):
    import torch

    normal = torch.nn.functional.normalize
    if isinstance(maker, Parallel):
        a, b, ln_gamma = parameters
        gamma = ln_gamma.exp()
        flat = (1 - gamma**2).sqrt()
        side = gamma.expand(len(a), 1)
        return torch.hstack([flat * normal(a), side]), torch.hstack([flat * normal(b), -side])
    if isinstance(maker, Encoders):
        outputs = []
        for inputs, weights in (
            (maker.images, parameters[: maker.layers]),
            (maker.texts, parameters[maker.layers :]),
        ):
            hidden = torch.from_numpy(inputs)
            for weight in weights[:-1]:
                hidden = torch.tanh(hidden @ weight)
            outputs.append(normal(hidden @ weights[-1]))
        return tuple(outputs)
    return normal(parameters[0]), normal(parameters[1])


def makers():
    rng = np.random.default_rng(3)
    inputs = rng.standard_normal((N, 4)), rng.standard_normal((N, 6))
    a, b = clouds()
    yield Free(), [a, b]
    yield Parallel(), [a, b, np.array([math.log(0.3)])]
    for layers in (1, 2):
        encoders = Encoders(*inputs, layers=layers)
        yield encoders, encoders.draw(rng, D, hidden=8)


@pytest.mark.parametrize("rule_name", ["exp", "scaled-exp", "softplus"])
@pytest.mark.parametrize("maker, parameters", list(makers()), ids=["free", "parallel", "linear", "two-layer"])
def test_velocity_is_minus_the_gradient_of_autograd(maker, parameters, rule_name):
    torch = pytest.importorskip("torch")
    rule, beta = make_rule(rule_name, temperature=0.3)
    moved, dnu = velocity(System(maker, rule), State(parameters, rule.nu(beta)), 0.0)
    tensors = [torch.tensor(p, requires_grad=True) for p in parameters]
    nu = torch.tensor(rule.nu(beta), dtype=torch.float64, requires_grad=True)
    b = torch.nn.functional.softplus(nu) if rule_name == "softplus" else (nu / rule.k).exp()
    torch_loss(*torch_features(maker, tensors), b).backward()
    for ours, theirs in zip(moved[:2] if isinstance(maker, Parallel) else moved, tensors, strict=False):
        np.testing.assert_allclose(ours, -theirs.grad.numpy(), atol=1e-12)
    if isinstance(
        maker, Parallel
    ):  # the flow is Euclidean in gamma: d ln gamma/dt = -(dL/d ln gamma) / gamma^2
        np.testing.assert_allclose(moved[2], -tensors[2].grad.numpy() / 0.3**2, rtol=1e-9)
    assert dnu == pytest.approx(-float(nu.grad), rel=1e-9)


def test_loss_and_gradients_against_finite_differences():
    x, y = (unit(a) for a in clouds(1))
    _, dx, dy, dbeta = contrastive_loss(x, y, 3.0)
    h = 1e-6
    for i, j in ((0, 0), (3, 2), (6, 4)):
        for side, gradient in ((x, dx), (y, dy)):
            values = []
            for sign in (1, -1):
                side[i, j] += sign * h
                values.append(contrastive_loss(x, y, 3.0)[0])
                side[i, j] -= sign * h
            assert gradient[i, j] == pytest.approx((values[0] - values[1]) / (2 * h), abs=1e-8)
    numeric = (contrastive_loss(x, y, 3 + h)[0] - contrastive_loss(x, y, 3 - h)[0]) / (2 * h)
    assert dbeta == pytest.approx(numeric, abs=1e-8)


@pytest.mark.parametrize("beta", [0.5, 20.0, 140.0])
def test_both_ways_of_forming_the_softmax_agree(beta):
    x, y = (unit(a) for a in clouds(3, n=20))
    y[:10] = unit(x[:10] + 0.1 * y[:10])
    logits = beta * x @ y.T
    (loss, gradient), (exact, expected) = _moderate(logits.copy()), _extreme(logits)
    assert loss == pytest.approx(exact, rel=1e-12)
    np.testing.assert_allclose(gradient, expected, rtol=1e-9, atol=1e-300)


def test_gradients_keep_their_digits_when_the_loss_is_tiny():
    """On the simplex dL/dbeta = -(n-1) a e^(-beta a) / (1 + ...) exactly, a = 1 + 1/(n-1)."""
    n = 6
    u = simplex(n)
    a = 1 + 1 / (n - 1)
    for beta in (100.0, 140.0, 300.0, 550.0):
        _, _, _, dbeta = contrastive_loss(u, u, beta)
        assert dbeta == pytest.approx(-(n - 1) * a * math.exp(-beta * a), rel=1e-9)


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("renormalise", [False, True])
def test_swapped_gradients_are_autograds(soft, renormalise):
    torch = pytest.importorskip("torch")
    x, y = (unit(a) for a in clouds(2))
    rng = np.random.default_rng(5)
    mix = rng.random(x.shape) if soft else (rng.random(x.shape) < 0.5).astype(float)
    dx, dy, dbeta = swapped_gradients(mix, x, y, 4.0, renormalise)
    tx, ty = torch.tensor(x, requires_grad=True), torch.tensor(y, requires_grad=True)
    beta = torch.tensor(4.0, dtype=torch.float64, requires_grad=True)
    m = torch.from_numpy(mix)
    a, b = m * tx + (1 - m) * ty, m * ty + (1 - m) * tx
    if renormalise:
        a, b = torch.nn.functional.normalize(a), torch.nn.functional.normalize(b)
    torch_loss(a, b, beta).backward()
    np.testing.assert_allclose(dx, tx.grad.numpy(), atol=1e-12)
    np.testing.assert_allclose(dy, ty.grad.numpy(), atol=1e-12)
    assert dbeta == pytest.approx(float(beta.grad), rel=1e-9)


@pytest.mark.parametrize("name", ["exp", "scaled-exp", "softplus"])
def test_particles_on_the_simplex_follow_the_reduced_flow(name):
    """There the directions feel no force, so the reduced assumptions hold: 1e-5 in ln gamma, ln beta."""
    n = 9
    rule, beta = make_rule(name, temperature=0.2)
    start = State([simplex(n), simplex(n), np.array([math.log(0.3)])], rule.nu(beta))
    path = flow(System(Parallel(), rule), start, horizon=1e6, points=20)
    reduced = integrate(rule, FixedMargin(1 + 1 / (n - 1), n), beta=beta, horizon=1e6, points=400)
    tau = np.log1p(reduced.t)
    ln_gamma = np.interp(np.log1p(path["t"][[0, -1]]), tau, reduced.ln_gamma)
    np.testing.assert_allclose(np.log(path["gamma"][[0, -1]]), ln_gamma, atol=1e-5)
    assert path["beta"][-1] == pytest.approx(reduced.beta[-1], rel=1e-5)
    assert path["margin"][-1] == pytest.approx((1 + 1 / (n - 1)) * (1 - path["gamma"][-1] ** 2), abs=1e-6)


def test_frozen_directions_are_the_reduced_flow_of_given_features():
    a, b = clouds(4)
    b = a + 0.2 * b
    rule, beta = make_rule("exp", temperature=0.2)
    start = State([a, b, np.array([math.log(0.3)])], rule.nu(beta))
    path = flow(System(Parallel(frozen=True), rule), start, horizon=50.0, points=5)
    reduced = integrate(rule, GivenFeatures(a, b), beta=beta, horizon=50.0)
    assert math.log(path["gamma"][-1]) == pytest.approx(reduced.ln_gamma[-1], abs=1e-6)
    assert path["gap"][-1] == pytest.approx(reduced.delta[-1], rel=1e-6)


def test_free_directions_reach_the_rate_of_the_reduced_flow():
    rng = np.random.default_rng(0)
    rule, beta = make_rule("exp", temperature=0.1)
    start = State([*(rng.standard_normal((8, 4)) for _ in range(2)), np.array([-1.0])], rule.nu(beta))
    path = flow(System(Parallel(), rule), start, horizon=1e9, points=40)
    rate = np.polyfit(np.log(path["beta"][-8:]), np.log(path["gamma"][-8:]), 1)[0]
    assert rate == pytest.approx(-2, abs=5e-3)


def test_recorded_quantities_are_their_definitions():
    a, b = clouds(6)
    rule, beta = make_rule("fixed", temperature=0.5)
    path = descend(System(Free(), rule), State([a, b], 0.0), steps=0, rate=1.0, rng=np.random.default_rng(0))
    x, y = unit(a), unit(b)
    assert path["gap"][0] == pytest.approx(np.linalg.norm(x.mean(0) - y.mean(0)))
    assert path["alignment"][0] == pytest.approx(((x - y) ** 2).sum(1).mean())
    z = np.concatenate([x, y])
    close = [np.exp(-2 * ((z[i] - z[j]) ** 2).sum()) for i in range(2 * N) for j in range(i)]
    assert path["uniformity"][0] == pytest.approx(math.log(np.mean(close)))
    margins = [min(x[i] @ y[i] - x[i] @ y[j] for j in range(N) if j != i) for i in range(N)]
    assert path["margin"][0] == pytest.approx(min(margins))
    assert path["mismatched_share"][0] == pytest.approx(np.mean(np.array(margins) <= 0))
    assert path["gamma"][0] == path["gap"][0] / 2 and path["beta"][0] == 2.0


def test_descent_with_small_steps_follows_the_flow():
    a, b = clouds(7)
    rule, beta = make_rule("softplus", temperature=0.5)
    system = System(Parallel(), rule)
    start = State([a, b, np.array([math.log(0.2)])], rule.nu(beta))
    smooth = flow(system, start, horizon=4.0, points=5)
    steps = descend(system, start, steps=4000, rate=1e-3, rng=np.random.default_rng(0), every=4000)
    for name in ("gap", "gamma", "beta", "loss"):
        assert steps[name][-1] == pytest.approx(smooth[name][-1], rel=2e-3), name


def test_swaps_close_the_gap_and_are_refused_by_the_flow():
    a, b = clouds(8, n=32, d=8)
    a[:, 0] += 2
    b[:, 0] -= 2
    rule, beta = make_rule("exp", temperature=0.07)
    gaps = {}
    for swap in (None, ParticleSwap(1.0), ParticleSwap(1.0, soft=True)):
        system = System(Free(), rule, swap, nu_rate=1 / 32)
        path = descend(
            system, State([a, b], rule.nu(beta)), steps=200, rate=1.0, rng=np.random.default_rng(1), every=200
        )
        gaps[swap] = path["gap"][-1]
    plain = gaps.pop(None)
    assert all(gap < plain - 0.1 for gap in gaps.values())
    with pytest.raises(UserError, match="a swap needs steps of gradient descent"):
        flow(System(Free(), rule, ParticleSwap(0.5)), State([a, b], 0.0), horizon=1.0)


def test_a_spent_budget_and_a_divergence_are_said():
    a, b = clouds(9, n=40, d=8)
    rule, beta = make_rule("fixed", temperature=0.05)
    path = flow(System(Free(), rule), State([a, b], 0.0), horizon=1e8, budget=200)
    assert path.stopped is not None and "200" in path.stopped and len(path["t"]) < 60
    exp, beta = make_rule("exp", temperature=0.05)
    with pytest.raises(Failure, match="learning rate"), np.errstate(all="ignore"):
        descend(
            System(Free(), exp), State([a, a], exp.nu(beta)), steps=50, rate=1e6, rng=np.random.default_rng(0)
        )


def test_slrt_scales_only_nu():
    a, b = clouds(10)
    rule, beta = make_rule("exp", temperature=0.2)
    full, slow = (
        velocity(System(Free(), rule, nu_rate=r), State([a, b], rule.nu(beta)), 0.0) for r in (1, 0.1)
    )
    np.testing.assert_array_equal(full[0][0], slow[0][0])
    assert slow[1] == pytest.approx(full[1] / 10)
