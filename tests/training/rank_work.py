"""What the processes of test_distributed do; each function runs in every rank."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from gaprun.data.cache import DecodedCache
from gaprun.data.stream import Batch, LoadBatch
from gaprun.errors import Failure, UserError
from gaprun.jobs.parallel import _unopened
from gaprun.jobs.run import run_job
from gaprun.model.saved import newest_checkpoint
from gaprun.runtime.distributed import World
from gaprun.runtime.events import LostProcess
from gaprun.store import open_store
from gaprun.training import gradients as buckets
from gaprun.training.batchnorm import SyncedBatchNorm, synchronised
from gaprun.training.state import TrainState
from tests.training.conftest import small_job
from tests.training.gradients import METHODS, VIT, gradients
from tests.training.test_faults import damage

CHUNKED = (*VIT, "compute.micro_batch=3")
RESNET = ()


def steps(world: World, folder: Path) -> None:
    """One float64 step of every method, with a ViT, a ResNet and in micro-batches; the first rank keeps them."""
    scenes = Path(os.environ["GAPRUN_DATA"])
    found = {(method, "vit"): gradients(scenes, method, *VIT, world=world) for method in METHODS}
    for method in ("baseline", "soft-swap"):
        found[method, "resnet"] = gradients(scenes, method, *RESNET, world=world)
        found[method, "chunked"] = gradients(scenes, method, *CHUNKED, world=world)
    terms = "soft-swap, all terms"
    found[terms, "chunked"] = gradients(scenes, terms, *CHUNKED, world=world)
    torch.save(found, folder / f"rank{world.rank}.pt")


def exchanges(world: World, folder: Path) -> None:
    """Every word that processes exchange, checked by value."""
    rank, size = world.rank, world.size
    assert world.agree(rank == 1, False) == [True, False]
    assert world.collect(rank * 10) == [10 * k for k in range(size)]
    assert world.from_first(f"said by {rank}") == "said by 0"
    assert world.on_first(lambda: rank) == 0
    assert world.first_then_rest(lambda: rank) == rank
    assert world.to_first(rank) == (list(range(size)) if rank == 0 else [])
    assert [world.rows(8).start, world.rows(8).stop] == [rank * 8 // size, (rank + 1) * 8 // size]

    def fail() -> None:
        if rank == 1:
            raise Failure("no more disk")

    try:
        world.together(fail)
    except Failure as error:
        assert str(error) == ("no more disk" if rank == 1 else "process 1: no more disk")
    else:
        raise AssertionError("only one process raised")
    try:
        world.rows(size + 1)
    except UserError as error:
        assert "does not divide over" in str(error)
    with world.shared_memory() as memory:
        cache = DecodedCache(np.full((size, 2), 4), None, memory)
    cache.put(rank, np.full((4, 4, 3), rank, dtype=np.uint8))
    world.agree(False)
    seen = [cache.get(index) for index in range(size)]
    assert [int(picture.min()) for picture in seen if picture is not None] == list(range(size))


def norms(world: World, folder: Path) -> None:
    """Synchronised statistics against one layer that sees all rows: values, gradients, running statistics."""
    torch.manual_seed(0)
    x, target = torch.randn(8, 3, 5, 5, dtype=torch.float64), torch.randn(8, 3, 5, 5, dtype=torch.float64)
    for momentum in (0.1, None):
        plain = nn.BatchNorm2d(3, momentum=momentum).double()
        with torch.no_grad():
            plain.weight.uniform_(0.5, 2)
            plain.bias.uniform_(-1, 1)
        ours = synchronised(nn.Sequential(_copy(plain)), world, torch.device("cpu"))[0]
        assert isinstance(ours, SyncedBatchNorm) and ours.state_dict().keys() == plain.state_dict().keys()
        rows = world.rows(8)
        for _ in range(2):
            whole, part = x.clone().requires_grad_(), x[rows].clone().requires_grad_()
            y, z = plain(whole), ours(part)
            (y * target).sum().backward()
            (z * target[rows]).sum().backward()
            torch.testing.assert_close(z, y[rows], rtol=1e-12, atol=1e-12)
            torch.testing.assert_close(part.grad, whole.grad[rows], rtol=1e-10, atol=1e-12)
        summed = world.total(ours.weight.grad)
        torch.testing.assert_close(summed, plain.weight.grad, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(ours.state_dict(), plain.state_dict(), rtol=1e-12, atol=1e-12)
        ours.eval(), plain.eval()
        torch.testing.assert_close(ours(x), plain(x), rtol=1e-12, atol=1e-12)
    try:
        synchronised(nn.Sequential(nn.LazyBatchNorm2d()), world, torch.device("cpu"))
    except UserError as error:
        assert "train it on one process" in str(error)
    else:
        raise AssertionError("an unknown variant was accepted")


def words_statistics_and_gradients(world: World, folder: Path) -> None:
    """All that one start of four processes can check."""
    exchanges(world, folder)
    norms(world, folder)
    sums(world, folder)


def sums(world: World, folder: Path) -> None:
    """Gradients are summed in buckets that leave during the backward pass and are the same in every step, after
    resuming too: with four processes another bucket is another order of summation and so other last bits."""
    noted: list[int | str] = []
    buckets.BUCKET_MB, torch.distributed._DEFAULT_FIRST_BUCKET_BYTES = 0.02, 2**12
    original = torch.distributed.all_reduce

    def all_reduce(tensor: torch.Tensor, **options: object):
        noted.append(tensor.numel())
        return original(tensor, **options)

    buckets.dist.all_reduce = all_reduce

    def begin() -> tuple[nn.Module, Callable]:
        torch.manual_seed(0)
        model = nn.Sequential(*[nn.Sequential(nn.Linear(64, 64), nn.Tanh()) for _ in range(6)])
        model.unused, model.early = nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(3))
        model[0][0].weight.register_post_accumulate_grad_hook(lambda parameter: noted.append("the last"))
        return model, buckets.adding_up(model.parameters(), world)

    def step(model: nn.Module, through: Callable, k: int) -> tuple[list[torch.Tensor], list[int | str]]:
        noted.clear()
        model.zero_grad()
        (model.early * (world.rank + 1)).sum().backward()  # a pass of its own before, as with micro-batches
        generator = torch.Generator().manual_seed(100 * k + world.rank)
        through(lambda: model(torch.randn(16, 64, generator=generator)).square().sum()).backward()
        assert model.unused.grad is None
        assert model.early.grad.tolist() == [world.size * (world.size + 1) / 2] * 3
        return [p.grad.clone() for p in model.parameters() if p.grad is not None], list(noted)

    model, through = begin()
    found = [step(model, through, k) for k in range(3)]
    for k in (1, 2):
        fresh, seen = step(*begin(), k)  # the first step of a process that resumes here
        assert all(torch.equal(*pair) for pair in zip(fresh, found[k][0], strict=True))
        assert seen == found[k][1] == found[0][1]
    assert seen.index("the last") == 3 and len(seen) == 5  # three of four buckets were on their way before it


OPTIONS = ("data.cache=none", "data.workers=0")


def _ends(world: World, folder: Path, *options: str) -> Failure:
    """Train two processes into their shared store until it fails, as it must."""
    job = small_job("baseline", *OPTIONS, *options)
    store = open_store(str(folder / "results.db")) if world.first else _unopened(str(folder / "results.db"))
    try:
        run_job(job, store, "cpu", lambda event: None, world)
    except Failure as error:
        return error
    raise AssertionError("it did not fail")


def damage_is_counted_over_all(world: World, folder: Path) -> None:
    """Five damaged pictures, found by both: over a budget of four they end the run everywhere, within five they do
    not."""
    samples = [10, 60, 90, 150, 200]
    if world.first:
        damage(folder / "own", samples)
    world.agree(False)
    error = _ends(world, folder, "data.damage_budget=0.016")
    assert "5 damaged pictures, more than data.damage_budget allows (4)" in str(error)
    states = world.from_first([str(path) for path in folder.glob("runs/*/checkpoints/*.pt")])
    assert states
    job = small_job("baseline", *OPTIONS, "data.damage_budget=0.02")
    store = open_store(str(folder / "results.db")) if world.first else _unopened(str(folder / "results.db"))
    run_job(job, store, "cpu", lambda event: None, world)
    if world.first:
        (run,) = store.runs()
        assert run.status == "finished" and len(run.notes["damaged"]) == 5
    # A frozen tower's features are made by the first process and found by the second, with what was damaged.
    job = small_job(
        "flt", *OPTIONS, *VIT, "data.damage_budget=0.02", "data.crop=centre", "model.freeze=image"
    )
    run_job(job, store, "cpu", lambda event: None, world)
    if world.first:
        run = store.run(job.id)
        assert run.status == "finished" and len(run.notes["damaged"]) == 5
        assert len(list(store.artifacts.glob("cache/*.features"))) == 1


def an_error_of_the_second_ends_both(world: World, folder: Path) -> None:
    """The second process cannot read on at step 7: both end with its words, and step 7 is saved."""
    original = LoadBatch.load

    def load(self: LoadBatch, step: int) -> Batch:
        if step == 7 and world.rank == 1:
            raise Failure("00000.tar is gone")
        return original(self, step)

    LoadBatch.load = load
    error = _ends(world, folder)
    assert str(error) == ("00000.tar is gone" if world.rank == 1 else "process 1: 00000.tar is gone")
    if world.first:
        (run,) = open_store(str(folder / "results.db")).runs()
        assert run.status == "failed" and run.error == "process 1: 00000.tar is gone"
        newest, _ = newest_checkpoint(folder / "runs" / run.id / "checkpoints")
        assert newest.name == "step-00000007.pt"


def measured_along(world: World, folder: Path) -> None:
    """The same recipe twice: measured at its end, and along training too."""
    gap = "eval=[{task: gap, data: [scenes/test]}]"
    for name, options in (("plain", ()), ("along", ("eval_every.steps=5",))):
        place = str(folder / name / "results.db")
        if world.first:
            (folder / name).mkdir()
        world.agree(False)
        store = open_store(place) if world.first else _unopened(place)
        run_job(small_job("baseline", *OPTIONS, gap, *options), store, "cpu", lambda event: None, world)


def one_is_stopped(world: World, folder: Path) -> None:
    """The second process stops for good at step 5; the first notices within its patience and says so."""
    original = TrainState.train_step

    def train_step(self: TrainState, batch: Batch, measure: bool):
        if self.step == 5 and world.rank == 1:
            (folder / "pid").write_text(str(os.getpid()))
            os.kill(os.getpid(), signal.SIGSTOP)
        return original(self, batch, measure)

    TrainState.train_step = train_step
    job = small_job("baseline", *OPTIONS, "checkpoint.every_steps=2")
    store = open_store(str(folder / "results.db")) if world.first else _unopened(str(folder / "results.db"))
    try:
        with pytest.raises(LostProcess, match="gave no sign for 20 s, it hangs or was stopped") as lost:
            run_job(job, store, "cpu", lambda event: None, world)
        (run,) = store.runs()
        assert run.status == "interrupted" and run.error == str(lost.value)
        newest, _ = newest_checkpoint(folder / "runs" / run.id / "checkpoints")
        assert newest.name == "step-00000004.pt"
    finally:
        os.kill(int((folder / "pid").read_text()), signal.SIGKILL)
    os._exit(0)  # a group that lost a member is not taken down


def device_cache_is_shared_out(world: World, folder: Path) -> None:
    """Trained from a cache that both hold a part of, and from a memory cache: the same weights."""
    hashes = []
    for cache in ("device", "memory"):
        job = small_job("soft-swap", f"data.cache={cache}", "data.workers=1", "schedule.steps=6", *VIT)
        db = str(folder / cache / "results.db")
        if world.first:
            (folder / cache).mkdir()
        world.agree(False)
        store = open_store(db) if world.first else _unopened(db)
        run_job(job, store, "cpu", lambda event: None, world)
        hashes += [store.runs()[0].checkpoint_hash] if world.first else []
    assert len(set(hashes)) == (1 if world.first else 0)


def _copy(layer: nn.BatchNorm2d) -> nn.BatchNorm2d:
    new = nn.BatchNorm2d(layer.num_features, momentum=layer.momentum).double()
    new.load_state_dict(layer.state_dict())
    return new
