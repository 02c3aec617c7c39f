"""Query tests from kept files, correlations and the Pareto front of a comparison, and how they are printed."""

import csv
import io
import math

import numpy as np
import pytest
from scipy import stats

from gaprun.comparison import compare, shown, views
from gaprun.comparison.perquery import compare_queries
from gaprun.comparison.querytests import read_outcomes
from gaprun.errors import UserError
from gaprun.protocols import FULL
from gaprun.store import EvaluationKey
from gaprun.tables import csv as comma
from gaprun.tables import latex, markdown


@pytest.fixture
def with_files(store, add, monkeypatch):
    """Two recipes, two seeds; every retrieval evaluation keeps its ranks (40 images, five captions each)."""
    folder = store.artifacts / "details"
    folder.mkdir(parents=True)
    generator = np.random.default_rng(0)
    ranks = {}
    for recipe, chance in (("baseline", 0.4), ("flt", 0.6)):
        for seed in range(2):
            run = add(recipe, seed, gap=chance)
            text = 1 + 2 * (generator.random(40) > chance)
            image = 1 + 2 * (generator.random(200) > chance)
            np.savez(folder / f"{run}.npz", image_rank=image, text_rank=text)
            key = EvaluationKey(f"c-{run}", 100, "retrieval", "scenes", "test", "f1", FULL)
            values = {"image_recall@1": 100 * (image == 1).mean(), "text_recall@1": 100 * (text == 1).mean()}
            store.add_evaluation(run, key, values, 40, 64, f"runs/details/{run}.npz")
            ranks[run] = image, text
    return store, ranks


def test_outcomes_are_paired_by_seed_and_captions_clustered(with_files):
    store, ranks = with_files
    found = compare(["image_recall@1", "text_recall@1"], db=str(store.place.path), queries=True)
    records = {r["metric"]: r for r in found.records() if r["group"] == "flt"}
    image, text = records["image_recall@1"], records["text_recall@1"]
    assert (image["queries"], image["query_units"], image["query_test"]) == (200, 40, "exact sign-flip")
    assert (text["queries"], text["query_units"]) == (40, 40)
    for record in records.values():
        assert record["query_delta"] == pytest.approx(record["delta"])
        assert record["query_ci95"][0] < record["query_delta"] < record["query_ci95"][1]
        assert record["query_p_corrected"] >= record["query_p"]
    one = compare("text_recall@1", db=str(store.place.path), queries=True, where=["seed=0"])
    right = {r: ranks[f"{r}-s0"][1] == 1 for r in ("baseline", "flt")}
    expected = compare_queries([right["flt"]], [right["baseline"]]).p_value
    tested = next(iter(one.queries.values()))
    assert tested.test == "exact McNemar" and tested.p_value == expected
    printed = markdown.render(shown.whole(found))
    assert " Q |" in printed and "over the same queries" in printed


def test_what_has_no_files_says_so(with_files, tmp_path):
    store, _ = with_files
    db = str(store.place.path)
    assert any("no per-query results" in n for n in compare("gap", db=db, queries=True).notes)
    for path in (store.artifacts / "details").iterdir():
        path.unlink()
    assert any("are not at" in n for n in compare("recall@1", db=db, queries=True).notes)


def test_a_damaged_file_is_named_and_the_rest_is_shown(with_files, tmp_path):
    for path in tmp_path.rglob("*.npz"):
        path.write_bytes(path.read_bytes()[:50])
    found = compare("recall@1", db=str(tmp_path / "results.db"), queries=True)
    assert found.cells and not found.queries
    (note,) = [note for note in found.notes if "damaged" in note]
    assert note.startswith("no per-query results of ") and ".npz cannot be read" in note


def test_which_metrics_are_shares_of_right_queries(tmp_path):
    def outcomes(metric, **arrays):
        np.savez(tmp_path / "file.npz", **{name: np.array(array) for name, array in arrays.items()})
        return read_outcomes(tmp_path / "file.npz", metric)

    ranks = {"image_rank": [1, 2, 6], "text_rank": [1, 9], "owner": [0, 0, 1]}
    found = outcomes("image_recall@5", **ranks)
    assert found.right.tolist() == [True, True, False] and found.owner.tolist() == [0, 0, 1]
    assert outcomes("image_median_rank", **ranks) is None
    assert outcomes("image_recall@5", image_rank=[1, 2, 6], text_rank=[1, 9]) is None
    assert outcomes("zeroshot_top5", class_rank=[1, 5, 7]).right.tolist() == [True, True, False]
    assert outcomes("probe_top1", correct=[True, False]).right.tolist() == [True, False]
    # An image without captions has rank 0: it is no query, and not one that is answered right.
    text = outcomes("text_recall@5", image_rank=[1, 2], text_rank=[0, 1, 0, 9])
    assert (text.right.tolist(), text.queries.tolist()) == ([True, False], [1, 3])
    # As many captions as images say nothing: two of them belong to one image here.
    as_many = {"image_rank": [1, 2, 6], "text_rank": [1, 9, 0]}
    assert outcomes("image_recall@5", **as_many, owner=[0, 0, 1]).owner.tolist() == [0, 0, 1]
    assert outcomes("image_recall@5", **as_many) is None
    single = {"image_rank": [1, 2, 6], "text_rank": [1, 9, 2]}
    assert outcomes("image_recall@5", **single, owner=[2, 0, 1]).owner is None
    assert outcomes("image_recall@5", **single).owner is None


def test_queries_are_paired_by_seed_and_recipe(store, add):
    """`--by seed`: two recipes of one seed are two runs, each paired with its own recipe's other seed."""
    folder = store.artifacts / "details"
    folder.mkdir(parents=True)
    generator = np.random.default_rng(2)
    right = {}
    for recipe in ("baseline", "flt"):
        for seed in range(2):
            run = add(recipe, seed, gap=0.5, resolved={"temperature": {"rule": recipe}})
            rank = 1 + 3 * (generator.random(50) > (0.3 if recipe == "flt" else 0.7) + seed / 10)
            rank[::7] = 0
            np.savez(folder / f"{run}.npz", text_rank=rank)
            key = EvaluationKey(f"c-{run}", 100, "retrieval", "scenes", "test", "f1", FULL)
            asked = rank > 0
            values = {"text_recall@1": 100 * (rank[asked] == 1).mean()}
            store.add_evaluation(run, key, values, 50, 64, f"runs/details/{run}.npz")
            right[recipe, seed] = rank[asked] == 1
    options = {"db": str(store.place.path), "by": "seed", "queries": True}
    pooled = compare("text_recall@1", baseline="0", allow_mixed=True, **options)
    (test,) = pooled.queries.values()
    assert test.queries == 42  # images with captions
    expected = np.mean([right[r, 1].mean() - right[r, 0].mean() for r in ("baseline", "flt")])
    assert test.delta == pytest.approx(100 * expected)
    apart = compare("text_recall@1", baseline="0 [flt]", **options)
    (test,) = apart.queries.values()
    assert test.delta == pytest.approx(100 * (right["flt", 1].mean() - right["flt", 0].mean()))
    np.savez(folder / "flt-s1.npz", text_rank=np.ones(50, dtype=int))  # another set of queries
    apart = compare("text_recall@1", baseline="0 [flt]", **options)
    assert not apart.queries and any("not asked the same queries" in note for note in apart.notes)


def test_correlations_are_over_means(store, add):
    gaps, recalls = [0.6, 0.5, 0.4, 0.3, 0.2, 0.1], [40, 44, 43, 50, 52, 51]
    for index, (gap, recall) in enumerate(zip(gaps, recalls, strict=True)):
        for seed, shift in ((0, -0.01), (1, 0.01)):
            add(f"r{index}", seed, gap=gap + shift, probe_top1=recall + 10 * shift)
    found = compare(["gap", "probe_top1"], db=str(store.place.path), health=False)
    view = views.correlations(found, ["gap"])
    (record,) = view.records
    assert record["spearman"] == pytest.approx(stats.spearmanr(gaps, recalls).statistic)
    assert record["pearson"] == pytest.approx(stats.pearsonr(gaps, recalls).statistic) and record["n"] == 6
    with pytest.raises(UserError, match="--correlate rmg"):
        views.correlations(found, ["rmg"])


def test_a_point_of_a_correlation_is_of_the_seeds_that_have_both(store, add):
    """Where values are missing, x and y would be of other models; without any in common there is no point."""
    gaps, probes = [0.6, 0.5, 0.4, 0.3, 0.2], [40, 44, 43, 50, 52]
    for index, (gap, probe) in enumerate(zip(gaps, probes, strict=True)):
        for seed, off in enumerate((0, 0.01, 0.02)):
            values = {"gap": gap + off, "probe_top1": probe - off}
            if seed == 2 and index < 3:  # a gap that would change the order, without its probe
                values = {"gap": 0.1 * index, "probe_top1": math.nan}
            add(f"r{index}", seed, **values)
    add("r5", 0, gap=0.9)
    add("r5", 1, probe_top1=99.0)
    found = compare(["gap", "probe_top1"], db=str(store.place.path), health=False)
    gap, probe = found.columns
    assert views.mean_point(found, "r0", gap, probe) == pytest.approx((0.605, 39.995))
    assert views.mean_point(found, "r4", gap, probe) == pytest.approx((0.21, 51.99))
    assert views.mean_point(found, "r5", gap, probe) is None
    (record,) = views.correlations(found, ["gap"]).records
    expected = stats.pearsonr([0.605, 0.505, 0.405, 0.31, 0.21], [39.995, 43.995, 42.995, 49.99, 51.99])
    assert record["n"] == 5 and record["spearman"] == pytest.approx(stats.spearmanr(gaps, probes).statistic)
    assert record["pearson"] == pytest.approx(expected.statistic)


def test_the_pareto_front(store, add):
    for name, gap, probe in (("a", 0.1, 40), ("b", 0.2, 60), ("c", 0.3, 50), ("d", 0.4, 60), ("e", 0.5, 70)):
        add(name, 0, gap=gap, probe_top1=probe)
    found = compare(["gap", "probe_top1"], db=str(store.place.path), health=False)
    view = views.pareto(found)
    front = {r["group"]: r["dominated_by"] for r in view.records}
    assert front == {"a": [], "b": [], "c": ["b"], "d": ["b"], "e": []}
    with pytest.raises(UserError, match="at least two"):
        views.pareto(compare("gap", db=str(store.place.path), health=False))
    rows = list(csv.reader(io.StringIO(comma.render(view))))
    assert rows[0][0] == "group" and len(rows) == 6
    assert r"\uparrow" in latex.render(view) and markdown.render(view).count("\n| ") == 5
