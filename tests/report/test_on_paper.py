"""Figures as files: what stands in them, that a paper takes them, and README's own."""

import csv
import io
import re
import shutil
import subprocess
from itertools import pairwise

import pytest

from gaprun.comparison import shown
from gaprun.errors import UserError
from gaprun.palette import GREY
from gaprun.paper.claims import claims_table
from gaprun.paper.tables import beside, cells_table
from gaprun.report import on_paper, readme
from gaprun.report.figure import Axis, Figure, Ink, Mark, Panel
from gaprun.report.gather import gather
from gaprun.report.overview import forest
from gaprun.report.setups import setups_of
from gaprun.store import open_store
from gaprun.tables import Cell, Heading, Table, latex
from tests.conftest import REPO

matplotlib = pytest.importorskip("matplotlib", reason="pip install 'gaprun[figures]'")
DOCUMENT = r"""\documentclass[%s]{article}
\usepackage{array,booktabs,siunitx,graphicx}
\begin{document}
%s
\end{document}
"""


TEX = shutil.which("pdflatex")


@pytest.fixture(scope="module")
def example():
    return gather(open_store(str(REPO / "results.db.example")))


@pytest.fixture(scope="module")
def small():
    marks = [
        Mark("τ = 0.1 & 50 %", [1.0, 10.0], [0.5, 0.25], Ink("#0072b2"), "both", y_ends=([0.4, 0.2], [0.6, 0.3]),
             text=["a", "b"], listed=True),
        Mark("other", [1.0, float("nan")], [0.1, 0.2], Ink("#e69f00", "square-open"), listed=True),
        Mark("", [10.0], [0.25], Ink("#1c2733"), "words", text=["end"]),
    ]  # fmt: skip
    return Figure(
        "one", "One", "One.", [Panel("left", Axis("step", log=True), Axis("gap", zero=True), marks)]
    )


def test_each_figure_is_four_files_of_a_column_and_its_numbers(small, tmp_path):
    folder = tmp_path / "figures"
    made = on_paper.write_figures([small], folder)
    assert [path.name for path in made] == ["one.csv", "one.pdf", "one.png", "one.svg"]
    rows = list(csv.DictReader(io.StringIO((folder / "one.csv").read_text())))
    assert [(r["x"], r["y"], r["y_low"], r["y_high"]) for r in rows[:2]] == [
        ("1.0", "0.5", "0.4", "0.6"), ("10.0", "0.25", "0.2", "0.3"),
    ]  # fmt: skip
    assert len(rows) == 4 and {r["panel"] for r in rows} == {"left"}, "words at ends of lines are no numbers"
    width = float(re.search(r'<svg[^>]* width="([\d.]+)pt"', (folder / "one.svg").read_text()).group(1))
    assert width == pytest.approx(72 * on_paper.COLUMN, abs=1)
    again = on_paper.write_figures([small], folder)  # a folder of one's own is replaced
    assert again == made
    (folder / "mine.txt").write_text("x")
    with pytest.raises(UserError, match="mine.txt"):
        on_paper.write_figures([small], folder)


def test_without_matplotlib_the_way_out_is_named(small, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
    with pytest.raises(UserError, match=r"pip install 'gaprun\[figures\]'"):
        on_paper.write_figures([small], tmp_path / "figures")
    assert not (tmp_path / "figures").exists()


@pytest.mark.skipif(not TEX, reason="no TeX here (Debian: texlive-latex-base texlive-latex-recommended)")
def test_figure_and_table_compile_in_a_fresh_latex_document(small, example, tmp_path):
    on_paper.write_figures([small], tmp_path / "figures")
    rows = [("a_b", "−0.594 [−0.626, −0.563]*"), ("50 % ≈ τ", "n/a")]
    odd = Table.of("t", ["recipe & co", "gap ↓"], rows, legend=["Δ: ±"])
    figure = r"\begin{figure}\includegraphics{figures/one.pdf}\caption{One figure.}\end{figure}"
    assert "Overfull" not in compiled(tmp_path, figure + latex.render(odd), "twocolumn"), (
        "no wider than a column"
    )


@pytest.mark.skipif(not TEX, reason="no TeX here (Debian: texlive-latex-recommended texlive-science)")
def test_tables_fit_the_page_of_a_fresh_latex_document(example, tmp_path):
    """As `compare --format latex` prints the example, narrow and wide, and names of every kind."""
    names = [
        "*star",
        "[x]",
        "{a}$_^~\\\\%&#|<>",
        "--x",
        "日本語-é⁻¹ « ą",
        "x" * 90,
        "a-long-name-" * 9,
        "k=v/" * 20,
    ]
    heads = [
        Heading("recipe", wrap=True),
        *(Heading(f"gap_{n} ↓", ("paper", "ours"), True) for n in range(5)),
    ]
    cell = Cell(("−0.594 [−0.626, −0.563]*", "12.3 ± 0.1 (5)"), "best")
    odd = Table.of(
        "odd", heads, [(name, *[cell] * 5) for name in names * 5], legend=["Δ ± ≈: " + "long " * 1500]
    )
    found = example.comparison
    assert example.study
    paper = [cells_table(beside("table2", example.study)), claims_table(example.verdicts, example.study)]
    tables = [odd, shown.on_paper(found), shown.whole(found), *paper]
    for siunitx in (False, True):
        said = compiled(tmp_path, latex.every(tables, siunitx=siunitx), "10pt")
        assert not re.findall("Overfull.*|Float too large.*|.*multiply.*", said)


def compiled(folder, body, options):
    """What TeX says of a document with this body."""
    (folder / "paper.tex").write_text(DOCUMENT % (options, body), encoding="utf-8")
    words = [TEX, "-interaction=nonstopmode", "-halt-on-error", "paper.tex"]
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:]
    return done.stdout


def test_readmes_figure_is_what_the_example_gives_now(tmp_path):
    made = readme.write(str(REPO / "results.db.example"), tmp_path)
    kept = REPO / "docs" / "figures"
    text = (REPO / "README.md").read_text()
    assert (tmp_path / "answer.csv").read_text() == (kept / "answer.csv").read_text(), (
        "python -m gaprun.report.readme makes it again"
    )
    same = f"Matplotlib v{matplotlib.__version__}" in (kept / "answer-light.svg").read_text()
    for path in made[:2]:
        assert f"docs/figures/{path.name}" in text
        assert not same or path.read_text() == (kept / path.name).read_text()


def test_long_names_leave_room_for_the_panels(tmp_path, recwarn):
    long = ["a-name-" + "of-many-words-" * 8 + str(n) for n in range(3)] + ["短い名前"]
    names = [(float(place), name) for place, name in enumerate(long, 1)]
    marks = [Mark(name, [0.0], [place], Ink(GREY), listed=True) for place, name in names]
    panel = Panel("gap (test)", Axis("Δ"), Axis("", names=names), marks)
    figure = Figure("forest", "t", "a", [panel] * 4, columns=4, least=0, height=17 * 4 + 40, shared=("y",))
    drawn = on_paper.draw(figure)
    drawn.draw_without_rendering()
    labels = [label.get_text() for label in drawn.axes[0].get_yticklabels()]
    assert all(
        text.startswith("a-name-") and "…" in text and text[-1] == str(n) for n, text in enumerate(labels[:3])
    )
    boxes = [axes.get_window_extent() for axes in drawn.axes]
    assert all(box.width > 0.08 * drawn.bbox.width and box.height / 4 > 8 for box in boxes)
    (titled,) = on_paper.draw(Figure("one", "t", "a", [Panel(long[0] * 3, Axis(""), Axis(""), [])])).axes
    assert titled.get_title(loc="left").count("\n") == on_paper.MOST_LINES - 1
    on_paper.write_figures([figure], tmp_path / "figures")
    (said,) = [str(one.message) for one in recwarn if "boxes in" in str(one.message)]
    assert "its font has no" in said and set("短い名前") <= set(said)


def test_long_numbers_below_narrow_panels_do_not_touch():
    marks = [Mark("a", [-1.1425, -1.1325], [0.0, 1.0], Ink(GREY), listed=True)]
    panels = [Panel(str(n), Axis("uniformity"), Axis("probe"), marks) for n in range(3)]
    drawn = on_paper.draw(Figure("f", "t", "a", panels, columns=3, shared=("x",)))
    drawn.draw_without_rendering()
    for axes in drawn.axes:
        low, high = axes.get_xlim()
        labels = [label for label in axes.get_xticklabels() if low <= label.get_position()[0] <= high]
        boxes = [label.get_window_extent() for label in labels]
        assert len(boxes) >= 2 and all(left.x1 < right.x0 for left, right in pairwise(boxes))


@pytest.mark.parametrize("ends", [(0.07, 0.088), (0.3, 0.45), (0.01, 0.4)])
def test_a_short_logarithmic_axis_has_numbers(ends):
    panel = Panel("t", Axis("step"), Axis("τ", log=True), [Mark("a", [0, 1], list(ends), Ink(GREY), "line")])
    drawn = on_paper.draw(Figure("f", "t", "a", [panel]))
    drawn.draw_without_rendering()
    axis = drawn.axes[0].yaxis
    assert sum(ends[0] <= tick <= ends[1] for tick in axis.get_majorticklocs()) >= 2


def test_a_saved_forest_has_a_row_a_method(example):
    setup = setups_of(example)[0]
    drawn = on_paper.draw(forest(setup))
    names = [label.get_text() for label in drawn.axes[0].get_yticklabels()]
    assert names == setup.methods and len(drawn.axes) == 4
    assert drawn.get_size_inches()[0] == on_paper.TEXT
