"""Tasks measured along training: the training is the same bit for bit, the values are those of the step's checkpoint,
each step is measured once however often the run is cut off, and no embeddings pile up."""

import os
import signal
from pathlib import Path

import pytest
import torch

from gaprun.errors import UserError
from gaprun.jobs.measure import measure_model
from gaprun.jobs.run import run_job
from gaprun.model.saved import load_checkpoint
from gaprun.model.towers import build_towers
from gaprun.recipe.load import validate
from gaprun.runtime.events import Event, Interrupted
from gaprun.store import Store, open_store
from gaprun.training.head import Head
from gaprun.training.length import run_length
from gaprun.training.midway import as_saved
from gaprun.training.state import TrainState
from tests.training.conftest import RunSmall, small_job
from tests.training.ranks import together

GAP = "{task: gap, data: [scenes/test]}"
EVAL = f"eval=[{GAP}, {{task: retrieval, data: [scenes/test], along: false}}]"
ALONG = (EVAL, "eval_every.steps=5", "data.cache=none", "data.workers=0")


def measured(store: Store, metric: str = "gap", protocol: str = "full") -> dict[int, float]:
    """Value by step of everything stored of a metric."""
    rows = store.metric_rows([metric], [f"protocol={protocol}"], every_step=True)
    assert len({row["step"] for row in rows}) == len(rows)
    return {row["step"]: row["value"] for row in rows}


@pytest.mark.parametrize(
    "extra",
    [(), ("optimizer.ema=0.9",), ("model.freeze=image", "data.crop=centre")],
    ids=["plain", "ema", "frozen"],
)
def test_training_is_the_same_and_values_are_those_of_the_steps_checkpoints(
    extra: tuple[str, ...], run_small: RunSmall, tmp_path: Path
) -> None:
    # A checkpoint is built without channels_last, which moves the last bit of an embedding.
    options = (*ALONG[2:], "swap.probability=0.5", "compute.channels_last=false", *extra)
    job, plain = run_small("soft-swap", EVAL, *options, db="plain")
    same, along = run_small("soft-swap", *ALONG[:2], *options, "checkpoint.keep=9", db="along")
    assert same.id == job.id
    ends = [load_checkpoint(store.artifacts.parent / store.runs()[0].checkpoint) for store in (plain, along)]
    for end in ends:
        end["optimizer"] = end["optimizer"]["state"]
    for name in ("clip", "head", "optimizer", *(["trained"] if "optimizer.ema=0.9" in extra else [])):
        torch.testing.assert_close(ends[0][name], ends[1][name], rtol=0, atol=0)
    assert along.trajectory(job.id) == plain.trajectory(job.id)
    assert along.metrics(job.id)[0]["value"] == plain.metrics(job.id)[0]["value"]

    assert sorted(measured(along)) == [5, 10, 12] and sorted(measured(along, "image_recall@1")) == [12]
    assert sorted(measured(along, "temperature", "final")) == [5, 10, 12]
    assert len(list((along.artifacts / "embeddings").iterdir())) == 1  # the end's
    for step in (5, 10):
        path = along.artifacts / job.id / "checkpoints" / f"step-{step:08d}.pt"
        fresh = open_store(str(tmp_path / f"fresh{step}.db"))
        kinds = {"arch": None, "pretrained": None, "tasks": None, "names": "gap", "device_name": "cpu"}
        by_path = measure_model(fresh, ckpt=str(path), **kinds)
        values = {m["metric"]: m["value"] for m in by_path.metrics if m["protocol"] == "full"}
        assert by_path.encoded == 96 and values["gap"] == measured(along)[step]
        found = measure_model(along, ckpt=job.id, step=step, **kinds)
        assert found.encoded == 0 and {m["step"] for m in found.metrics} == {step}
    with pytest.raises(UserError, match="no intact checkpoint of that step, but of 5, 10, 12"):
        measure_model(along, ckpt=job.id, step=7, **kinds)


def test_a_run_that_is_cut_off_while_it_measures_goes_on_there_and_measures_each_step_once(
    run_small: RunSmall, tmp_path: Path
) -> None:
    job, whole = run_small("baseline", *ALONG, db="whole")
    encoded: list[str] = []

    def count(event: Event) -> None:
        if event.phase == "scenes/test images":
            encoded.append(event.phase)

    def stop_in_second(event: Event) -> None:
        count(event)
        if len(encoded) == 2 and event.phase == "scenes/test images":
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Interrupted, match="stopped at step 10"):
        run_small("baseline", *ALONG, db="cut", report=stop_in_second)
    cut = open_store(str(tmp_path / "cut" / "results.db"))
    early = cut.metric_rows(["gap"], every_step=True)
    protocols = {step: {row["protocol"] for row in early if row["step"] == step} for step in (5, 10)}
    assert protocols == {5: {"full", "pool96"}, 10: {"pool96"}}  # the second step is measured in part
    encoded.clear()
    run_small("baseline", *ALONG, db="cut", report=count)
    assert len(encoded) == 2  # the rest of step 10, and the end
    assert {row["evaluation"] for row in early} <= {
        r["evaluation"] for r in cut.metric_rows(["gap"], every_step=True)
    }
    assert cut.runs()[0].checkpoint_hash == whole.runs()[0].checkpoint_hash
    for protocol in ("full", "pool96"):
        assert measured(cut, protocol=protocol) == measured(whole, protocol=protocol)
    assert not list((cut.artifacts / job.id).glob("**/*.aside*"))

    # Another database that finds the folder gets what was measured along the way from its record.
    other = tmp_path / "cut" / "other.db"
    again = open_store(str(other))
    run_job(small_job("baseline", *ALONG), again, "cpu", lambda event: encoded.append(event.phase))
    assert measured(again) == measured(whole) and len(encoded) == 2


def test_two_processes_train_and_measure_alike_with_and_without(
    scenes: Path, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setenv("GAPRUN_DATA", str(scenes))
    together(2, "tests.training.rank_work:measured_along", tmp_path)
    plain, along = (open_store(str(tmp_path / name / "results.db")) for name in ("plain", "along"))
    assert plain.runs()[0].checkpoint_hash == along.runs()[0].checkpoint_hash
    assert sorted(measured(along)) == [5, 10, 12] and measured(along)[12] == measured(plain)[12]


def test_afterwards_modes_weights_and_random_numbers_are_what_they_were() -> None:
    recipe = small_job("baseline", "optimizer.ema=0.5").recipe
    towers, head = build_towers(recipe.model), Head.of(recipe, 0)
    state = TrainState(recipe, 0, run_length(recipe, 480, 480), towers, head, torch.device("cpu"))
    clip = towers.clip
    frozen = next(
        layer for layer in clip.modules() if isinstance(layer, torch.nn.modules.batchnorm._BatchNorm)
    )
    frozen.eval()
    assert state.average is not None
    state.average.update()
    with torch.no_grad():
        clip.text_projection.add_(1.0)
    state.average.update()
    before = {name: value.clone() for name, value in clip.state_dict().items()}
    torch.manual_seed(3)
    expected = torch.rand(3)
    torch.manual_seed(3)
    with pytest.raises(ZeroDivisionError), as_saved(state):
        assert not any(layer.training for layer in clip.modules())
        moved = before["text_projection"] - clip.state_dict()["text_projection"]
        torch.testing.assert_close(moved, torch.full_like(moved, 0.5), rtol=0, atol=1e-6)
        torch.rand(100)
        raise ZeroDivisionError
    torch.testing.assert_close(dict(clip.state_dict()), before, rtol=0, atol=0)
    assert torch.equal(torch.rand(3), expected)
    assert [layer for layer in clip.modules() if not layer.training] == [frozen]


def test_the_measured_steps_are_the_nearest_to_each_multiple() -> None:
    def steps(*options: str, images: int = 480) -> list[int]:
        recipe = small_job("baseline", f"eval=[{GAP}]", *options).recipe
        return sorted(run_length(recipe, images, images).measured)

    assert steps("eval_every.steps=4") == [4, 8] and steps("eval_every.steps=12") == []
    half = ("eval_every.epochs=0.5", "schedule.steps=null", "schedule.epochs=2")
    assert steps(*half) == [8, 15, 22]  # of 15 an epoch: 7.5, 15 and 22.5, halves to the even one
    with pytest.raises(UserError, match="eval_every.epochs: 0.01 of 15 steps each is less than one step"):
        steps("eval_every.epochs=0.01")


def test_what_cannot_be_measured_along_is_refused() -> None:
    recipe = small_job("baseline").recipe.model_dump(mode="json")
    for eval_every, tasks, reason in (
        ({"steps": 5}, [], "eval_every: nothing in eval is measured along training"),
        ({"steps": 5}, [{"task": "gap", "data": ["a/b"], "along": False}], "nothing in eval is measured"),
        ({"steps": 5, "epochs": 1}, [{"task": "gap", "data": ["a/b"]}], "exactly one of epochs and steps"),
    ):
        with pytest.raises(UserError, match=reason):
            validate(recipe | {"eval": tasks, "eval_every": eval_every}, "r.yaml")
