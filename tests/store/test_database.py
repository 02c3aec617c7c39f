"""What is written comes back: runs, trajectories, evaluations, and the questions asked of them."""

import math
import os

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gaprun.errors import Failure, UserError


def test_a_run_is_there_from_its_first_second(store, new_run):
    store.begin_run(new_run(optimizer={"lr": 0.1}))
    run = store.run("baseline-s0")
    assert (run.recipe, run.seed, run.status, run.pid, run.step) == ("baseline", 0, "running", os.getpid(), 0)
    assert run.resolved_recipe == {"name": "baseline", "optimizer": {"lr": 0.1}}
    assert (
        run.created == run.started == run.heartbeat
        and run.created.tzinfo is not None
        and run.finished is None
    )


def test_the_end_of_a_run_is_recorded_and_a_resumed_run_takes_it_back(store, new_run):
    store.begin_run(new_run())
    store.finish_run("baseline-s0", "failed", error="disk full")
    failed = store.run("baseline-s0")
    assert (failed.status, failed.error) == ("failed", "disk full") and failed.finished >= failed.started
    store.begin_run(new_run())
    again = store.run("baseline-s0")
    assert (again.status, again.error, again.finished) == ("running", None, None)
    assert again.created == failed.created and again.started > failed.started
    store.finish_run("baseline-s0", "finished", checkpoint="last.pt", checkpoint_hash="c0", notes={"best": 3})
    done = store.run("baseline-s0")
    assert (done.status, done.checkpoint, done.checkpoint_hash, done.notes) == (
        "finished", "last.pt", "c0", {"best": 3},
    )  # fmt: skip


def test_trajectory_rows_are_replaced_by_step_and_nan_is_null(store, new_run):
    store.begin_run(new_run())
    store.record("baseline-s0", [{"step": 0, "loss": 4.5, "gap": 0.2}, {"step": 5, "loss": 4.0}])
    store.record(
        "baseline-s0", [{"step": 5, "loss": math.nan, "temperature": math.inf}, {"step": 9, "loss": 3.0}]
    )
    store.record("baseline-s0", [{"step": 0, "temperature": 0.07}])
    rows = store.trajectory("baseline-s0")
    assert [(r["step"], r["loss"], r["gap"], r["temperature"]) for r in rows] == [
        (0, 4.5, 0.2, 0.07), (5, None, None, None), (9, 3.0, None, None),
    ]  # fmt: skip
    assert store.run("baseline-s0").step == 0  # of the last record: also a heartbeat


def test_numpy_numbers_and_repeated_steps_in_one_record(store, new_run):
    store.begin_run(new_run())
    rows = [
        {"step": np.int64(3), "loss": np.float32(0.5)},
        {"step": 3, "gap": 0.25},
        {"step": 3, "loss": 2.0},
    ]
    store.record("baseline-s0", [*rows, {"step": 4}])
    found = [(row["step"], row["loss"], row["gap"]) for row in store.trajectory("baseline-s0")]
    assert found == [(3, 2.0, 0.25), (4, None, None)] and isinstance(found[0][0], int)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=25)
@given(
    rows=st.dictionaries(
        st.integers(0, 2**40), st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=8
    )
)
def test_every_finite_number_comes_back_to_the_last_bit(store, new_run, rows):
    store.begin_run(new_run())
    for _ in range(2):  # a resumed run writes the same rows again
        store.record("baseline-s0", [{"step": step, "loss": loss} for step, loss in rows.items()])
    found = {row["step"]: row["loss"] for row in store.trajectory("baseline-s0")}
    assert all(found[step] == loss for step, loss in rows.items())


def test_wrong_rows_and_absent_runs_are_errors(store, new_run):
    store.begin_run(new_run())
    with pytest.raises(ValueError, match="loss_typo"):
        store.record("baseline-s0", [{"step": 1, "loss_typo": 1.0}])
    with pytest.raises(ValueError, match="step"):
        store.record("baseline-s0", [{"loss": 1.0}])
    with pytest.raises(ValueError, match="done"):
        store.finish_run("baseline-s0", "done")
    for write in (
        lambda: store.record("absent", [{"step": 1}]),
        lambda: store.heartbeat("absent", 1),
        lambda: store.finish_run("absent", "finished"),
        lambda: store.remove("absent"),
    ):
        with pytest.raises(Failure, match="run absent is not in the database"):
            write()


def test_the_same_evaluation_is_found_and_replaced_never_doubled(store, new_run, key):
    store.begin_run(new_run())
    first = store.add_evaluation(
        "baseline-s0", key(options={"a": 1, "b": [2]}), {"gap": 0.5, "old": 1.0}, 512, 64
    )
    same = key(options={"b": [2], "a": 1}, step=100)
    assert store.find_evaluation("baseline-s0", same).id == first
    assert store.add_evaluation("baseline-s0", same, {"gap": 0.25, "rmg": math.nan}, 512, 64) == first
    assert {m["metric"]: (m["value"], m["n"]) for m in store.metrics("baseline-s0")} == {
        "gap": (0.25, 512), "rmg": (None, 512),
    }  # fmt: skip
    for other in (
        key(),
        key(options={"a": 1, "b": [2]}, definition=2),
        key(options={"a": 1, "b": [2]}, data_fingerprint="f2"),
        key(options={"a": 1, "b": [2]}, checkpoint_hash="decaf"),
    ):
        assert store.find_evaluation("baseline-s0", other) is None
    assert store.find_evaluation("absent", same) is None
    with pytest.raises(Failure, match="absent"):
        store.add_evaluation("absent", same, {"gap": 0.5}, 1, 1)


def test_metric_rows_take_the_furthest_step_and_of_it_what_was_measured_last(store, new_run, key):
    store.begin_run(new_run(temperature={"rule": "exp", "init": 0.07}))
    add = store.add_evaluation
    add("baseline-s0", key(step=100, checkpoint_hash="b", definition=1), {"gap": 0.9}, 512, 64)
    add("baseline-s0", key(step=100, checkpoint_hash="b", definition=2), {"gap": 0.3}, 512, 64)
    add("baseline-s0", key(step=20, checkpoint_hash="a", definition=2), {"gap": 0.8, "rmg": 0.4}, 512, 64)
    add("baseline-s0", key(step=20, checkpoint_hash="a", protocol="pool512"), {"gap": 0.7}, 512, 64)
    rows = store.metric_columns(["gap"], keys=["temperature.rule"]).rows()
    assert sorted((r["protocol"], r["step"], r["value"], r["temperature.rule"]) for r in rows) == [
        ("full", 100, 0.3, "exp"), ("pool512", 20, 0.7, "exp"),
    ]  # fmt: skip
    assert store.metric_names() == ["gap", "rmg"]
    for where, count in (
        (["protocol=full"], 1),
        (["protocol!=full"], 1),
        (["protocol=full", "protocol=pool512"], 2),
        (["protocol=pool*"], 1),
        (["temperature.init=0.070"], 2),
        (["temperature.init=0.05"], 0),
        (["step=100", "seed=0", "recipe=base*"], 1),
        (["status=finished"], 0),
    ):
        assert len(store.metric_rows(["gap"], where)) == count, where


def test_runs_are_filtered_by_columns_and_recipe_keys(store, new_run):
    store.begin_run(
        new_run("baseline", 0, optimizer={"lr": 1e-3}, eval=[{"task": "gap"}], data={"train": ["a"]})
    )
    store.begin_run(new_run("baseline", 1, optimizer={"lr": 1e-3}, eval=[]))
    store.begin_run(new_run("flt", 0, optimizer={"lr": 0.5, "clip": None}, compile=True))
    store.finish_run("flt-s0", "finished")

    def ids(*where):
        assert [r.id for r in store.runs(where)] == [r.id for r in store.runs(where, light=True)]
        return {run.id for run in store.runs(where)}

    assert [run.id for run in store.runs()] == ["flt-s0", "baseline-s1", "baseline-s0"]
    assert ids("status=finished") == {"flt-s0"}
    assert ids("seed=0") == {"flt-s0", "baseline-s0"}
    assert ids("optimizer.lr=0.001", "seed!=1") == {"baseline-s0"}
    assert ids("optimizer.lr=1e-3") == {"baseline-s0", "baseline-s1"}
    assert ids("eval.0.task=gap") == {"baseline-s0"}
    assert ids("compile=true") == {"flt-s0"}
    assert ids("optimizer.clip=null") == {"flt-s0", "baseline-s0", "baseline-s1"}
    assert ids('data.train=["a"]') == {"baseline-s0"}
    with pytest.raises(UserError, match="no run has the key 'optimizer.rl': did you mean optimizer.lr"):
        ids("optimizer.rl=1")
    with pytest.raises(
        UserError, match="n belongs to a measured value and not to a run: use it in `gaprun compare`"
    ):
        ids("n=512")
    for bad in ("lr", "=1", "lr="):
        with pytest.raises(UserError, match="expected key=value"):
            ids(bad)


def test_a_run_is_named_by_any_unique_beginning(store, new_run):
    for seed in (1, 10):
        store.begin_run(new_run("baseline", seed))
    assert store.run("baseline-s10").id == "baseline-s10"
    assert store.run("baseline-s1").id == "baseline-s1"  # the exact id, though it also begins another
    with pytest.raises(UserError, match="could be baseline-s1, baseline-s10"):
        store.run("base")
    with pytest.raises(UserError, match="did you mean baseline-s1"):
        store.run("basline-s1")
    with pytest.raises(UserError, match="no run"):
        store.run("")


def test_removing_a_run_takes_everything_of_it_and_nothing_else(store, new_run, key):
    for seed in (0, 1):
        store.begin_run(new_run("baseline", seed))
        store.record(f"baseline-s{seed}", [{"step": 1, "loss": 1.0}])
        store.add_evaluation(f"baseline-s{seed}", key(), {"gap": 0.5}, 1, 1)
    store.remove("baseline-s0")
    assert [run.id for run in store.runs()] == ["baseline-s1"]
    assert store.trajectory("baseline-s0") == store.metrics("baseline-s0") == []
    assert [row["id"] for row in store.metric_rows(["gap"])] == ["baseline-s1"]
    assert len(store.trajectory("baseline-s1")) == 1


def test_a_forked_child_writes_through_the_same_store(store, new_run):
    store.begin_run(new_run())
    child = os.fork()
    if child == 0:
        try:
            store.record("baseline-s0", [{"step": 1, "loss": 1.0}])
            os._exit(0)
        finally:
            os._exit(1)
    store.record("baseline-s0", [{"step": 2, "loss": 2.0}])
    assert os.waitpid(child, 0)[1] == 0
    store.record("baseline-s0", [{"step": 3, "loss": 3.0}])
    assert [row["loss"] for row in store.trajectory("baseline-s0")] == [1.0, 2.0, 3.0]


def test_annotate_merges_notes_and_changes_nothing_else(store, new_run):
    run = new_run()
    store.begin_run(run)
    store.finish_run(run.id, "finished", notes={"damaged": ["x"]})
    before = store.run(run.id)
    store.annotate(run.id, {"gap_law": {"law": "undecided"}})
    after = store.run(run.id)
    assert after.notes == {"damaged": ["x"], "gap_law": {"law": "undecided"}}
    assert (after.status, after.finished, after.heartbeat) == (
        before.status,
        before.finished,
        before.heartbeat,
    )
