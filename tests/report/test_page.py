"""The page's content from databases whose numbers are known: charts' data, marks of missing data, self-containment."""

import html
import html.parser
import json
import math
import re
from collections import Counter

import numpy as np
import pytest
from scipy import stats

from gaprun.comparison import compare, margins
from gaprun.comparison.answer import sentences
from gaprun.comparison.recipes import RowName
from gaprun.comparison.views import correlations
from gaprun.errors import UserError
from gaprun.palette import GREY
from gaprun.report import blocks, curves, figures, on_paper, opening, overview, setups
from gaprun.report.gather import gather, whole_rows
from gaprun.report.page import write_report
from gaprun.report.sections import every_figure, sections
from gaprun.store import EvaluationKey, NewRun, open_store
from gaprun.tables.numbers import bracketed, fixed
from tests.conftest import REPO
from tests.paper.conftest import add_run, build, recipe_of
from tests.protocols import named


@pytest.fixture(scope="module", params=[(), ("recipe!=flt-0.2",)], ids=["all", "without flt 0.2"])
def page(tmp_path_factory, request):
    """The text of a report without checkpoints, and its material."""
    folder = tmp_path_factory.mktemp("page")
    store = open_store(str(folder / "bare.db"))
    build(store, "support", 3)
    out = folder / "deep" / "report.html"
    material = write_report(store, out, request.param)
    assert len(material.labels) == 11 - len(request.param)
    return out.read_text(), material


class Reader(html.parser.HTMLParser):
    """Collects tags and what they refer to."""

    def __init__(self, text):
        super().__init__()
        self.open, self.ids, self.addresses, self.unnamed = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        if tag not in ("meta", "link", "img", "input", "br", "wbr"):
            self.open.append(tag)
        self.ids += [found["id"]] if "id" in found else []
        self.addresses += [found[k] for k in ("src", "href") if k in found]
        if (tag == "img" and not found.get("alt")) or (
            found.get("role") == "img" and not found.get("aria-label")
        ):
            self.unnamed.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def figures_of(text):
    found = re.findall(
        r'<script type="application/json" id="chart-(.+?)-data">(.+?)</script>', text, re.DOTALL
    )
    return {name: json.loads(spec) for name, spec in found}


def marks_of(figure, panel):
    return next(p for p in figure["panels"] if p["title"].startswith(panel))["marks"]


def test_it_is_one_well_formed_file_that_refers_to_nothing_outside(page):
    text, _ = page
    reader = Reader(text)
    assert reader.open == [] and len(set(reader.ids)) == len(reader.ids) and not reader.unnamed
    assert all(address.startswith(("#", "data:")) for address in reader.addresses)
    style = text[text.index("<style>") : text.index("</style>")]
    assert "url(" not in style and "@import" not in style


def test_every_section_is_there_and_what_does_not_apply_is_folded(page):
    text, material = page
    for name in ("answer", "compare", "claims", "paper", "training", "closing", "first-steps", "against", "sweep",
                 "health"):  # fmt: skip
        assert f'<section id="{name}">' in text and f'href="#{name}"' in text
    for name in ("clouds", "examples"):  # there is no checkpoint
        assert f'href="#{name}"' not in text
        part = text[text.index(f'<details id="{name}">') :]
        assert "No data." in part[: part.index("</details>")]
    # Without FLT 0.2 there are too few fixed temperatures for C9.
    assert text.count('class="claim supported"') == (9 if len(material.labels) == 11 else 8)
    undecided = text.count('class="claim undecided"')
    assert (f"{undecided} undecided</summary>" in text) == (undecided > 0)


def test_somebodys_own_runs_have_no_sections_of_dashes(tmp_path):
    store = open_store(str(tmp_path / "own.db"))
    for name, gap in (("baseline", 0.5), ("mine", 0.3)):
        recipe = recipe_of("baseline") | {
            "name": name,
            "loss": {"name": "clip", "weight": 1.0 + (name == "mine")},
        }
        for seed in range(3):
            add_run(store, name, seed, {"gap": gap + seed / 1000 * (1 + (name == "mine"))}, recipe=recipe)
    write_report(store, tmp_path / "own.html", models=False)
    text = (tmp_path / "own.html").read_text()
    for name in ("claims", "training", "closing", "sweep", "health"):
        assert f'<details id="{name}">' in text and f'<section id="{name}">' not in text
    assert "mine closes the gap, from 0.501 (baseline) to 0.302: −0.199 [" in text


def test_a_baseline_alone_is_shown_by_what_it_reached(tmp_path):
    store = open_store(str(tmp_path / "one.db"))
    for seed, gap in enumerate((0.68, 0.7)):
        add_run(store, "baseline", seed, {"gap": gap, "zeroshot_top1": 30.0 + seed})
    write_report(store, tmp_path / "one.html", models=False)
    text = (tmp_path / "one.html").read_text()
    for name in ("groups", "against"):  # a row alone has nothing to be grouped or to go with
        assert f'<details id="{name}">' in text and f'<section id="{name}">' not in text
    (setup,) = setups.setups_of(gather(store))
    figure = overview.forest(setup)
    assert figure.title == "What each row reached" and figure.note == ""
    ((panel, classes),) = [figure.panels]
    assert [(m.x, m.text) for m in panel.marks] == [
        ([pytest.approx(0.69)], [f"baseline: 0.690 [{0.69 - 0.127062:.3f}, {0.69 + 0.127062:.3f}]"])
    ]  # t of one degree of freedom times 0.01
    assert panel.title == "gap (test)" and panel.x.words == "gap" and classes.x.words == "percent"
    (scatter,) = overview.scatter(setup).panels
    assert scatter.title == "zero-shot top-1: 1 row" and scatter.x.words == "gap on the test split"


def test_gap_and_recall_are_of_one_split_where_both_were_measured(tmp_path):
    """Its gap measured on another split too, which comes first by name, does not stand against this one's recall."""

    def axes(values, name):
        store = open_store(str(tmp_path / name))
        add_run(store, "baseline", 0, values)
        key = EvaluationKey("c-baseline-s0", 1000, "gap", "other", "test", "f9", named("pool512"))
        store.add_evaluation("baseline-s0", key, {"gap": 0.1}, 512, 64)
        for metric in recall:  # measured there otherwise
            key = EvaluationKey("c-baseline-s0", 1000, metric, "other", "test", "f9", named("full"))
            store.add_evaluation("baseline-s0", key, {metric: 9.0}, 512, 64)
        (setup,) = setups.setups_of(gather(store))
        figure = overview.scatter(setup)
        (panel,) = figure.panels
        return panel.marks[-1].x, panel.x.words, panel.y.words, figure.alt

    recall = {"image_recall@1": 40.0, "text_recall@1": 50.0}
    gap, x, y, _ = axes({"gap": 0.7, **recall}, "both.db")
    assert (gap, x, y) == ([0.7], "gap on the test split", "recall@1, mean of both ways (%)")
    gap, x, y, alt = axes(recall, "apart.db")  # each on its own alone: then the axes say so
    assert (gap, x, y) == ([0.1], "gap of other/test", "recall@1 of scenes/test, mean of both ways (%)")
    assert "gap other/test, pool512; recall@1 scenes/test, pool512; recall@1 is the mean of both ways." in alt


def test_a_correlation_of_three_rows_is_no_number(tmp_path):
    store = open_store(str(tmp_path / "three.db"))
    for place, name in enumerate(("baseline", "flt-0.04", "flt-0.1", "flt-0.2")):
        for seed in range(2):
            add_run(store, name, seed, {"gap": 0.6 - place / 10 + seed / 100, "zeroshot_top1": 30.0 + place})
    (panel,) = overview.scatter(*setups.setups_of(gather(store, ["recipe!=flt-0.2"]))).panels
    assert panel.title == "zero-shot top-1: 3 rows"
    (panel,) = overview.scatter(*setups.setups_of(gather(store))).panels
    assert panel.title.startswith("zero-shot top-1: Spearman −1.00 [−1.00, ")


def test_the_forest_says_why_a_difference_has_no_interval(tmp_path):
    store = open_store(str(tmp_path / "one.db"))
    add_run(store, "baseline", 0, {"gap": 0.75})
    add_run(store, "flt-0.1", 0, {"gap": 0.5})
    (panel,) = overview.forest(*setups.setups_of(gather(store))).panels
    assert [mark.text for mark in panel.marks] == [["flt-0.1: −0.250 [one value]"]]


def test_a_figures_correlation_is_that_of_compare_also_where_values_are_missing(tmp_path):
    """A seed's gap and probe may be of two runs of it: the later was not probed, the earlier's gap does not count."""
    store = open_store(str(tmp_path / "twice.db"))
    for place, name in enumerate(("baseline", "flt-0.02", "flt-0.04", "flt-0.1", "flt-0.2")):
        for seed in range(3):
            gap, probe = 0.6 - place / 10 + seed / 100, 40.0 + (place * 7 + seed) % 5
            add_run(
                store, name, seed, {"gap": gap, "probe_top1": probe} if place + seed != 2 else {"gap": 0.9}
            )
    again = recipe_of("flt-0.1") | {"description": "again"}
    add_run(store, "flt-0.1", 0, {"gap": 0.05, "probe_top1": 41.0})
    run = NewRun("again", "flt-0.1", "train", 1, "hash-flt-0.1", again, {}, "0.1.0", "", 1000)
    store.begin_run(run)
    key = EvaluationKey("c-again", 1000, "gap", "scenes", "test", "f1", named("pool512"))
    store.add_evaluation("again", key, {"gap": 0.01}, 512, 64)
    store.finish_run("again", "finished")
    (setup,) = setups.setups_of(gather(store))
    (panel,) = overview.scatter(setup).panels
    (record,) = correlations(compare(["gap", "probe_top1"], db=store.place.name), ["gap"]).records
    low, high = record["spearman_ci95"]
    assert (
        panel.title
        == f"linear probe top-1: Spearman {fixed(record['spearman'], 2)} {bracketed((low, high), 2)}"
    )
    large = {
        label: (x, y) for m in panel.marks if m.listed for x, y, label in zip(m.x, m.y, m.text, strict=True)
    }
    assert large["flt-0.1"] == pytest.approx(((0.05 + 0.01 + 0.32) / 3, (41 + 42 + 43) / 3))
    assert large["baseline"][0] == pytest.approx(0.605)  # seed 2 has no probe


def test_curves_are_of_whole_rows_and_what_is_left_out_is_said_beside_them(page, monkeypatch, tmp_path):
    groups = {"a0": "a", "b0": "b", "a1": "a", "a2": "a", "c0": "c"}
    assert [whole_rows(groups, most) for most in (1, 3, 4, 5)] == [
        ["a0", "a1", "a2"],
        ["a0", "a1", "a2"],
        ["a0", "a1", "a2", "b0"],
        ["a0", "a1", "a2", "b0", "c0"],
    ]
    monkeypatch.setattr("gaprun.report.gather.MOST_PATHS", 7)
    store = open_store(str(tmp_path / "many.db"))
    build(store, "support", 3)
    material = gather(store)
    found = {part.name: part.words for part in sections(material, {})}
    assert all("of 6 of 33 runs; --where chooses others" in found[name] for name in ("training", "health"))
    assert not any("runs; --where" in text for text in (page[0],))


def test_the_first_and_the_tenth_batch_stand_beside_the_published_statement(page):
    text, material = page
    changes = figures.first_batches(material)
    assert set(changes) == {"baseline", "reparam"}
    assert changes["baseline"] == pytest.approx([0.18] * 3, abs=0.01)  # 0.02 a step, nine steps
    section = text[text.index('<section id="first-steps">') :]
    cells = re.sub(r"<[^>]+>", " ", section[: section.index("</table>")]).split()
    assert "published (Fig. 4b) 100 100 about +0.150" in " ".join(cells)
    assert f"baseline 3 3 {np.mean(changes['baseline']):+.3f}" in " ".join(cells)


def test_figures_carry_the_stored_numbers(page):
    text, material = page
    found = figures_of(text)
    study = material.study
    (ours,) = marks_of(found["sweep"], "image recall@1 (%), ours")
    (published,) = marks_of(found["sweep"], "image recall@1 (%), published")
    settings = [s for s in study.settings if s.method == "FLT"]
    assert ours["x"] == [s.value for s in settings] and published["y"][2] == 73.44
    assert published["dash"] == "dash" and published["colour"] != ours["colour"]
    for setting, mean, low in zip(settings, ours["y"], ours["y_ends"][0], strict=True):
        values = [r.values["image_recall@1"] for r in study.of(setting).values()]
        assert mean == pytest.approx(np.mean(values), rel=1e-4)
        half = stats.t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / math.sqrt(len(values))
        assert low == pytest.approx(np.mean(values) - half, rel=1e-3)


def test_curves_are_small_multiples_over_a_grey_baseline(page):
    text, material = page
    figure = figures_of(text)["train-gap"]
    assert figure["shared"] == ["x", "y"]
    assert [panel["title"] for panel in figure["panels"]] == [
        "softplus temperature (reparam)"
    ]  # who else recorded a path
    grey, *thin, mean, _ = figure["panels"][0]["marks"]
    assert (grey["name"], grey["colour"]) == ("baseline", GREY) and mean["colour"] != GREY
    assert len(thin) == 3 and all(mark["faint"] for mark in thin)
    for drawn, label in ((grey, "baseline"), (mean, "reparam")):
        paths = [[row["gap"] for row in material.paths[run]] for run in material.runs_of(label)]
        assert drawn["y"] == pytest.approx(np.mean(paths, axis=0), rel=1e-4)
        assert drawn["x"][0] == 1  # step 0 on a logarithmic axis


def test_the_fitted_line_is_the_law_that_made_the_path(page):
    text, _ = page
    (panel,) = figures_of(text)["closing"]["panels"]
    (line,) = [mark for mark in panel["marks"] if mark["name"] == "straight line"]
    slope = (line["y"][1] - line["y"][0]) / (line["x"][1] - line["x"][0])
    assert slope == pytest.approx(-3, abs=0.05)  # gap = 0.05 + 3 / log(t)^2
    assert line["y"][0] - slope * line["x"][0] == pytest.approx(0.05, abs=0.01)
    assert re.search(r"R² (1\.00|0\.99)", text)


def test_no_law_is_fitted_to_a_curve_that_rises_again():
    falling = [(x / 100, 1 - x / 100) for x in range(100)]
    assert sum(curves.fall(falling), ()) == pytest.approx((0, 0.99, 1, 0.01))
    assert curves.fall([(x, -y) for x, y in falling]) is None, "rises all along"
    again = [(x / 100, abs(x - 60) / 100) for x in range(100)]
    assert curves.fall(again) is None and curves.fall(falling[:5]) is None


def test_the_forest_shows_the_differences_of_compare(page):
    text, material = page
    figure = figures_of(text)["answer"]
    assert [panel["title"] for panel in figure["panels"]] == ["gap (test)", "recall@1", "zero-shot", "probe"]
    names = {place: name for place, name in figure["panels"][0]["y"]["names"]}
    drawn = {
        names[y]: (x, low, high)
        for mark in figure["panels"][0]["marks"]
        for x, y, low, high in zip(mark["x"], mark["y"], *mark["x_ends"], strict=True)
    }
    assert set(drawn) == set(material.labels) - {"baseline"}
    cells = {g: cell for (g, c), cell in material.comparison.cells.items() if c.metric == "gap"}
    for name, found in drawn.items():
        delta = cells[name].difference
        assert found == pytest.approx((delta.delta, *delta.ci95), rel=1e-3)
        filled = [m for m in figure["panels"][0]["marks"] if found[0] in m["x"]]
        assert all(m["symbol"].endswith("-open") == (cells[name].p_shown >= 0.05) for m in filled)
    colours = {mark["name"]: mark["colour"] for panel in figure["panels"] for mark in panel["marks"]}
    assert len(set(colours.values())) == len(colours) and GREY not in colours.values()


MARGINS = {"gap": 0.1, "recall@1": 3.0}


@pytest.fixture(scope="module")
def with_margins(tmp_path_factory):
    """The page of the same runs with margins stated, its one set-up, and the database."""
    folder = tmp_path_factory.mktemp("margins")
    store = open_store(str(folder / "bare.db"))
    build(store, "support", 3)
    material = write_report(store, folder / "report.html", models=False, margin=MARGINS)
    (found,) = setups.setups_of(material)
    return (folder / "report.html").read_text(), found, str(folder / "bare.db")


def test_a_margin_gives_the_verdicts_of_compare(with_margins):
    text, found, database = with_margins
    panels = {panel.title: panel for panel in overview.forest(found).panels}
    records = compare("gap", db=database, margin=MARGINS["gap"]).records()
    told = {r["group"]: r["verdict"] for r in records if r["verdict"]}
    names = dict(panels["gap (test)"].y.names)
    signs = {names[y] for mark in panels["gap (test)"].marks if mark.kind == "words" for y in mark.y}
    assert signs == {group for group, verdict in told.items() if verdict == margins.ALIKE} and signs
    assert panels["gap (test)"].x.margin == 0.1 and panels["recall@1"].x.margin == 3.0
    assert panels["probe"].x.margin is None
    counts = Counter(told.values())
    said = f"gap (0.1): {counts[margins.ALIKE]} with no difference so large, {counts[margins.DIFFERENT]} different"
    assert said in found.verdicts() and found.verdicts() in html.unescape(text)
    assert "Shaded: below the margin (gap (test) 0.1, recall@1 3); ≈" in text and "] ≈ p" in text


def test_the_margin_of_both_recalls_is_that_of_their_mean(with_margins):
    """Schuirmann's two one-sided tests of the paired differences, by scipy, and Holm's correction by hand."""
    _, found, _ = with_margins

    def values(label):
        return np.array([found.values[run]["retrieval"] for run in found.runs[label]])

    base = values("baseline")
    p_values = {}
    for label in found.methods:
        d = values(label) - base
        low = stats.ttest_1samp(d, -3.0, alternative="greater").pvalue
        high = stats.ttest_1samp(d, 3.0, alternative="less").pvalue
        p_values[label] = max(low, high)
    running = 0.0
    for rank, label in enumerate(sorted(p_values, key=p_values.get)):
        running = max(running, min(1.0, p_values[label] * (len(p_values) - rank)))
        cell = found.cell(label, "retrieval")
        assert cell.p_equivalent == pytest.approx(running, rel=1e-6)
        assert cell.equivalent == (running < 0.05)
    assert {found.cell(label, "retrieval").equivalent for label in found.methods} == {True, False}


def test_a_margin_is_shaded_on_paper_too_and_stands_in_the_numbers(with_margins):
    _, found, _ = with_margins
    forest = overview.forest(found)
    shaded = [
        sorted(patch.get_extents().transformed(axes.transData.inverted()).intervalx)
        for axes in on_paper.draw(forest).axes
        for patch in axes.patches
    ]
    assert shaded == [pytest.approx([-0.1, 0.1]), pytest.approx([-3, 3])]
    assert "gap (test),margin,0.0,-0.1,0.1,,,," in on_paper.as_csv(forest)


def test_the_answer_is_what_compare_says_and_its_retrieval_the_mean_of_both_ways(page):
    text, material = page
    (found,) = setups.setups_of(material)
    said = sentences(found.spoken)
    assert len(said) == 3 and all(html.escape(sentence, quote=False) in text for sentence in said)
    best = said[0].partition(" closes the gap most")[0]
    both = [(v["image_recall@1"] + v["text_recall@1"]) / 2
            for run, v in found.values.items() if run in found.runs[best]]  # fmt: skip
    assert found.cell(best, "retrieval").summary.mean == pytest.approx(np.mean(both))


def test_points_and_their_means(page):
    text, material = page
    marks = figures_of(text)["against-gap"]["panels"][0]["marks"]
    large = [mark for mark in marks if mark.get("listed")]
    assert [mark["name"] for mark in large] == [
        "baseline", "fixed large temperature", "temperature scheduling", "softplus temperature",
        "smaller temperature rate", "hard swap", "soft swap",
    ]  # fmt: skip
    assert sorted(name for mark in large for name in mark["text"]) == sorted(material.labels)
    fixed = large[1]
    runs = [m for m in marks if m.get("faint") and m["kind"] == "points" and m["name"] == fixed["name"]]
    for x, own in zip(fixed["x"], runs, strict=True):  # a large mark a recipe: never one over several doses
        assert len(own["x"]) == 3 and x == pytest.approx(np.mean(own["x"]), rel=1e-3)
    (line,) = [m for m in marks if m["kind"] == "line"]
    assert line["x"] == fixed["x"] and line["name"] == fixed["name"]


def test_names_cannot_break_out_of_the_page(tmp_path, bare):
    store = open_store(str(bare))
    material = gather(store)
    evil = "</script><b>"
    material.comparison.groups = [evil if g == "slrt" else g for g in material.comparison.groups]
    material.groups = {r: evil if g == "slrt" else g for r, g in material.groups.items()}
    material.setups[evil] = material.setups["slrt"]
    material.comparison.baselines[evil] = "baseline"
    material.comparison.names[evil] = RowName(evil, evil)
    material.rows = [row | {"group": material.groups[row["id"]]} for row in material.rows]
    material.settings = {r: None if g == evil else material.settings[r] for r, g in material.groups.items()}
    text = blocks.figure(overview.scatter(setups.setups_of(material)[0]))
    assert evil not in text and "\\u003c/script>" in text


def test_a_report_of_nothing_says_so(tmp_path):
    store = open_store(str(tmp_path / "empty.db"))
    with pytest.raises(UserError, match="nothing to report"):
        write_report(store, tmp_path / "out.html")
    assert not (tmp_path / "out.html").exists()


def test_fit_is_numpys():
    generator = np.random.default_rng(0)
    x = generator.normal(size=30)
    y = 2 * x + generator.normal(size=30)
    slope, intercept, share = curves.fit(x.tolist(), y.tolist())
    assert (slope, intercept) == pytest.approx(tuple(np.polyfit(x, y, 1)))
    assert share == pytest.approx(np.corrcoef(x, y)[0, 1] ** 2) and math.isfinite(share)


def test_a_longer_training_is_drawn_apart(bare):
    store = open_store(str(bare))
    recipe = recipe_of("reparam")
    recipe["schedule"]["steps"] = 10_000
    for seed in range(3):  # a gap and a recall that would change every correlation
        values = {"gap": 5.0, "image_recall@1": 99.0, "text_recall@1": 99.0}
        add_run(store, "long", seed, values, [(0, 1.0), (1, 2.0)], recipe | {"name": "long"})
    material = gather(store)
    assert "long" in material.labels and "long" not in material.main
    (short,) = setups.setups_of(material)  # a row alone is compared with nothing, and stands in the table
    (panel, *_) = overview.scatter(short).panels
    assert all(max(mark.x) < 1 for mark in panel.marks) and "long" not in short.labels
    assert short.words == "1,000 steps"


@pytest.fixture(scope="module")
def example():
    """The material of the example, whose set-ups are several."""
    return gather(open_store(str(REPO / "results.db.example")))


def test_each_set_up_has_a_table_of_its_own_without_empty_columns(example):
    material = example
    found = setups.setups_of(material)
    section = opening.compared(material, found).content
    tables = section.split("<table")[1:]
    assert len(tables) == len(found) > 2 and "data_fingerprint" not in section
    for own, table in zip(found, tables, strict=True):
        rows = [
            re.findall("<td.*?</td>", row, re.DOTALL)
            for row in re.findall("<tr.*?</tr>", table, re.DOTALL)[1:]
        ]
        texts = [[re.sub("<[^>]+>", "", cell).strip() for cell in row] for row in rows]
        assert {row[0].removesuffix(" †") for row in texts} == set(own.labels)
        assert all(any(row[place] != "-" for row in texts) for place in range(len(texts[0])))


def test_every_row_with_a_recorded_gap_has_its_curve(example):
    for number, setup in enumerate(setups.setups_of(example)):
        figure = curves.along_training(example, setup, "gap", number)
        drawn = {m.name for panel in figure.panels for m in panel.marks if m.kind == "line"}
        assert drawn == set(setup.labels), setup.words
    assert len(example.paths) == len(example.groups) and not example.notes


def test_correlations_are_of_one_set_up_in_one_place(example):
    found = setups.setups_of(example)
    section = next(part for part in sections(example, {}) if part.name == "against").content
    table = section[: section.index("</table>")]
    cells = [re.sub("<[^>]+>", "", cell) for cell in re.findall("<td.*?</td>", table, re.DOTALL)]
    counts = [int(cell) for cell in cells[3::6]]
    assert len(counts) == 8 and set(counts) == {len(found[0].labels)}  # four metrics against two


def test_no_legend_repeats_the_set_up(example):
    material = example
    assert any("[" in label for label in material.labels)
    found = every_figure(material)
    assert len({figure.name for figure in found}) == len(found) >= 10
    for figure in found:
        for panel in figure.panels:
            assert not any(" steps" in text for mark in panel.marks for text in (mark.name, *mark.text))
            assert not any(" steps" in name for _, name in panel.y.names)
