"""Loss terms on four pairs worked out by hand, their gradients, and their division into rows."""

from __future__ import annotations

from math import exp, log, log1p, sqrt

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from gaprun.model.loss import ClipLoss, RelativeSigmoidLoss, SigmoidLoss
from gaprun.model.terms import TERMS, StepInputs, Term
from gaprun.model.terms.mixup import between


class Fixed:
    """Random numbers that are known: every mixture is half and half, reference i points to the i-th corner."""

    def beta(self, a: float, b: float) -> float:
        return 0.5

    def standard_normal(self, shape: tuple[int, ...]) -> np.ndarray:
        return 2 * np.column_stack([CORNERS, np.zeros(4)])


# x_i = (0.8 u_i, 0.6) and y_i = (0.6 u_(i+1), -0.8), u_1..4 the corners e1, e2, -e1, -e2. Hence, with k steps between i
# and j: x_i.x_j = 1, 0.36, -0.28, 0.36; y_i.y_j = 1, 0.64, 0.28, 0.64; x_i.y_j = -0.48, -0.96, -0.48, 0 (k = j - i).
CORNERS = np.array([[1, 0], [0, 1], [-1, 0], [0, -1]], dtype=float)
X = torch.from_numpy(np.column_stack([0.8 * CORNERS, np.full(4, 0.6)]))
Y = torch.from_numpy(np.column_stack([0.6 * np.roll(CORNERS, -1, 0), np.full(4, -0.8)]))
XX, YY, XY = (1, 0.36, -0.28, 0.36), (1, 0.64, 0.28, 0.64), (-0.48, -0.96, -0.48, 0.0)
YX = (-0.48, 0.0, -0.48, -0.96)
BETA = 2.0


def logsumexp(values) -> float:
    return log(sum(exp(v) for v in values))


def softplus(value: float) -> float:
    return log1p(exp(value))


def mean_of_gaussians(adjacent: float, opposite: float) -> float:
    """log of the mean of exp(-2 d^2) over six pairs: four sides and two diagonals of a square."""
    return log((4 * exp(-2 * adjacent) + 2 * exp(-2 * opposite)) / 6)


def divergence(old: tuple[float, ...], new: tuple[float, ...], tau: float, alpha: float) -> float:
    target = [(1 - alpha) * exp(s / tau - logsumexp(o / tau for o in old)) for s in old]
    target[0] += alpha
    found = [s / tau - logsumexp(o / tau for o in new) for s in new]
    return sum(t * (log(t) - f) for t, f in zip(target, found, strict=True))


# The mixture of a pair by halves is m_j = (x_j + y_j) / sqrt(1.04).
X_MIXED = [(a + b) / sqrt(1.04) for a, b in zip(XX, XY, strict=True)]
Y_MIXED = [(a + b) / sqrt(1.04) for a, b in zip(YY, YX, strict=True)]

VALUES = {
    ("mean-gap",): 1.4**2,
    ("alignment",): 2 + 2 * 0.48,
    ("uniformity",): (mean_of_gaussians(1.28, 2.56) + mean_of_gaussians(0.72, 1.44)) / 2,
    ("cross-uniformity",): log((exp(-2 * 3.92) + exp(-2 * 2.96) + exp(-2 * 2)) / 3),
    ("centroid-uniformity",): mean_of_gaussians(2 / 1.04, 4 / 1.04),
    ("in-modal-consistency",): 2 * 0.28**2 + 0.56**2,
    ("cross-modal-consistency",): 2 * 0.96**2,
    ("separation", "rescale", "none"): (
        logsumexp(BETA * s for s in XX) + logsumexp(BETA * s for s in YY) - 2 * BETA
    )
    / 2,
    ("separation", "rescale", "text"): (
        logsumexp(BETA * s for s in (-0.48, 0.36 * 0.36, -0.28 * 0.72, 0.36 * 0.36))
        + logsumexp(BETA * s for s in (-0.48, 0.64 * 0.36, 0.28 * 0.72, 0.64 * 0.36))
    )
    / 2
    + 0.48 * BETA,
    ("adversary", "width", 0): (softplus(-(0.6 - 0.1)) + softplus(-0.8 - 0.1)) / 2,
    ("adversary", "width", 2): (softplus(-(3 * 0.6 - 0.1)) + softplus(2 * 0.8 - 0.1)) / 2,
    ("random-alignment",): (0.4 + 2) / 2,
    ("distillation",): (divergence(XX, XY, 0.5, 0.25) + divergence(XX, YX, 0.5, 0.25)) / 2,
    ("geodesic-mixup",): (
        logsumexp(s / 0.5 for s in (-0.48, *X_MIXED[1:])) + logsumexp(s / 0.5 for s in (-0.48, *Y_MIXED[1:]))
    )
    / 2
    + 0.48 / 0.5,
}
OPTIONS = {"distillation": {"tau": 0.5, "alpha": 0.25}, "geodesic-mixup": {"tau": 0.5}}
LEARNED = {
    0: {"weight": [0.0, 0, 1], "bias": -0.1},
    2: {
        "hidden_weight": [[0.0, 0, 1], [0, 0, -1]],
        "hidden_bias": [0.0, 0],
        "weight": [3.0, 2],
        "bias": -0.1,
    },
}


def term_of(key: tuple) -> Term:
    name, *option = key
    (kind,) = (choice for choice in TERMS if choice.model_fields["name"].default == name)
    return kind(**OPTIONS.get(name, {}), **dict([option] if option else []))


def learned_of(term: Term) -> dict[str, torch.Tensor]:
    start = LEARNED.get(getattr(term, "width", None), {})
    return {name: torch.tensor(value, dtype=torch.float64) for name, value in start.items()}


@pytest.mark.parametrize("key", VALUES, ids=lambda key: "-".join(map(str, key)))
def test_value_on_four_pairs(key: tuple) -> None:
    term = term_of(key)
    inputs = StepInputs(Fixed(), (X, X))  # the teacher sees texts where the images are
    found = term.addend(X, Y, slice(0, 4), BETA, learned_of(term), inputs)
    assert found.shape == () and found.item() == pytest.approx(VALUES[key], rel=1e-12)


def test_every_term_has_a_value_here() -> None:
    assert {key[0] for key in VALUES} == set(TERMS.names())


def clouds(n: int = 7, d: int = 4) -> tuple[torch.Tensor, ...]:
    g = torch.Generator().manual_seed(5)
    return tuple(normalize(torch.randn(n, d, generator=g, dtype=torch.float64), dim=-1) for _ in range(4))


def part(term: Term, x, y, rows: slice, beta, learned) -> torch.Tensor:
    *_, old_x, old_y = clouds()
    return term.addend(x, y, rows, beta, learned, StepInputs(np.random.default_rng(3), (old_x, old_y)))


def start_of(term: Term) -> dict[str, torch.Tensor]:
    start = term.parameters(4, np.random.default_rng(1))
    return {name: torch.as_tensor(np.asarray(value), dtype=torch.float64) for name, value in start.items()}


@pytest.mark.parametrize("key", VALUES, ids=lambda key: "-".join(map(str, key)))
def test_rows_sum_up_to_the_whole(key: tuple) -> None:
    """Value, and gradients to every feature, beta and parameter, as processes would add them up."""
    term = term_of(key)
    found = []
    for cuts in ((0, 7), (0, 3, 4, 7)):
        x, y = (t.clone().requires_grad_() for t in clouds()[:2])
        beta = torch.tensor(9.0, dtype=torch.float64, requires_grad=True)
        learned = {name: value.requires_grad_() for name, value in start_of(term).items()}
        parts = [part(term, x, y, slice(a, b), beta, learned) for a, b in zip(cuts, cuts[1:], strict=False)]
        for one in parts:
            one.backward()
        leaves = [x, y, beta, *learned.values()]
        found.append([sum(parts).detach(), *(torch.zeros(()) if t.grad is None else t.grad for t in leaves)])
    for whole, summed in zip(*found, strict=True):
        torch.testing.assert_close(summed, whole, rtol=1e-10, atol=1e-13, check_dtype=False)
    assert found[0][1].abs().max() > 0 and found[0][2].abs().max() > 0


@pytest.mark.parametrize(
    "key", [k for k in VALUES if k[0] != "adversary"], ids=lambda key: "-".join(map(str, key))
)
def test_finite_differences_agree(key: tuple) -> None:
    """In float64, to features and beta; what stands still for the gradient (rescaling) is held still."""
    term = term_of(key)
    x, y = (t[:5].clone().requires_grad_() for t in clouds()[:2])
    beta = torch.tensor(3.0, dtype=torch.float64, requires_grad=True)
    old = tuple(t[:5] for t in clouds()[2:])

    def whole(a, b, scale):
        inputs = StepInputs(np.random.default_rng(3), old)
        return term.addend(a, b, slice(0, 5), scale, {}, inputs) + 0 * scale

    if key == ("separation", "rescale", "text"):
        frozen = y.detach().clone()

        class Held(torch.Tensor):
            def detach(self):
                return frozen

        assert torch.autograd.gradcheck(lambda a, s: whole(a, y.detach(), s), (x, beta))
        assert torch.autograd.gradcheck(
            lambda b, s: whole(x.detach(), b.as_subclass(Held), s).as_subclass(torch.Tensor), (y, beta)
        )
    else:
        assert torch.autograd.gradcheck(whole, (x, y, beta))


@pytest.mark.parametrize("width", [0, 3])
def test_the_judge_descends_and_the_towers_ascend(width: int) -> None:
    """Parameters get the slope of the value; features get exactly the negative of it."""
    term = term_of(("adversary", "width", width))
    start = start_of(term)
    assert not width or start["hidden_weight"].shape == (3, 4)
    x, y = (t.clone().requires_grad_() for t in clouds()[:2])
    learned = {name: (value + 0.1).requires_grad_() for name, value in start.items()}
    part(term, x, y, slice(0, 7), 1.0, learned).backward()
    held = {name: value.detach() for name, value in learned.items()}

    def value(a, b, parameters) -> float:
        return part(term, a.detach(), b.detach(), slice(0, 7), 1.0, parameters).item()

    for tensor, sign in [(x, -1), (y, -1), *((t, 1) for t in learned.values())]:
        flat = tensor.detach().reshape(-1)
        slopes = []
        for k in range(flat.numel()):
            moved = []
            for step in (1e-6, -1e-6):
                new = flat.clone()
                new[k] += step
                new = new.view(tensor.shape)
                changed = {name: new if learned[name] is tensor else t for name, t in held.items()}
                moved.append(value(new if tensor is x else x, new if tensor is y else y, changed))
            slopes.append((moved[0] - moved[1]) / 2e-6)
        expected = sign * torch.tensor(slopes, dtype=torch.float64).view(tensor.shape)
        torch.testing.assert_close(tensor.grad, expected, rtol=1e-5, atol=1e-8)


def test_mixtures_lie_on_the_arc() -> None:
    x, y = clouds()[:2]
    for share in (0.0, 0.3, 1.0):
        mixed = between(x, y, share)
        torch.testing.assert_close(mixed.norm(dim=1), torch.ones(7, dtype=torch.float64))
        angle = (x * y).sum(1).acos()
        torch.testing.assert_close((mixed * y).sum(1).acos(), share * angle, rtol=1e-6, atol=1e-6)
    same = between(x, x.clone().requires_grad_(), 0.5)
    assert torch.isfinite(same).all() and (same - x).abs().max() < 1e-3


def test_relative_bias_is_the_sigmoid_loss_with_bias_minus_beta_r() -> None:
    x, y = clouds()[:2]
    beta, r = torch.tensor(9.0, dtype=torch.float64), torch.tensor(0.4, dtype=torch.float64)
    found = RelativeSigmoidLoss()(x, y, beta, {"relative_bias": r})
    assert found.item() == pytest.approx(SigmoidLoss()(x, y, beta, {"bias": -beta * r}).item(), rel=1e-12)
    matched = torch.eye(4, dtype=torch.float64)  # logits 9 (1 - 0.4) on the diagonal, -3.6 elsewhere
    value = RelativeSigmoidLoss()(matched, matched, 9.0, {"relative_bias": r})
    assert value.item() == pytest.approx(softplus(-5.4) + 3 * softplus(-3.6), rel=1e-12)
    pairs = (
        x.clone().requires_grad_(),
        y.clone().requires_grad_(),
        beta.requires_grad_(),
        r.requires_grad_(),
    )
    assert torch.autograd.gradcheck(
        lambda a, b, s, c: RelativeSigmoidLoss()(a, b, s, {"relative_bias": c}), pairs
    )


def test_only_distillation_asks_for_a_teacher() -> None:
    asking = [term for term in TERMS if term.needs_teacher]
    assert [term.__name__ for term in asking] == ["Distillation"]
    assert ClipLoss(terms=[{"name": "distillation"}]).needs_teacher and not ClipLoss().needs_teacher


def test_random_alignment_of_unit_rows_pulls_nowhere_on_average() -> None:
    """References come as z and -z alike, and their pulls along the sphere cancel: no mean is drawn anywhere."""

    class Drawn:
        def __init__(self, sign: int) -> None:
            self.sign = sign

        def standard_normal(self, shape: tuple[int, ...]) -> np.ndarray:
            return self.sign * np.random.default_rng(4).standard_normal(shape)

    def gradients(sign: int) -> torch.Tensor:
        features = torch.randn(2, 6, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        features.requires_grad_()
        x, y = normalize(features, dim=-1)
        term_of(("random-alignment",)).addend(x, y, slice(0, 6), 1.0, {}, StepInputs(Drawn(sign))).backward()
        return features.grad

    one, other = gradients(1), gradients(-1)
    assert one.abs().max() > 0.01 and torch.allclose(one, -other, atol=1e-12)
