"""Progress on a terminal and without one: jobs side by side, phases one after another, rate and time left."""

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from gaprun.cli import progress
from gaprun.runtime.events import Event
from gaprun.tables.names import shortened

EVENTS = [
    Event("baseline-s0", "captions", 10, 10),
    Event("flt-s1", "captions", 10, 10),
    Event("baseline-s0", "train", 10, 100, "loss 4.1"),
    Event("flt-s1", "train", 20, 100),
    Event("baseline-s0", "train", 100, 100, "loss 2.5"),
    Event("baseline-s0", "scenes/test images", 5, 96),
]


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> io.StringIO:
    """What a terminal, or a log, of 80 columns gets."""
    text = io.StringIO()
    monkeypatch.setattr(progress, "err_console", Console(file=text, force_terminal=request.param, width=80))
    return text


@pytest.mark.parametrize(("written", "terminal"), [(True, True), (False, False)], indirect=["written"])
def test_phases_of_jobs_side_by_side(written: io.StringIO, terminal: bool) -> None:
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


@pytest.mark.parametrize("written", [True], indirect=True)
def test_something_is_seen_at_once(written: io.StringIO) -> None:
    with progress.bar("writing", "pictures") as advance:
        assert "writing" in written.getvalue() and "0:00:00" in written.getvalue()
        advance(1, 4)
    with progress.waiting("moving particles"):
        assert "moving particles" in written.getvalue()


@pytest.mark.parametrize("written", [False], indirect=True)
def test_a_log_gets_no_lines_of_quick_work(written: io.StringIO) -> None:
    with progress.bar("writing", "pictures") as advance:
        advance(4, 4)
    assert written.getvalue() == ""


@pytest.mark.parametrize("written", [False], indirect=True)
def test_a_log_counts_the_rate_from_where_the_work_began(written: io.StringIO, monkeypatch) -> None:
    """What a stopped run did before it was stopped took none of this one's time."""
    bars, now = progress.JobProgress(), 0.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)
    for done, now in ((900, 0.0), (950, 100.0)):  # noqa: B007 - read above
        bars(Event("shards", "read", done, 1000))
    assert "shards read 950/1000 (0.5/s, ETA 0:01:40)" in written.getvalue()


def test_a_line_of_80_columns_keeps_rate_and_time_left() -> None:
    name = "soft-swap-probability=0.001-s3-e402e578"
    text = progress.line(80, name, "train", 1234, 6000, 12.34, 3725.0, 60.0, "loss 4.123")
    assert len(text) <= 80 and "1234/6000 12.3/s ETA 1:02:05" in text and "train" in text
    assert text.startswith("soft-swap-pro") and "…" in text and "e402e578" in text.split(" ")[0]
    assert (
        progress.line(80, "a", "train", 1, 2, None, None, 0.0) == "a train ━━━━━━────── 1/2 --/s ETA -:--:--"
    )
    assert progress.line(80, "loading", "", 0, None, None, None, 61.0) == "loading  0:01:01"


@given(
    st.integers(40, 200),
    st.text("abc-", max_size=60),
    st.text("train/images ", max_size=40).map(str.strip),
    st.integers(0, 10**6),
    st.sampled_from(["", "loss 4.1"]),
)
def test_a_line_fits_and_never_loses_its_numbers(
    width: int, name: str, phase: str, done: int, note: str
) -> None:
    text = progress.line(width, name, phase, done, 10**6, 3.0, 5.0, 1.0, note)
    assert len(text) <= width and f"{done}/1000000 3.0/s ETA 0:00:05" in text


def test_names_are_shortened_in_the_middle() -> None:
    assert shortened("abcdefghij", 10) == "abcdefghij"
    assert shortened("abcdefghij", 5) == "ab…ij" and shortened("abcdefghij", 2) == "ab"


@pytest.mark.parametrize("written", [True], indirect=True)
def test_a_last_line_is_over_all_jobs(written: io.StringIO) -> None:
    with progress.JobProgress("3 runs: starting", jobs=3) as bars:
        bars(Event("a", "train", 50, 100))
        bars(Event("a", "train", 100, 100))
        bars.ended("a")
        bars._progress.refresh()
        last = written.getvalue().rstrip().splitlines()[-1]
    assert "all: 1 of 3 runs, ETA " in last and "1 of 3 runs" in bars.so_far()
    assert progress.JobProgress("1 run").so_far() == ""


def test_time_left_counts_what_was_done_since_and_not_before() -> None:
    share = progress.Share(4)
    assert share.left(10.0) is None
    share.moved("taken-up", 0.5)
    share.moved("taken-up", 0.75)  # a quarter in 10 s, a quarter of it and three whole jobs to come
    assert share.left(10.0) == pytest.approx((0.25 + 3) * 10 / 0.25)
    share.ended("failed-at-once")
    assert share.left(10.0) == pytest.approx((0.25 + 2) * 10 / 0.25)
