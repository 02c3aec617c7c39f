"""`gaprun watch` in headless Chromium while a real training runs: one job fails, one ends, one is stopped."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from gaprun.evaluation.catalogue import value_text
from gaprun.palette import DARK, PAPER
from gaprun.store import open_store
from tests.conftest import RECIPES
from tests.report.screen import SCREENS, in_scheme, on_screen, screenshot, started

pytestmark = pytest.mark.slow
WAIT_SECONDS = 300  # at most, for what takes some ten seconds on a quiet machine
JOBS = f"""
recipes:
  - {{recipe: {RECIPES}/flt.yaml, set: {{optimizer.lr: 1.0e+9}}}}
  - {{recipe: {RECIPES}/baseline.yaml, set: {{schedule.steps: 24}}}}
  - {{recipe: {RECIPES}/hard-swap.yaml, set: {{schedule.steps: 5000, eval_every: {{steps: 40}}}}}}
base: {RECIPES}/base/scenes.yaml
seeds: [0]
"""
SMALL = ("--set", "schedule.warmup_steps=2", "--set", "schedule.batch_size=32", "--jobs", "1")


@pytest.fixture
def begin(tmp_path, scenes):
    """`begin(*args)`: a gaprun of its own that is ended with the test."""
    env = {**os.environ, "OMP_NUM_THREADS": "1", "GAPRUN_DATA": str(scenes)}
    found = []

    def call(*args):
        command = [sys.executable, "-m", "gaprun", *args]
        pipe = subprocess.PIPE if args[0] == "watch" else subprocess.DEVNULL
        found.append(subprocess.Popen(command, cwd=tmp_path, env=env, stdout=pipe, stderr=pipe, text=True))
        return found[-1]

    yield call
    for process in found:
        process.kill()
        process.wait()


@pytest.fixture
def browser():
    found = started()
    on_screen(found, 1440)
    yield found
    found.quit()


def until(question, what):
    end = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < end:
        if found := question():
            return found
        time.sleep(0.3)
    raise AssertionError(f"never seen: {what}")


def texts(browser, path):
    return browser.execute_script(
        "return [...document.querySelectorAll(arguments[0])].map(e => e.innerText.trim())", path
    )


def test_watching_a_training(browser, begin, tmp_path):
    (tmp_path / "jobs.yaml").write_text(JOBS)
    training = begin("train", "jobs.yaml", *SMALL)
    until((tmp_path / "results.db-wal").exists, "the database")
    store = until(lambda: _opened(tmp_path), "its tables")
    watching = begin("watch")
    address = watching.stdout.readline().split()[0]
    browser.get(address)
    until(lambda: len(texts(browser, "#finished tbody tr")) == 1, "the first results")
    until(lambda: len(_panels(browser)) > 3, "what was measured along training")
    ids = {run.recipe: run.id for run in store.runs()}
    _says_what_is_stored(browser, store, ids)
    _looks(browser)

    training.send_signal(signal.SIGINT)
    last = f"Nothing is running. The last was {ids['hard-swap']}: interrupted "
    until(lambda: texts(browser, "#said")[0].startswith(last), "the end")
    why = store.run(ids["hard-swap"]).error
    assert why.startswith("stopped at step ") and why in texts(browser, "#stops .why")
    screenshot(browser, "watch-nothing")

    assert [entry for entry in browser.get_log("browser") if entry["level"] != "DEBUG"] == []
    sent = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = {m["params"]["request"]["url"] for m in sent if m["method"] == "Network.requestWillBeSent"}
    assert all(url.startswith((address, "data:", "blob:")) for url in asked), asked

    watching.send_signal(signal.SIGINT)
    assert watching.communicate(timeout=60) == ("", "") and watching.returncode == 0
    until(lambda: "gaprun watch does not answer" in texts(browser, "#trouble")[0], "that it has ended")


def _opened(folder):
    try:
        return open_store(str(folder / "results.db"), write=False)
    except Exception:
        return None  # it is being made


def _panels(browser):
    return browser.execute_script("return chart.figure.panels.map(p => [p.title, p.marks])")


def _says_what_is_stored(browser, store, ids):
    """Every number on the page is the database's."""
    assert texts(browser, ".job h3") == [f"{ids['hard-swap']}training"]
    facts = texts(browser, ".job .facts span")
    run = store.run(ids["hard-swap"])
    step = next(int(fact.split()[1].replace(",", "")) for fact in facts if fact.startswith("step "))
    assert 0 < step <= run.step and facts[0].endswith(" of 5,000")
    words = " ".join(facts)
    assert all(
        word in words
        for word in (" steps/s", " left", "loss ", "batch gap ", "τ ", " % of the time waiting for data")
    )
    assert texts(browser, "#stops .why") == [store.run(ids["flt"]).error]
    values = {
        row["metric"]: row["value"] for row in store.metrics(ids["baseline"]) if "pool" in row["protocol"]
    }
    heads, cells = texts(browser, "#finished th"), texts(browser, "#finished td")
    place = next(number for number, head in enumerate(heads) if head.startswith("gap"))
    assert cells[0] == ids["baseline"] and cells[place] == value_text("gap", values["gap"])
    panels = dict(_panels(browser))
    assert list(panels)[:3] == ["Loss", "Gap of the training batch", "Temperature τ"]
    assert any(title.startswith("gap on scenes/test") for title in panels)
    for title, column in (
        ("Loss", "loss"),
        ("Gap of the training batch", "gap"),
        ("Temperature τ", "temperature"),
    ):
        marks = {mark["name"]: mark for mark in panels[title]}
        stored = store.trajectory(ids["baseline"])
        assert marks["baseline"]["y"] == [row[column] for row in stored] and marks["baseline"]["faint"]
        assert marks["baseline"]["x"] == [row["step"] + 1 for row in stored]
        course = {row["step"] + 1: row[column] for row in store.trajectory(ids["hard-swap"])}
        drawn = dict(zip(marks["hard-swap"]["x"], marks["hard-swap"]["y"], strict=True))
        newest = (
            [max(drawn)] if title == "Loss" and max(drawn) not in course else []
        )  # the newest loss is a note's
        assert (
            len(drawn) > 20 and {x: y for x, y in drawn.items() if x not in newest}.items() <= course.items()
        )


def _looks(browser):
    """Within the width, in both schemes; keeps the screenshots."""
    for width in SCREENS:
        on_screen(browser, width)
        for scheme in ("light", "dark"):
            in_scheme(browser, scheme)
            paper = DARK[PAPER] if scheme == "dark" else PAPER
            colour = "return [chart.layout.paper_bgcolor, chart.layout.width <= innerWidth]"
            until(lambda: browser.execute_script(colour) == [paper, True], f"{scheme} at {width}")  # noqa: B023
            assert browser.execute_script("return document.documentElement.scrollWidth") <= width
            assert (
                browser.execute_script("return chart.querySelectorAll('.scatterlayer .trace path').length")
                > 5
            )
            screenshot(browser, f"watch-{scheme}")
    on_screen(browser, 1440)
    in_scheme(browser, "light")
