"""Steps a second and the share of the time that waits for data, by a clock of our own."""

import pytest

from gaprun.comparison.runview import facts_table
from gaprun.store import NewRun, open_store
from gaprun.training.pace import Pace


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def step(pace, clock, waits, works):
    with pace.waiting():
        clock.now += waits
    clock.now += works


def test_rate_and_share_are_of_the_last_half_minute():
    clock = Clock()
    pace = Pace(40, clock)
    assert (pace.note(40, None)["steps_per_second"], pace.note(40, None)["waiting"]) == (None, None)
    for _ in range(4):
        step(pace, clock, waits=0.5, works=1.5)
    found = pace.note(44, 1.25)
    assert (found["step"], found["loss"]) == (44, 1.25)
    assert found["steps_per_second"] == pytest.approx(0.5) and found["waiting"] == pytest.approx(0.25)
    for number in range(45, 105):  # a minute at another pace: what came before is forgotten
        step(pace, clock, waits=0.1, works=0.9)
        found = pace.note(number, 1.0)
    assert found["steps_per_second"] == pytest.approx(1.0) and found["waiting"] == pytest.approx(0.1)


def test_time_without_training_does_not_count():
    clock = Clock()
    pace = Pace(0, clock)
    step(pace, clock, 0.0, 1.0)
    clock.now += 500  # measuring along training
    pace.restart(1)
    step(pace, clock, 0.0, 2.0)
    assert pace.note(2, 1.0)["steps_per_second"] == pytest.approx(0.5)


def test_the_store_keeps_it_beside_other_notes_and_runs_show_says_it(tmp_path):
    store = open_store(str(tmp_path / "results.db"))
    run = NewRun("a-s0", "a", "train", 0, "h", {"name": "a"}, {}, "0", "runs/a-s0", 10)
    store.begin_run(run)
    store.annotate("a-s0", {"damaged": ["x"]})
    pace = {
        "at": "2026-01-01T00:00:00+00:00",
        "step": 4,
        "loss": 1.5,
        "steps_per_second": 12.34,
        "waiting": 0.071,
    }
    store.heartbeat("a-s0", 4, pace)
    store.heartbeat("a-s0", 5)
    found = store.run("a-s0")
    assert (found.step, found.notes) == (5, {"damaged": ["x"], "pace": pace})
    said = {row[0].lines[0]: row[1].lines[0] for row in facts_table(found).rows}
    assert said["pace"] == "12.3 steps a second, 7 % of the time waiting for data (at step 4)"
