"""The report in headless Chromium: no errors, no requests, every figure drawn, sorting and filtering, two widths, two
colour schemes, figures as files.

Screenshots go to the folder GAPRUN_SCREENSHOTS names, if it does.
"""

import json
import time
import urllib.parse

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from gaprun.cli import report as cli
from gaprun.palette import DARK, INK, PAPER
from gaprun.report.pictures import principal_plane
from tests.conftest import REPO, run_gaprun
from tests.report.screen import SCREENS, in_scheme, on_screen, screenshot, started

pytestmark = pytest.mark.slow
DARK_PAPER, DARK_INK = DARK[PAPER], DARK[INK]


def test_the_principal_plane_is_the_covariances():
    generator = np.random.default_rng(0)
    images, texts = generator.normal(size=(40, 8)) + 1, generator.normal(size=(40, 8)) * np.arange(1, 9)
    a, b = principal_plane(images, texts)
    spread = np.linalg.eigvalsh(np.cov(np.concatenate([images, texts]).T))[::-1][:2]
    assert np.concatenate([a, b]).var(axis=0, ddof=1) == pytest.approx(spread)
    assert (a.mean(axis=0) >= b.mean(axis=0)).all()


@pytest.fixture(scope="module")
def report(trained):
    folder, env = trained
    app = typer.Typer()
    cli.register(app)
    args = ["--out", str(folder / "report.html")]
    CliRunner(env=env).invoke(app, args, catch_exceptions=False)
    return folder / "report.html"


@pytest.fixture(scope="module")
def example_report(tmp_path_factory):
    """The report on results.db.example, whose checkpoints are nowhere."""
    out = tmp_path_factory.mktemp("example") / "example.html"
    done = run_gaprun("report", "--db", "results.db.example", "--out", str(out), cwd=REPO)
    assert done.returncode == 0, done.stderr
    return out


@pytest.fixture(params=SCREENS)
def browser(request):
    """Chromium at one width with its console and network recorded; skips where it is not installed."""
    found = started()
    on_screen(found, request.param)
    yield found
    found.quit()


def test_the_report_works_in_a_browser(browser, report):
    names = _works(browser, report)
    assert {"answer", "against-gap", "train-gap", "train-temperature", "closing", "first-steps", "against-uniformity",
            "sweep", "cloud-0", "cloud-1"} <= names  # fmt: skip
    pictures = "return [...document.images].map(i => i.complete && i.naturalWidth)"
    sizes = browser.execute_script(pictures)
    assert len(sizes) == 12 and all(sizes)


def test_the_report_of_the_example_database_works_too(browser, example_report):
    names = _works(browser, example_report)
    assert {"answer", "answer-1", "against-gap", "train-gap", "train-gap-1", "closing", "sweep"} <= names
    browser.execute_script(
        "scrollTo(0, 0); document.querySelectorAll('details').forEach(d => { d.open = false; })"
    )
    bottom = "return document.getElementById('chart-answer').getBoundingClientRect().bottom"
    assert browser.execute_script(bottom) <= SCREENS[browser.width], (
        "the first figure is within the first screen"
    )
    for name in ("clouds", "examples"):
        part = browser.find_element("id", name)
        assert part.tag_name == "details" and "No data." in part.get_attribute("textContent")


def _works(browser, report):
    """Everything that holds for any report; returns the figures' names."""
    names = _opens(browser, report)
    _sorts_and_filters(browser)
    _switches_axes(browser, "train-gap")
    _takes_marks_away(browser)
    _is_silent(browser, report)
    _is_dark(browser, report)
    if browser.width > 600:
        _saves(browser)
        _prints(browser)
    return names


def _opens(browser, report):
    """Open the page, wait for its charts, check that each shows its data within the width; returns their names."""
    browser.get(report.as_uri())
    browser.execute_script(  # also what lies below the first screen or is folded
        "document.querySelectorAll('details:has(.chart)').forEach(d => { d.open = true; }); drawAll()"
    )
    drawn = (
        "return charts.map(c => [c.id.replace('chart-', ''), c.querySelectorAll('.main-svg').length,"
        " c.data.map(t => t.x.length)])"
    )
    for _ in range(200):
        charts = browser.execute_script(drawn)
        if charts and all(found[1] for found in charts):
            break
        time.sleep(0.1)
    for name, svgs, lengths in charts:
        assert svgs and lengths and all(lengths), name
    shapes = "return charts.map(c => c.querySelectorAll('.scatterlayer .trace path').length)"
    assert all(count > 0 for count in browser.execute_script(shapes))
    assert browser.execute_script("return document.documentElement.scrollWidth") <= browser.width
    assert all(w <= browser.width for w in browser.execute_script("return charts.map(c => c.clientWidth)"))
    _axes_can_be_read(browser)
    first = "return document.querySelector('#compared td').offsetWidth"
    assert browser.execute_script(first) <= browser.width / 2  # it stays in view while the others scroll
    return {name for name, _, _ in charts}


def _axes_can_be_read(browser):
    """Two numbers at least within the ends of every axis, 0 where differences are shown, names within their room."""
    axes = (
        "return charts.filter(c => c.layout).flatMap(c => Object.keys(c.layout).filter(k => /^[xy]axis/.test(k))"
        ".map(k => [c.id, k, c.layout[k].type, c._fullLayout[k].range, c.layout[k].tickvals]))"
    )
    for chart, axis, kind, ends, ticks in browser.execute_script(axes):
        if kind == "log":
            within = [tick for tick in ticks if ends[0] <= np.log10(tick) <= ends[1]]
            assert len(within) >= 2 or ends[1] - ends[0] < 1e-6, (chart, axis, ends, ticks)
    shown = (
        "return charts.filter(c => c.layout).flatMap(c => Object.keys(c.layout).filter(k => /^[xy]axis/.test(k))"
        ".filter(k => c.layout[k].type !== 'log' && c.layout[k].ticks !== '' && c.layout[k].showticklabels !== false)"
        ".map(k => [c.id, k, [...c.querySelectorAll(`.${k.replace('axis', '')}tick text`)].map(t => t.textContent)]))"
    )
    for chart, axis, ticks in browser.execute_script(shown):
        assert len([tick for tick in ticks if tick]) >= 2, (chart, axis, ticks)
    differences = (
        "return charts.filter(c => c.layout).flatMap(c => Object.keys(c.layout).filter(k => /^[xy]axis/.test(k))"
        ".filter(k => c.layout[k].zeroline)"
        ".map(k => [c.id, k, ...c._fullLayout[k].range]))"
    )
    for chart, axis, low, high in browser.execute_script(differences):
        assert low <= 0 <= high, (chart, axis, low, high)
    names = (
        "return charts.map(c => [c.layout?.yaxis, c.layout?.margin.l])"
        ".filter(([y]) => y?.ticktext && y.type !== 'log')"
        ".map(([y, left]) => [Math.max(...y.ticktext.map(t => widthIn(t, y.tickfont.size))), left])"
    )
    assert all(wide <= left for wide, left in browser.execute_script(names))
    text, wide = browser.execute_script(
        "const t = fitted('a-name-' + '長い'.repeat(30) + '-its-end', 120, 11); return [t, widthIn(t, 11)]"
    )
    assert text.startswith("a-name-") and "…" in text and text.endswith("its-end") and wide <= 120
    assert browser.execute_script("return fitted('flt-tau=0.2', 120, 11)") == "flt-tau=0.2"


def _is_silent(browser, report):
    """Nothing in the console, nothing loaded but the page; keeps the screenshot."""
    assert [entry for entry in browser.get_log("browser") if entry["level"] != "DEBUG"] == []
    sent = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    addresses = {m["params"]["request"]["url"] for m in sent if m["method"] == "Network.requestWillBeSent"}
    assert {a for a in addresses if not a.startswith("data:")} == {report.as_uri()}
    screenshot(browser, report.stem)


def _prints(browser):
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    browser.execute_script("dispatchEvent(new Event('beforeprint'))")
    widths = set(browser.execute_script("return charts.filter(c => c.layout).map(c => c.layout.width)"))
    assert max(widths) <= (8.27 - 2 * 0.4) * 96 - 2 * 16  # A4 within the browser's margins and the page's own
    for _ in range(100):  # the charts are drawn to the page's width one after another
        if browser.execute_script("return document.documentElement.scrollWidth") <= browser.width:
            break
        time.sleep(0.1)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= browser.width
    long_name = """
        const cell = document.querySelector('table:not(.sortable) td'), before = cell.innerHTML
        cell.textContent = 'name'.repeat(100)
        const width = document.documentElement.scrollWidth
        cell.innerHTML = before
        return width"""
    assert browser.execute_script(long_name) <= browser.width  # else the browser makes every letter smaller
    assert browser.execute_script("return getComputedStyle(document.querySelector('nav')).display") == "none"
    folded = "return [...document.querySelectorAll('details:not(.words)')].filter(d => !d.open).length"
    assert browser.execute_script(folded) == 0
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})


def _sorts_and_filters(browser):
    """By the third column; by words in rows and columns; few columns first, all on demand."""
    names = "return [...document.querySelectorAll('#compared tbody tr')].map(r => r.cells[0].innerText)"
    every = browser.execute_script(names)
    column = "return [...document.querySelectorAll('#compared tbody tr')].map(r => r.cells[2].dataset.value)"
    button = browser.find_elements("css selector", "#compared thead button")[2]
    for descending in (False, True):
        browser.execute_script("arguments[0].click()", button)
        values = [float(v) for v in browser.execute_script(column) if v]
        assert len(values) > 2 and values == sorted(values, reverse=descending)
    rows, columns, switch = browser.find_elements("css selector", "#compared-tools input")
    heads = (
        "return [...document.querySelectorAll('#compared th')].filter(h => !h.hidden).map(h => h.innerText)"
    )
    few = [head.split()[0] for head in browser.execute_script(heads)]
    assert few[:2] == ["recipe", "seeds"]  # each of these once, or once a set-up
    assert set(few[2:]) == {"gap", "image_recall@1", "text_recall@1", "zeroshot_top1", "probe_top1"}
    browser.execute_script("arguments[0].click()", switch)
    assert len(browser.execute_script(heads)) > max(12, len(few))
    browser.execute_script("arguments[0].click()", switch)
    rows.send_keys("flt")
    shown = names.replace(".map(", ".filter(r => !r.hidden).map(")
    assert sorted(browser.execute_script(shown)) == sorted(name for name in every if "flt" in name)
    columns.send_keys("probe")
    left = [name.split()[0] for name in browser.execute_script(heads)]
    assert left[:2] == ["recipe", "seeds"] and set(left[2:]) == {"probe_top1"}
    for box in (rows, columns):
        box.clear()
        browser.execute_script("arguments[0].dispatchEvent(new Event('input'))", box)
    assert len(browser.execute_script(shown)) == len(every)


def _switches_axes(browser, name):
    now = f"return document.getElementById('chart-{name}').layout"
    for axis, kind in (("x", "linear"), ("y", "log"), ("x", "log")):
        path = f'button[data-chart="chart-{name}"][data-axis="{axis}"][data-type="{kind}"]'
        browser.execute_script("document.querySelector(arguments[0]).click()", path)
        assert browser.execute_script(now)[f"{axis}axis"]["type"] == kind
        pressed = browser.execute_script("return document.querySelector(arguments[0]).ariaPressed", path)
        assert pressed == "true"


def _takes_marks_away(browser):
    """A click on an entry of a legend, and another that brings its marks back."""
    button = "document.querySelector('.legend button')"
    count = f"return [{button}.closest('figure').querySelector('.chart').data.length, {button}.ariaPressed]"
    before, _ = browser.execute_script(count)
    browser.execute_script(f"{button}.click()")
    less, pressed = browser.execute_script(count)
    assert less < before and pressed == "false"
    browser.execute_script(f"{button}.click()")
    assert browser.execute_script(count) == [before, "true"]


def _is_dark(browser, report):
    """Figures follow the colour scheme; keeps the screenshot of the dark page."""
    in_scheme(browser, "dark")
    paper = "return [charts[0].layout.paper_bgcolor, getComputedStyle(document.body).color]"
    for _ in range(50):
        found = browser.execute_script(paper)
        if found[0] == DARK_PAPER:
            break
        time.sleep(0.1)
    red, green, blue = (int(DARK_INK[i : i + 2], 16) for i in (1, 3, 5))
    assert found == [DARK_PAPER, f"rgb({red}, {green}, {blue})"]
    screenshot(browser, f"{report.stem}-dark")
    in_scheme(browser, "light")


def _saves(browser):
    """What the buttons SVG and PNG hand out: the figure with its title and legend."""
    script = "const done = arguments[1]; picture(charts[0], arguments[0]).then(done, (e) => done('' + e))"
    svg = urllib.parse.unquote(browser.execute_async_script(script, "svg"))
    title = browser.execute_script("return charts[0].figure.title")
    assert svg.startswith("data:image/svg+xml,<svg") and title.partition(" (")[0] in svg
    assert browser.execute_async_script(script, "png").startswith("data:image/png;base64,")
