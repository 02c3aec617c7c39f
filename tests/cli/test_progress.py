"""Progress on a terminal and without one: jobs side by side, phases one after another, rate and time left."""

import io

import pytest
from rich.console import Console

from gaprun.cli import progress
from gaprun.runtime.events import Event

EVENTS = [
    Event("baseline-s0", "captions", 10, 10),
    Event("flt-s1", "captions", 10, 10),
    Event("baseline-s0", "train", 10, 100, "loss 4.1"),
    Event("flt-s1", "train", 20, 100),
    Event("baseline-s0", "train", 100, 100, "loss 2.5"),
    Event("baseline-s0", "scenes/test images", 5, 96),
]


@pytest.mark.parametrize("terminal", [True, False])
def test_phases_of_jobs_side_by_side(terminal: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.StringIO()
    console = Console(file=written, force_terminal=terminal, width=160)
    monkeypatch.setattr(progress, "err_console", console)
    with progress.JobProgress() as bars:
        for event in EVENTS:
            bars(event)
            if terminal:
                bars._progress.refresh()
        bars.done("flt-s1")
        bars.message("finished flt-s1")
    shown = written.getvalue()
    assert "train" in shown and "100/100" in shown and "loss 2.5" in shown and "finished flt-s1" in shown
    if terminal:
        assert "scenes/test images" in shown and "flt-s1" in shown and "/s" in shown and "ETA" in shown
