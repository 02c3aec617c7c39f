"""What one more run costs a comparison: no statement, no recipe read, no call of our functions."""

import json
import sys
from collections import Counter
from pathlib import Path

from sqlalchemy import event
from sqlalchemy.engine import Engine

import gaprun
from gaprun.comparison import compare

PACKAGE = str(Path(gaprun.__file__).parent)


def test_one_more_seed_of_a_recipe_costs_no_calls_of_its_own(store, add, monkeypatch):
    counts: Counter[str] = Counter()
    loads = json.loads

    def counted_loads(*args, **options):
        counts["documents"] += 1
        return loads(*args, **options)

    def statement(*_):
        counts["statements"] += 1

    def profile(frame, kind, _):
        if kind == "call" and frame.f_code.co_filename.startswith(PACKAGE):
            counts["calls"] += 1

    def cost(seeds):
        counts.clear()
        event.listen(Engine, "before_cursor_execute", statement)
        sys.setprofile(profile)
        try:
            found = compare("gap", db=str(store.place.path), health=False)
        finally:
            sys.setprofile(None)
            event.remove(Engine, "before_cursor_execute", statement)
        assert {record["n"] for record in found.records()} == {seeds}
        return dict(counts)

    monkeypatch.setattr(json, "loads", counted_loads)
    resolved = {"temperature": {"rule": "exp", "init": 0.07}, "schedule": {"steps": 100}}
    few, many = 4, 24
    for seed in range(few):
        for recipe in ("baseline", "flt"):
            add(recipe, seed, resolved=resolved, gap=0.5 + seed / 100)
    cost(few)  # what is found once and kept: metrics, quantiles
    before = cost(few)
    for seed in range(few, many):
        for recipe in ("baseline", "flt"):
            add(recipe, seed, resolved=resolved, gap=0.5 + seed / 100)
    cost(many)
    after = cost(many)
    assert before["statements"] == after["statements"] > 0
    assert before["documents"] == after["documents"] > 0
    assert after["calls"] - before["calls"] < (many - few) * 2, "less than one call a run"
