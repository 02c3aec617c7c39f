"""Losses against their definitions, closed-form gradients, and open_clip's own modules on the same features."""

import math

import open_clip.loss
import pytest
import torch
from torch.nn.functional import normalize

from gaprun.model.loss import ClipLoss, SigmoidLoss
from gaprun.model.temperature import Exponential, ScaledExponential, Softplus


@pytest.fixture
def pair() -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(1)
    x, y = (torch.randn(16, 8, generator=g, dtype=torch.float64) for _ in range(2))
    return normalize(x, dim=-1), normalize(y, dim=-1)


def test_equals_open_clips_loss(pair) -> None:
    x, y = pair
    theirs = open_clip.ClipLoss()(x, y, torch.tensor(14.3, dtype=torch.float64))
    assert ClipLoss()(x, y, 14.3).item() == pytest.approx(theirs.item(), rel=1e-12)


def test_sigmoid_equals_open_clips(pair) -> None:
    x, y = pair
    beta, bias = torch.tensor(9.0, dtype=torch.float64), torch.tensor(-4.0, dtype=torch.float64)
    theirs = open_clip.loss.SigLipLoss()(x, y, beta, bias)
    assert SigmoidLoss()(x, y, beta, {"bias": bias}).item() == pytest.approx(theirs.item(), rel=1e-12)


def test_gradients_are_those_of_earlier_runs_to_the_last_bit() -> None:
    """The order in which gradients add up is part of what makes a run repeat: as in the first release."""
    g = torch.Generator().manual_seed(2)
    x, y = (normalize(torch.randn(64, 16, generator=g), dim=-1).requires_grad_() for _ in range(2))
    nu = torch.tensor(2.7, requires_grad=True)

    def first_release() -> torch.Tensor:
        similarity = x @ y.T
        logits = similarity * nu.exp()
        matched = logits.diagonal()
        return (logits.logsumexp(1) + logits.logsumexp(0) - 2 * matched).mean() / 2

    expected = torch.autograd.grad(first_release(), (x, y, nu))
    found = torch.autograd.grad(ClipLoss()(x, y, nu.exp()), (x, y, nu))
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_known_values() -> None:
    assert ClipLoss()(torch.zeros(8, 3), torch.zeros(8, 3), 10.0).item() == pytest.approx(
        math.log(8), rel=1e-6
    )
    matched = torch.eye(4, dtype=torch.float64)
    expected = math.log(1 + 3 * math.exp(-5.0))
    assert ClipLoss()(matched, matched, 5.0).item() == pytest.approx(expected, rel=1e-12)


def closed_form_gradients(x, y, beta):
    """Gradients of the symmetric cross-entropy to X, Y and beta, from the two softmax matrices."""
    n, similarity = len(x), x @ y.T
    rows, columns = (beta * similarity).softmax(1), (beta * similarity).softmax(0)
    error = (rows + columns - 2 * torch.eye(n, dtype=x.dtype)) / (2 * n)
    return beta * error @ y, beta * error.T @ x, (error * similarity).sum()


@pytest.mark.parametrize(
    "rule", [Exponential(), ScaledExponential(scale=2), Softplus()], ids=lambda r: r.rule
)
def test_gradients_to_features_and_nu(rule, pair) -> None:
    x, y = (t.clone().requires_grad_() for t in pair)
    nu = torch.tensor(rule.initial_nu(), dtype=torch.float64, requires_grad=True)
    beta = rule.beta(nu, 0.0)
    ClipLoss()(x, y, beta).backward()
    to_x, to_y, to_beta = closed_form_gradients(x.detach(), y.detach(), beta.item())
    (slope,) = torch.autograd.grad(rule.beta(nu, 0.0), nu)
    torch.testing.assert_close(x.grad, to_x, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(y.grad, to_y, rtol=1e-10, atol=1e-12)
    assert nu.grad.item() == pytest.approx((to_beta * slope).item(), rel=1e-10)


def test_finite_differences_agree(pair) -> None:
    x, y = pair
    nu = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)
    small = x[:5, :4].clone().requires_grad_(), y[:5, :4].clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda a, b, n: ClipLoss()(a, b, Softplus().beta(n, 0.0)), (*small, nu))


def test_adding_a_constant_to_all_logits_changes_nothing(pair) -> None:
    constant = torch.full((16, 1), math.sqrt(0.37), dtype=torch.float64)
    shifted = (torch.cat([side, constant], 1) for side in pair)
    assert ClipLoss()(*shifted, 20.0).item() == pytest.approx(ClipLoss()(*pair, 20.0).item(), rel=1e-12)
