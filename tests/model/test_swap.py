"""Swaps: mirrored, pair-keeping, exact at p = 0, at the stated rate, and repeatable from their generator."""

import pytest
import torch
from torch.nn.functional import normalize

from gaprun.model.swap import HardSwap, NoSwap, SoftSwap

N, D = 64, 32


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def pair() -> tuple[torch.Tensor, torch.Tensor]:
    g = generator(7)
    x, y = (torch.randn(N, D, generator=g, dtype=torch.float64) for _ in range(2))
    return normalize(x, dim=-1), normalize(y, dim=-1)


@pytest.mark.parametrize("swap", [NoSwap(), HardSwap(probability=0), SoftSwap(probability=0)])
def test_probability_zero_is_exactly_the_baseline(swap, pair) -> None:
    assert swap.apply(*pair, generator()) == pair  # the very same tensors


def test_hard_swap_exchanges_entries_between_partners(pair) -> None:
    x, y = pair
    a, b = HardSwap(probability=1.0, renormalise=False).apply(x, y, generator())
    kept = a == x
    assert torch.equal(torch.where(kept, x, y), a) and torch.equal(torch.where(kept, y, x), b)
    assert kept.double().mean().item() == pytest.approx(0.5, abs=4 * 0.5 / (N * D) ** 0.5)


def test_soft_swap_is_the_mirrored_mix(pair) -> None:
    x, y = pair
    a, b = SoftSwap(probability=1.0, renormalise=False).apply(x, y, generator())
    torch.testing.assert_close(a + b, x + y)  # l and 1-l add up, entry by entry and pair by pair
    weight = (a - y) / (x - y)
    assert 0 <= weight.min() and weight.max() <= 1
    assert weight.mean().item() == pytest.approx(0.5, abs=4 / (12 * N * D) ** 0.5)


@pytest.mark.parametrize("kind", [HardSwap, SoftSwap])
def test_rows_are_unit_after_renormalising(kind, pair) -> None:
    for rows in kind(probability=1.0).apply(*pair, generator()):
        torch.testing.assert_close(rows.norm(dim=1), torch.ones(N, dtype=torch.float64))


@pytest.mark.parametrize("kind", [HardSwap, SoftSwap])
def test_each_step_swaps_with_probability_p(kind, pair) -> None:
    swaps = sum(kind(probability=0.3).apply(*pair, generator(s))[0] is not pair[0] for s in range(1000))
    assert abs(swaps - 300) < 4 * (1000 * 0.3 * 0.7) ** 0.5


@pytest.mark.parametrize("kind", [HardSwap, SoftSwap])
def test_same_generator_same_swap(kind, pair) -> None:
    first, second = (kind(probability=1.0).apply(*pair, generator(5)) for _ in range(2))
    other = kind(probability=1.0).apply(*pair, generator(6))
    assert torch.equal(first[0], second[0]) and not torch.equal(first[0], other[0])


@pytest.mark.parametrize("kind", [HardSwap, SoftSwap])
def test_gradient_reaches_both_modalities(kind, pair) -> None:
    x, y = (t.clone().requires_grad_() for t in pair)

    def total(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        a, b = kind(probability=1.0).apply(x, y, generator(3))
        return (a * b).sum() + a.square().sum() * 2 + (a**3).sum()

    assert torch.autograd.gradcheck(
        total, (x[:4, :6].detach().requires_grad_(), y[:4, :6].detach().requires_grad_())
    )
