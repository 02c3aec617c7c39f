"""A GPU that is full or broken ends one job with a line that says what to set, and leaves the next one a free card."""

import copy
import gc
import inspect
import weakref
from datetime import timedelta
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from gaprun.data.loading import LoaderLost
from gaprun.errors import Failure, UserError
from gaprun.evaluation.run import MORE_ROOM
from gaprun.jobs import parallel
from gaprun.jobs.parallel import Outcome, run_jobs, shared_out
from gaprun.runtime import distributed, joining
from gaprun.runtime.cards import StepFailed, explained, less_memory, let_go
from gaprun.runtime.distributed import World
from gaprun.runtime.environment import pick_device
from gaprun.runtime.spec import Compute
from gaprun.training import loop
from gaprun.training.batchnorm import synchronised
from gaprun.training.state import TrainState
from tests.training.conftest import RunSmall, small_job

FULL = torch.OutOfMemoryError(
    "CUDA out of memory. Tried to allocate 98.00 MiB. GPU 0 has a total capacity of 79.11 GiB of which 3 MiB is free."
)


@pytest.mark.parametrize(
    ("compute", "said"),
    [
        (Compute(precision="bf16"), "set compute.micro_batch=512, or free"),
        (Compute(precision="fp32"), r"compute.micro_batch=512 or compute.precision=bf16 \(half"),
        (Compute(precision="bf16", micro_batch=64), "set compute.micro_batch=32, or free"),
        (Compute(precision="bf16", micro_batch=1), "set a smaller model"),
    ],
)
def test_a_full_card_is_told_in_one_line_that_says_what_to_set(compute: Compute, said: str) -> None:
    with (
        pytest.raises(StepFailed, match=said) as caught,
        explained("step 7", less_memory(compute, 1024), StepFailed),
    ):
        raise FULL
    text = str(caught.value)
    assert "full in step 7 (Tried to allocate 98.00 MiB)" in text and "\n" not in text


def test_other_errors_are_told_apart() -> None:
    with pytest.raises(Failure, match="the GPU failed in step 1 .CUDA error: an illegal memory access"):
        with explained("step 1", ""):
            raise RuntimeError("CUDA error: an illegal memory access was encountered\nmore lines")
    with pytest.raises(RuntimeError, match="shape"), explained("step 1", ""):
        raise RuntimeError("shape mismatch")
    with (
        pytest.raises(Failure, match="gaprun eval --ckpt RUN --device cpu"),
        explained("measuring", MORE_ROOM),
    ):
        raise FULL


def test_the_run_goes_on_from_its_last_checkpoint_to_the_same_weights(
    run_small: RunSmall, monkeypatch
) -> None:
    """Memory runs out after the forward pass has moved the batch statistics: they are put back before it is saved."""
    _, whole = run_small("baseline", db="whole")
    original, steps = TrainState.train_step, []

    def full(self: TrainState, batch, measure):
        if self.step == 7:
            self.encoding.features(*self.encoding.inputs(batch))
            raise FULL
        return original(self, batch, measure)

    monkeypatch.setattr(TrainState, "train_step", full)
    with pytest.raises(Failure, match="full in step 7.*micro_batch=16"):
        run_small("baseline", db="full")
    monkeypatch.setattr(TrainState, "train_step", original)
    job, store = run_small("baseline", db="full", report=lambda event: steps.append(event))
    assert min(event.done for event in steps if event.phase == "train") == 7
    assert store.run(job.id).status == "finished"
    assert store.run(job.id).checkpoint_hash == whole.run(job.id).checkpoint_hash


def test_a_failed_jobs_tensors_are_gone_before_the_next_starts(tmp_path, scenes, monkeypatch) -> None:
    monkeypatch.setenv("GAPRUN_DATA", str(scenes))
    alive: list[weakref.ref] = []
    left: list[bool] = []

    def run(job, store, device, report, world):
        gc.collect()
        left.append(any(one() is not None for one in alive))
        tensor = torch.zeros(4)
        alive.append(weakref.ref(tensor))
        with explained("step 0", "", StepFailed):
            raise FULL

    monkeypatch.setattr(parallel, "run_job", run)
    ended: list[Outcome] = []
    jobs = [small_job("baseline", seed=seed) for seed in range(2)]
    run_jobs(jobs, str(tmp_path / "a.db"), ["cpu"], lambda event: None, ended.append)
    assert [type(outcome.error) for outcome in ended] == [StepFailed, StepFailed] and left == [False, False]


def test_letting_go_follows_every_cause() -> None:
    try:
        try:
            raise FULL
        except RuntimeError as error:
            raise Failure("full") from error
    except Failure as error:
        caught = error
    inner = caught.__cause__
    let_go(caught)
    assert caught.__traceback__ is None and caught.__cause__ is None and inner is not None
    assert inner.__traceback__ is None


def test_several_jobs_on_a_card_have_a_process_each(monkeypatch) -> None:
    """After an illegal access no call of the same process succeeds."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    ways: list[str] = []
    monkeypatch.setattr(parallel, "_side_by_side", lambda *given: ways.append("apart"))
    monkeypatch.setattr(parallel, "_one_by_one", lambda *given: ways.append("here"))
    jobs = [small_job("baseline", seed=seed) for seed in range(2)]
    for chosen, device in ((jobs, "cuda"), (jobs[:1], "cuda"), (jobs, "cpu"), (jobs, "auto")):
        run_jobs(chosen, None, [device], lambda event: None, lambda outcome: None)
    assert ways == ["apart", "here", "here", "apart"]


def test_jobs_are_spread_over_the_cards_and_none_is_touched(monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert (
        shared_out("auto", 3) == ["cuda:0", "cuda:1", "cuda:0"] and shared_out("cuda:1", 2) == ["cuda:1"] * 2
    )
    assert shared_out("cpu", 2) == ["cpu", "cpu"]
    assert pick_device("cuda:1").index == 1 and not torch.cuda.is_initialized()
    with pytest.raises(UserError, match="cuda:2: not available"):
        pick_device("cuda:2")


def test_the_one_card_that_a_process_sees_is_its_own(monkeypatch) -> None:
    chosen: list[int] = []
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    joining._choose_card("cuda", 3)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    joining._choose_card("cuda", 3)
    assert chosen == [0, 3]
    with pytest.raises(UserError, match="process 4 of this machine has no card: there are 4"):
        joining._choose_card("cuda", 4)


def test_two_processes_on_one_card_are_named(monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda k: type("Card", (), {"uuid": "GPU-1"}))
    world = type("World", (), {"rank": 1, "collect": lambda self, own: [own, own]})()
    with pytest.raises(UserError, match="processes 0 and 1 have the same card"):
        joining._check_cards(world)


def test_processes_that_never_met_are_not_lost(monkeypatch) -> None:
    with pytest.raises(Failure, match="the 4 processes did not find each other .*MASTER_ADDR") as caught:
        with joining._joining(4):
            raise torch.distributed.DistNetworkError("connection refused")
    assert type(caught.value) is Failure


def test_steps_wait_minutes_and_measuring_hours(monkeypatch) -> None:
    """Both backends of the first group have the steps' patience; words outside steps go over a group of their own."""
    groups = []
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setattr(
        distributed.dist, "init_process_group", lambda *args, **more: groups.append((args, more))
    )
    monkeypatch.setattr(distributed.dist, "new_group", lambda **more: groups.append(more) or "slow")
    monkeypatch.setattr(distributed.dist, "destroy_process_group", lambda: None)
    monkeypatch.setattr(joining, "_choose_card", lambda device, local: None)
    monkeypatch.setattr(joining, "_check_cards", lambda world: None)
    backend = SimpleNamespace(_set_default_timeout=lambda timeout: groups.append(timeout))
    whole = SimpleNamespace(_get_backend=lambda device: backend if device.type == "cuda" else None)
    monkeypatch.setattr(distributed.dist, "group", SimpleNamespace(WORLD=whole))
    with joining.joined("cuda") as world:
        assert (world.rank, world.slow) == (1, "slow")
    assert groups == [
        (("cpu:gloo,cuda:nccl",), {"timeout": timedelta(minutes=10)}),
        {"backend": "gloo", "timeout": timedelta(hours=2)},
        timedelta(minutes=20),  # nccl's own
    ]
    monkeypatch.setenv("GAPRUN_PATIENCE", "90")
    assert distributed.step_patience() == timedelta(seconds=90)
    for wrong in ("soon", "-1", "0", "nan"):
        monkeypatch.setenv("GAPRUN_PATIENCE", wrong)
        with pytest.raises(UserError, match=f"GAPRUN_PATIENCE: {wrong} is no number"):
            distributed.step_patience()


def test_synchronised_statistics_on_a_card_do_not_wait_for_it(monkeypatch) -> None:
    """torch's layer leaves its wait out where it believes a stream to be captured, and there alone."""
    told: list[bool] = []

    def forward(self: nn.SyncBatchNorm, input: torch.Tensor) -> torch.Tensor:
        told.append(torch.cuda.is_current_stream_capturing())
        return input

    plain = nn.Sequential(nn.BatchNorm2d(3, momentum=0.2))
    layer = synchronised(copy.deepcopy(plain), World(0, 2), torch.device("cuda"))
    assert isinstance(layer[0], nn.SyncBatchNorm) and layer[0].momentum == 0.2
    assert layer.state_dict().keys() == plain.state_dict().keys()
    monkeypatch.setattr(nn.SyncBatchNorm, "forward", forward)
    monkeypatch.setattr("torch.cuda.is_current_stream_capturing", lambda: False)  # it asks the driver
    layer(torch.zeros(2, 3, 1, 1))
    assert told == [True] and not torch.cuda.is_current_stream_capturing()
    source = inspect.getsource(torch.nn.modules._functions.SyncBatchNorm.forward)
    assert "torch.cuda.is_current_stream_capturing()" in source and "count_all[mask]" in source


def test_a_dead_pinning_thread_is_a_dead_loader(monkeypatch) -> None:
    def broken(*given):
        raise RuntimeError("Pin memory thread exited unexpectedly")
        yield

    monkeypatch.setattr(loop, "stream", broken)
    state = type(
        "State", (), {"step": 3, "length": type("L", (), {"total": 5}), "device": torch.device("cpu")}
    )
    with pytest.raises(LoaderLost, match="a loader process was killed .*the checkpoint of step 3 is kept"):
        next(loop._whole_stream(None, state, 2))
