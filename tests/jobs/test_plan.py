"""The plan of a training: every image once an epoch, captions by each rule, all of it a function of (seed, step)."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gaprun.data.plan import Plan
from gaprun.errors import UserError


def pool_of(counts: list[int]) -> SimpleNamespace:
    """A pool of `counts[i]` captions for image i; pictures are not looked at."""

    class Pool(SimpleNamespace):
        def __len__(self) -> int:
            return len(counts)

        __hash__ = object.__hash__

    starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
    texts = [f"{i}/{k}" for i, count in enumerate(counts) for k in range(count)]
    return Pool(caption_counts=np.array(counts), caption_starts=starts, texts=texts)


def weighted(
    counts: list[list[int]], weights: tuple[float, ...], rule: str = "random", batch: int = 1
) -> Plan:
    """A plan over one set for each list of captions' counts."""
    pool = pool_of([count for one in counts for count in one])
    pool.splits = [None] * len(counts)
    sets = np.repeat(np.arange(len(counts)), [len(one) for one in counts])
    pool.members = np.stack([sets, np.zeros_like(sets)], 1)
    return Plan(pool, 0, batch, (0.9, 1.0), 0.0, rule, weights=weights)  # type: ignore[arg-type]


def plan_of(counts: list[int], rule: str, batch: int = 1, seed: int = 0, mismatched: float = 0.0) -> Plan:
    return Plan(pool_of(counts), seed, batch, (0.9, 1.0), mismatched, rule)  # type: ignore[arg-type]


def shown(plan: Plan, epochs: range) -> tuple[np.ndarray, np.ndarray]:
    """Images and captions of all steps of `epochs`."""
    steps = range(epochs.start * plan.steps_per_epoch, epochs.stop * plan.steps_per_epoch)
    images = [plan.images(step) for step in steps]
    captions = [plan.captions(step, own) for step, own in zip(steps, images, strict=True)]
    return np.concatenate(images), np.concatenate(captions)


COUNTS = st.lists(st.integers(1, 6), min_size=1, max_size=12)


@settings(max_examples=40, deadline=None)
@given(COUNTS, st.sampled_from(["random", "cycle", "pairs"]), st.integers(0, 2**31))
def test_a_caption_is_its_images_own_under_every_rule(counts, rule, seed) -> None:
    plan = plan_of(counts, rule, seed=seed)
    owner = np.repeat(np.arange(len(counts)), counts)
    images, captions = shown(plan, range(3))
    assert np.array_equal(owner[captions], images)


@settings(max_examples=40, deadline=None)
@given(COUNTS, st.integers(0, 2**31), st.integers(0, 3))
def test_pairs_shows_every_pair_once_an_epoch(counts, seed, epoch) -> None:
    plan = plan_of(counts, "pairs", seed=seed)
    assert plan.steps_per_epoch == sum(counts)
    _, captions = shown(plan, range(epoch, epoch + 1))
    assert np.array_equal(np.sort(captions), np.arange(sum(counts)))


@settings(max_examples=40, deadline=None)
@given(COUNTS, st.integers(0, 2**31), st.integers(0, 3))
def test_cycle_shows_an_images_captions_equally_often(counts, seed, rounds) -> None:
    plan = plan_of(counts, "cycle", seed=seed)
    for image, count in enumerate(counts):
        images, captions = shown(plan, range(rounds * count, (rounds + 1) * count))
        own = captions[images == image] - plan.pool.caption_starts[image]
        assert np.array_equal(np.sort(own), np.arange(count))


def test_cycle_has_another_order_each_round_and_for_each_image() -> None:
    plan = plan_of([5] * 40, "cycle")
    orders = np.stack([plan._caption_turns(epoch) for epoch in range(20)], 1).reshape(40, 4, 5)
    assert len({tuple(order) for order in orders.reshape(-1, 5)}) > 60  # of 120
    assert np.all(np.sort(orders, 2) == np.arange(5))


def test_random_draws_captions_evenly() -> None:
    plan = plan_of([5] * 256, "random", batch=32)
    _, captions = shown(plan, range(200))
    counts = np.bincount(captions % 5, minlength=5)
    assert np.all(np.abs(counts / counts.sum() - 0.2) < 0.01)


@pytest.mark.parametrize("rule", ["random", "cycle", "pairs"])
def test_any_step_can_be_asked_first_and_seeds_differ(rule: str) -> None:
    counts = [3, 5, 5, 1] * 8
    whole, other = plan_of(counts, rule, batch=8), plan_of(counts, rule, batch=8, seed=1)
    steps = 3 * whole.steps_per_epoch
    expected = [(whole.images(step), whole.captions(step, whole.images(step))) for step in range(steps)]
    for step in reversed(range(steps)):
        plan = plan_of(counts, rule, batch=8)
        assert np.array_equal(plan.images(step), expected[step][0])
        assert np.array_equal(plan.captions(step, plan.images(step)), expected[step][1])
    assert not np.array_equal(other.images(0), whole.images(0))
    assert not np.array_equal(expected[0][0], expected[whole.steps_per_epoch][0])


@pytest.mark.parametrize("rule", ["random", "cycle", "pairs"])
def test_a_replaced_image_is_shown_with_its_own_caption(rule: str) -> None:
    counts = [3, 5, 5, 1] * 4
    plan = plan_of(counts, rule, batch=8)
    owner = np.repeat(np.arange(len(counts)), counts)
    for step in range(6):
        images = (plan.images(step) + 1) % len(counts)
        assert np.array_equal(owner[plan.captions(step, images)], images)


@pytest.mark.parametrize("rule", ["random", "cycle", "pairs"])
@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_the_mismatched_share_is_exact_and_captions_stay_evenly_used(rule: str, share: float) -> None:
    plan = plan_of([5] * 64, rule, batch=8, mismatched=share)
    images, captions = shown(plan, range(5))
    assert np.mean(captions // 5 != images) == pytest.approx(share)
    if rule != "random":
        assert np.ptp(np.bincount(captions, minlength=320)) == 0


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(COUNTS, st.sampled_from([0.1, 0.5, 1.0, 1.4, 2.0, 3.0])), min_size=1, max_size=3),
    st.sampled_from(["random", "cycle", "pairs", "first"]),
)
def test_weighted_sets_pass_evenly_each_by_its_weight(sets, rule) -> None:
    """Every epoch has each set's share; over all of them no row of a set comes twice more than another of it."""
    counts, weights = zip(*sets, strict=True)
    plan = weighted(list(counts), weights, rule)
    images, captions = shown(plan, range(10))
    owner = np.repeat(np.arange(len(plan.pool)), plan.pool.caption_counts)
    assert np.array_equal(owner[captions], images)
    first = 0
    for own, weight in sets:
        rows = sum(own) if rule == "pairs" else len(own)
        seen = captions if rule == "pairs" else images
        offset = int(plan.pool.caption_starts[first]) if rule == "pairs" else first
        times = np.bincount(seen, minlength=len(owner))[offset : offset + rows]
        assert times.sum() == 10 * max(1, round(weight * rows)) and np.ptp(times) <= 1
        first += len(own)
    assert len(images) == 10 * plan.rows


def test_a_doubled_set_is_shown_with_another_caption_each_time() -> None:
    plan = weighted([[4] * 6, [1] * 5], (2.0, 1.0), "cycle")
    images, captions = shown(plan, range(2))
    for image in range(6):
        assert sorted(captions[images == image] - 4 * image) == [0, 1, 2, 3]  # four times in two epochs


@pytest.mark.parametrize("rule", ["random", "pairs"])
def test_any_step_of_a_mix_can_be_asked_first(rule: str) -> None:
    counts, weights = [[3, 5, 1], [2] * 11, [4] * 7], (2.0, 0.3, 1.0)
    whole = weighted(counts, weights, rule, 4)
    expected = [(whole.images(step), whole.captions(step, whole.images(step))) for step in range(25)]
    assert not np.array_equal(expected[0][0], expected[whole.steps_per_epoch][0])
    for step in (24, 3, 11):
        plan = weighted(counts, weights, rule, 4)
        assert np.array_equal(plan.images(step), expected[step][0])
        assert np.array_equal(plan.captions(step, plan.images(step)), expected[step][1])


def test_a_batch_larger_than_an_epoch_is_refused() -> None:
    with pytest.raises(UserError, match="batch_size: 11 is more than the 10 training pairs"):
        plan_of([5, 5], "pairs", batch=11)
    with pytest.raises(UserError, match="batch_size: 3 is more than the 2 training images"):
        plan_of([5, 5], "cycle", batch=3)


@pytest.mark.parametrize(
    "share, images, count", [(0.0, 51, 0), (0.039, 51, 2), (1.0, 51, 51), (0.25, 64, 16)]
)
def test_a_mismatched_share_exchanges_captions_among_so_many(share, images, count) -> None:
    plan = plan_of([1] * images, "first", mismatched=share)
    assert int((plan.captions(0, np.arange(images)) != np.arange(images)).sum()) == count


@pytest.mark.parametrize("share", [0.001, 0.02, 0.029])
def test_a_share_that_exchanges_nothing_is_refused(share) -> None:
    """One image alone would be shown with its own caption: a run without a mismatch under the name of one with."""
    with pytest.raises(UserError, match="data.mismatched: .* of 51 images is [01], .* or 0.0392 or more"):
        plan_of([1] * 51, "first", mismatched=share).captions(0, np.arange(51))
