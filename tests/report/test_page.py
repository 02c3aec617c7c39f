"""The page's content from databases whose numbers are known: charts' data, marks of missing data, self-containment."""

import html.parser
import json
import math
import re

import numpy as np
import pytest

from gaprun.errors import UserError
from gaprun.report import figures
from gaprun.report.gather import gather
from gaprun.report.page import write_report
from gaprun.store import open_store
from tests.paper.conftest import add_run, recipe_of


@pytest.fixture(params=[(), ("recipe!=flt-0.2",)], ids=["many rows", "ten rows"])
def page(bare, tmp_path, request):
    """The text of a report without checkpoints, and its material: with more rows than colours, and with as many."""
    out = tmp_path / "deep" / "report.html"
    material = write_report(open_store(str(bare)), out, request.param)
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
        if tag not in ("meta", "link", "img", "input", "br"):
            self.open.append(tag)
        self.ids += [found["id"]] if "id" in found else []
        self.addresses += [found[k] for k in ("src", "href") if k in found]
        if (tag == "img" and not found.get("alt")) or (
            found.get("role") == "img" and not found.get("aria-label")
        ):
            self.unnamed.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def charts_of(text):
    found = re.findall(
        r'<script type="application/json" id="chart-(.+?)-spec">(.+?)</script>', text, re.DOTALL
    )
    return {name: json.loads(spec) for name, spec in found}


def test_it_is_one_well_formed_file_that_refers_to_nothing_outside(page):
    text, _ = page
    reader = Reader(text)
    assert reader.open == [] and len(set(reader.ids)) == len(reader.ids) and not reader.unnamed
    assert all(address.startswith(("#", "data:")) for address in reader.addresses)
    style = text[text.index("<style>") : text.index("</style>")]
    assert "url(" not in style and "@import" not in style


def test_every_section_is_there_and_missing_data_is_marked(page):
    text, material = page
    for name in ("compare", "claims", "paper", "training", "closing", "first-steps", "against", "sweep", "clouds",
                 "examples", "health"):  # fmt: skip
        assert f'<section id="{name}">' in text and f'href="#{name}"' in text
    for name in ("clouds", "examples"):
        section = text[text.index(f'<section id="{name}">') :]
        assert "No data." in section[: section.index("</section>")]
    # Without FLT 0.2 there are too few fixed temperatures for C9.
    assert text.count('class="claim supported"') == (9 if len(material.labels) == 11 else 8)


def test_the_first_and_the_tenth_batch_stand_beside_the_published_statement(page):
    text, material = page
    changes = figures.first_batches(material)
    assert set(changes) == {"baseline", "reparam"}
    assert changes["baseline"] == pytest.approx([0.18] * 3, abs=0.01)  # 0.02 a step, nine steps
    section = text[text.index('<section id="first-steps">') :]
    cells = re.sub(r"<[^>]+>", " ", section[: section.index("</table>")]).split()
    assert "published (Fig. 4b) 100 100 about +0.150" in " ".join(cells)
    assert f"baseline 3 3 {np.mean(changes['baseline']):+.3f}" in " ".join(cells)


def test_charts_carry_the_stored_numbers(page):
    text, material = page
    found = charts_of(text)
    study = material.study
    sweep = found["sweep-image-recall-1"]["data"]
    ours, published = sweep
    taus = [s.value for s in study.settings if s.method == "FLT"]
    assert ours["x"] == taus and published["y"][2] == 73.44 and published["line"]["dash"] == "dash"
    for setting, mean, spread in zip(
        [s for s in study.settings if s.method == "FLT"], ours["y"], ours["error_y"]["array"], strict=True
    ):
        values = [r.values["image_recall@1"] for r in study.of(setting).values()]
        assert mean == pytest.approx(np.mean(values), rel=1e-4) and spread == pytest.approx(
            np.std(values, ddof=1), rel=1e-3
        )
    many = len(material.labels) > 10
    baseline, softplus = ("train-gap-0", "train-gap-3") if many else ("train-gap", "train-gap")
    assert [name for name in found if name.startswith("train-gap")] == list(
        dict.fromkeys([baseline, softplus])
    )
    drawn = [trace["name"] for trace in found[softplus]["data"] if trace["showlegend"]]
    assert drawn == ["baseline", "reparam"]
    gap = [trace for trace in found[baseline]["data"] if trace["name"] == "baseline" and trace["showlegend"]]
    paths = [[row["gap"] for row in material.paths[run]] for run in material.runs_of("baseline")]
    assert gap[0]["y"] == pytest.approx(np.mean(paths, axis=0), rel=1e-4)
    assert gap[0]["x"][0] == 1  # step 0 on a logarithmic axis


def test_the_fitted_line_is_the_law_that_made_the_path(page):
    text, _ = page
    lines = [t for t in charts_of(text)["closing"]["data"] if t["name"].startswith("line")]
    (line,) = lines
    slope = (line["y"][1] - line["y"][0]) / (line["x"][1] - line["x"][0])
    assert slope == pytest.approx(-3, abs=0.05)  # gap = 0.05 + 3 / log(t)^2
    assert line["y"][0] - slope * line["x"][0] == pytest.approx(0.05, abs=0.01)
    assert re.search(r"R² (1\.00|0\.99)", text)


def test_points_and_their_means(page):
    text, material = page
    traces = charts_of(text)["retrieval-gap"]["data"]
    big = next(i for i, trace in enumerate(traces) if trace["text"] == ["flt-0.04, mean of 3"])
    small, large = traces[big - 1], traces[big]
    assert len(small["x"]) == 3 and large["x"] == pytest.approx([np.mean(small["x"])], rel=1e-3)
    named = [t["name"] for t in traces if t["showlegend"]]
    assert [t["text"][0].partition(",")[0] for t in traces if len(t["x"]) == 1] == material.labels
    if len(material.labels) <= 10:
        assert named == material.labels
    else:  # a colour a method
        assert named == ["CLIP baseline", "fixed large temperature", "hard swap", "softplus temperature",
                         "temperature scheduling", "smaller temperature rate", "soft swap"]  # fmt: skip
        assert small["name"] == large["name"] == "fixed large temperature"


def test_names_cannot_break_out_of_the_page(tmp_path, bare):
    store = open_store(str(bare))
    material = gather(store)
    evil = "</script><b>"
    material.comparison.groups = [evil if g == "slrt" else g for g in material.comparison.groups]
    material.groups = {r: evil if g == "slrt" else g for r, g in material.groups.items()}
    material.setups[evil] = material.setups["slrt"]
    material.settings = {r: None if g == evil else material.settings[r] for r, g in material.groups.items()}
    from gaprun.report import blocks

    text = blocks.charts(figures.against(material))
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
    slope, intercept, share = figures._fit(x.tolist(), y.tolist())
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
    charts = {chart.name: chart for chart in figures.against(material)}
    assert all(max(trace["x"]) < 1 for trace in charts["retrieval-gap"].data)
    titles = {chart.title: [t["name"] for t in chart.data] for chart in figures.along_training(material)}
    assert set(titles["softplus temperature [steps=10000]"]) == {"long"}
    assert set(titles["softplus temperature [steps=1000]"]) == {"baseline", "reparam"}


def test_set_ups_that_differ_in_much_stay_apart(bare):
    store = open_store(str(bare))
    for name, size in (("wide", 4), ("narrow", 5)):
        recipe = recipe_of("reparam") | {"name": name, "optimizer": {"eps": 1, "lr": 1, "warmup": 1}}
        recipe["schedule"] |= {"batch_size": size}
        add_run(store, name, 0, {"gap": 0.5}, [(0, 1.0), (1, 2.0)], recipe)
    titles = [chart.title for chart in figures.along_training(gather(store)) if "softplus" in chart.title]
    assert len(titles) == len(set(titles)) == 3 and all("{" not in title for title in titles)
