"""Every method's step on a card that is not there: right devices and types, repeatable kernels, no hidden wait."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gaprun.data import resample
from gaprun.data.plan import Plan
from gaprun.data.pool import Pool
from gaprun.data.resident import Holding, ResidentBatches, decode_into
from gaprun.data.split import open_split
from gaprun.data.stream import LoadBatch
from gaprun.errors import UserError
from gaprun.model.loss import LOSSES, SigmoidLoss
from gaprun.model.swap import SoftSwap
from gaprun.model.terms import TERMS
from gaprun.training.checkpoint import _snapshot
from gaprun.training.encoding import Encoding
from gaprun.training.head import Head
from gaprun.training.resident import brought, check_room, resident_stream
from gaprun.training.state import TrainState
from gaprun.training.transfer import on_device
from tests.cuda.card import HiddenWait, MixedTypes, NotRepeatable, Watch, WrongDevice, fake_card
from tests.cuda.steps import CARD, ROWS, VIT, batch_for, recipe_of, state_on
from tests.training.conftest import METHODS

SWAPPED = {"hard-swap", "soft-swap"}


def two_steps(watch: Watch, *overrides: str, method: str = "baseline") -> TrainState:
    """One step that waits for nothing, one that is recorded; every tensor of the state is on the card."""
    state = state_on(watch, recipe_of(method, *overrides))
    batch = batch_for(state)
    loss, record = state.train_step(batch, False)
    assert record is None and loss.device.type == "cuda" and loss.dtype == torch.float32
    with watch.waiting():
        _, record = state.train_step(batch, True)
    assert record is not None and set(record) >= {"loss", "gap", "temperature", "mismatched_share"}
    assert {p.device.type for p in state._trained()} == {"cuda"}
    assert {p.dtype for p in state._trained()} == {torch.float32}
    moments = [t for slots in state.optimizer.state.values() for t in slots.values()]
    assert moments and {t.device.type for t in moments} == {"cuda"}
    return state


@pytest.mark.parametrize("method", METHODS)
def test_a_method_steps_without_waiting(method: str) -> None:
    sets = ["swap.probability=1"] if method in SWAPPED else []
    with fake_card() as watch:
        two_steps(watch, *sets, method=method)
        assert watch.seen >= {"convolution_backward", "_fused_adamw_", "embedding_dense_backward"}


@pytest.mark.parametrize(
    "overrides",
    [
        ["compute.precision=fp32", "compute.channels_last=false"],
        ["compute.precision=fp16", "optimizer.grad_clip=1.0"],
        ["compute.micro_batch=3"],
        ["compute.deterministic=false"],
        [f"model.inline={VIT}".replace("'", ""), "compute.micro_batch=4", "compute.precision=fp16"],
    ],
    ids=["fp32", "fp16", "micro-batch", "not-deterministic", "vit"],
)
def test_precisions_losses_and_micro_batches(overrides: list[str]) -> None:
    with fake_card() as watch:
        two_steps(watch, *overrides)


@pytest.mark.parametrize("loss", LOSSES.names())
def test_every_loss(loss: str) -> None:
    with fake_card() as watch:
        two_steps(watch, f"loss.name={loss}")


@pytest.mark.parametrize("term", TERMS.names())
def test_every_term(term: str) -> None:
    with fake_card() as watch:
        recipe = recipe_of("baseline")
        (chosen,) = (kind for kind in TERMS if kind.model_fields["name"].default == term)
        # Past the recipe's checks: one term wants pretrained weights, which the fake card does not care for.
        loss = recipe.loss.model_copy(update={"terms": [chosen(weight=0.5)]})
        state = state_on(watch, recipe.model_copy(update={"loss": loss}))
        state.train_step(batch_for(state), False)


def test_a_state_is_saved_from_the_card_and_goes_on_there() -> None:
    with fake_card() as watch:
        state = two_steps(watch)
        with watch.waiting():
            saved = _snapshot(state.state_dict())
        assert {t.device.type for t in saved["clip"].values()} == {"cpu"}
        fresh = state_on(watch, state.recipe)
        with watch.waiting():
            fresh.load_state_dict(saved)
        assert fresh.step == 2
        assert {t.device.type for slots in fresh.optimizer.state.values() for t in slots.values()} == {"cuda"}
        fresh.train_step(batch_for(fresh), False)


def test_batches_travel_from_pinned_memory_only() -> None:
    with fake_card() as watch:
        state = state_on(watch, recipe_of("baseline"))
        (moved,) = on_device(iter([batch_for(state)]), CARD)
        assert {moved.pictures.pixels.device.type, moved.tokens.device.type} == {"cuda"}
        with pytest.raises(HiddenWait, match="not pinned"):
            next(on_device(iter([batch_for(state, pinned=False)]), CARD))


def test_a_cache_on_the_card_needs_no_loader_and_no_wait(scenes: Path) -> None:
    """Filling may wait, a step from it may not; the pictures stay where they are."""
    load = loader(scenes)
    with fake_card() as watch:
        state = state_on(watch, recipe_of("soft-swap", "swap.probability=1"))
        with watch.waiting():
            pixels = torch.empty(Holding.of(load.plan.pool.kept, 1).size(0), dtype=torch.uint8, device="cuda")
            damage = decode_into(pixels, load.plan.pool, range(len(load.plan.pool)), 1)
        held = ResidentBatches(load, Holding.of(load.plan.pool.kept, 1), pixels, 0, damage)
        for batch in on_device(resident_stream(held, 0, 2), CARD):
            assert batch.pictures.pixels.device.type == "cuda"
            loss, _ = state.train_step(brought(batch, state), False)
        assert loss.device.type == "cuda" and not damage


def loader(scenes: Path) -> LoadBatch:
    """Batches of the scenes, every caption the same few tokens."""
    pool = Pool([open_split("scenes/train", scenes)], 32)
    return LoadBatch(Plan(pool, 0, ROWS, (0.9, 1.0)), np.ones((len(pool.texts), 16), dtype=np.int64))


def test_a_cache_that_does_not_fit_beside_a_step_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with fake_card() as watch:
        state = state_on(watch, recipe_of("baseline"))
        monkeypatch.setattr("torch.cuda.memory_reserved", lambda device: 3 * 2**30)
        monkeypatch.setattr("torch.cuda.memory_allocated", lambda device: 2**30)
        monkeypatch.setattr("torch.cuda.mem_get_info", lambda device: (5 * 2**30, 80 * 2**30))
        monkeypatch.setattr("gaprun.training.resident.activation_bytes", lambda recipe, rows: 4 * 2**30)
        check_room(2 * 2**30, state)
        words = "data.cache: device: 3.0 GiB of .* and about 4.0 GiB of a step do not fit into the 7.0 GiB"
        with pytest.raises(UserError, match=f"{words} that are free on cuda; set data.cache to memory"):
            check_room(3 * 2**30, state)


def test_the_papers_towers_at_batch_1024() -> None:
    """RN50 at 224 pixels: every shape of the real thing, in seconds."""
    with fake_card() as watch:
        state = state_on(watch, recipe_of("soft-swap", "model.arch=RN50", "model.inline=null"), 1024)
        loss, _ = state.train_step(batch_for(state, 1024), False)
        assert loss.shape == ()


Mutation = Callable[[pytest.MonkeyPatch], None]


def mean_on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    original = Encoding.__init__

    def made(self: Encoding, *given: Any) -> None:
        original(self, *given)
        self._mean = torch.tensor([0.5, 0.5, 0.5])

    monkeypatch.setattr(Encoding, "__init__", made)


def head_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Head, "to", lambda self, device: self)


def swap_weights_on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SoftSwap, "weights", lambda self, x, generator: torch.rand(x.shape))


def signs_on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    def addend(self: Any, x: Any, y: Any, rows: Any, beta: Any, parameters: Any) -> Any:
        signs = 2 * torch.eye(len(x)) - 1
        return -torch.nn.functional.logsigmoid(signs * (x @ y.T * beta)).sum() / len(x)

    monkeypatch.setattr(SigmoidLoss, "addend", addend)


def tokens_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    original = Encoding.inputs
    monkeypatch.setattr(Encoding, "inputs", lambda self, batch: (original(self, batch)[0], batch.tokens))


def boxes_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    original = resample._weights
    monkeypatch.setattr(resample, "_weights", lambda lengths, *rest: original(lengths.cpu(), *rest))


WRONG: list[tuple[Mutation, tuple[str, ...]]] = [
    (mean_on_the_cpu, ()),
    (head_left_behind, ("compute.precision=fp32",)),
    (swap_weights_on_the_cpu, ()),
    (signs_on_the_cpu, ("loss.name=sigmoid", "swap.rule=none")),
    (tokens_left_behind, ()),
    (boxes_left_behind, ()),
]


@pytest.mark.parametrize(("mutation", "overrides"), WRONG, ids=[mutation.__name__ for mutation, _ in WRONG])
def test_a_tensor_on_the_wrong_device_is_caught(mutation: Mutation, overrides: Any, monkeypatch) -> None:
    mutation(monkeypatch)
    sets = ["swap.probability=1", *overrides] if "swap.rule=none" not in overrides else list(overrides)
    method = "baseline" if "swap.rule=none" in overrides else "soft-swap"
    sets = [value for value in sets if value != "swap.rule=none"]
    # The watch's error, or torch's own.
    with pytest.raises((RuntimeError, WrongDevice, HiddenWait)), fake_card() as watch:
        two_steps(watch, *sets, method=method)


def test_reading_the_loss_every_step_is_caught(monkeypatch) -> None:
    original = TrainState._clamp

    def clamp(self: TrainState, *given: Any) -> None:
        assert float(self.head.nu.detach()) > 0
        original(self, *given)

    monkeypatch.setattr(TrainState, "_clamp", clamp)
    with pytest.raises(HiddenWait, match="a value is read"), fake_card() as watch:
        two_steps(watch)


def test_a_kernel_that_does_not_repeat_itself_is_caught(monkeypatch) -> None:
    original = Encoding.features

    def encode(self: Encoding, *inputs: Any) -> Any:
        x, y = original(self, *inputs)
        # torch's own `interpolate` takes another way while deterministic algorithms are on.
        wide = torch.ops.aten.upsample_bilinear2d(x[None, None], (ROWS, x.shape[1]), False)[0, 0]
        return wide, y

    monkeypatch.setattr(Encoding, "features", encode)
    with pytest.raises(NotRepeatable, match="upsample_bilinear2d_backward"), fake_card() as watch:
        two_steps(watch)


def test_a_product_of_mixed_types_is_caught(monkeypatch) -> None:
    original = Encoding.features

    def encode(self: Encoding, *inputs: Any) -> Any:
        x, y = original(self, *inputs)
        return x, y.half()

    monkeypatch.setattr(Encoding, "features", encode)
    with pytest.raises(MixedTypes, match="float32, torch.float16"), fake_card() as watch:
        two_steps(watch)
