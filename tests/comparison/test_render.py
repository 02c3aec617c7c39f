"""Tables in every format hold the right numbers, mark the best, and can go into a paper as they are."""

import csv
import io
import re
import shutil
import subprocess

import pytest
from rich.console import Console

from gaprun.comparison import compare, render
from gaprun.comparison.sparkline import BLOCKS, chart, resample


@pytest.fixture
def comparison(store, add):
    """Two recipes with two seeds, one of them with one seed only."""
    add("baseline", 0, gap=0.5, image_recall_at_5=0.25, text_recall_at_5=0.3)
    add("baseline", 1, gap=0.7, image_recall_at_5=0.27, text_recall_at_5=0.3)
    add("soft_swap&", 0, gap=0.25, image_recall_at_5=0.2, text_recall_at_5=0.3)
    add("soft_swap&", 1, gap=0.35, image_recall_at_5=0.26, text_recall_at_5=0.31)
    add("one", 0, gap=0.4)
    return compare(["gap", "recall@5"], db=store.place.name)


def printed(comparison, width=200, brief=False):
    console = Console(width=width, record=True, file=io.StringIO(), force_terminal=True)
    console.print(render.table(comparison, width, brief))
    return console.export_text()


def test_the_terminal_table(comparison):
    text = printed(comparison)
    assert "gap ↓" in text and "image_recall@5 ↑" in text
    lines = text.splitlines()
    assert re.match(r"baseline +2 +0\.600 ± 0\.141 +0\.260 ± 0\.014\* ", lines[1])
    assert "[−0.671, 1.871]" in lines[2]
    swap = next(i for i, line in enumerate(lines) if line.startswith("soft_swap&"))
    assert "0.300 ± 0.071*" in lines[swap] and "Δ −0.300 p=" in lines[swap + 2]
    one = next(line for line in lines if line.startswith("one"))
    assert re.match(r"one +1 +0\.400 +- +-", one)
    assert "Mean ± standard deviation over n seeds, [95 % Student-t interval of the mean]" in text
    assert "paired by seed" in text and "Holm-corrected within each metric" in text and "family of 1" in text
    assert "scenes/test, protocol full." in text


def test_a_narrow_terminal_gets_the_metrics_below_each_other(comparison):
    text = printed(comparison, width=60)
    assert max(len(line.rstrip()) for line in text.splitlines()) <= 60
    assert text.count("baseline ") >= 2 and "…" not in text
    for name in ("gap ↓", "image_recall@5 ↑", "text_recall@5 ↑"):
        assert text.count(name) == 1


def test_brief_leaves_intervals_and_differences_out(comparison):
    text = printed(comparison, brief=True)
    assert "±" in text and "Δ" not in text and "0.671" not in text
    assert "CI" not in render.markdown(comparison, brief=True)


def test_markdown_is_a_table_with_the_best_in_bold(comparison):
    lines = render.markdown(comparison).splitlines()
    table = [line for line in lines if line.startswith("|")]
    assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table}) == 1 and len(table) == 5
    assert r"image\_recall@5 ↑" in table[0] and "**0.300 ± 0.071**" in table[4]
    assert r"\[−0.671, 1.871\]" in table[2] and table[3].startswith("| one | 1 | 0.400 |")
    assert r"soft\_swap&" in table[4]


def test_latex_is_balanced_escaped_and_complete(comparison):
    text = render.latex(comparison)
    assert text.startswith(r"\begin{table}") and text.endswith(r"\end{table}")
    body = text.split(r"\midrule")[1].split(r"\bottomrule")[0].strip().splitlines()
    heads = text.split(r"\toprule")[1].split(r"\midrule")[0]
    columns = re.search(r"\\begin\{tabular\}\{(l+r*)\}", text).group(1)
    assert {len(re.findall(r"(?<!\\)&", row)) + 1 for row in [heads, *body]} == {len(columns)}
    assert all(row.endswith(r" \\") for row in body)
    assert r"\textbf{0.300 $\pm$ 0.071}" in text and r"gap $\downarrow$" in heads and r"soft\_swap\&" in text
    assert not set("−±↑↓Δ_%&") & set(re.sub(r"\\[_%&]", "", text).replace("&", "")), "left unescaped"
    assert len(re.findall(r"(?<!\\)\{", text)) == len(re.findall(r"(?<!\\)\}", text))


@pytest.mark.skipif(
    shutil.which("pdflatex") is None, reason="pdflatex is not installed (Debian: texlive-latex-base)"
)
def test_latex_compiles(comparison, tmp_path):
    head, tail = r"\documentclass{article}\usepackage{booktabs}\begin{document}", r"\end{document}"
    (tmp_path / "paper.tex").write_text(head + render.latex(comparison) + tail)
    subprocess.run(["pdflatex", "-halt-on-error", "paper.tex"], cwd=tmp_path, check=True, capture_output=True)


def test_csv_holds_the_records(comparison):
    rows = list(csv.DictReader(io.StringIO(render.comma_separated(comparison))))
    records = comparison.records()
    assert [float(row["mean"]) for row in rows] == [record["mean"] for record in records]
    assert (rows[0]["ci95_low"], rows[0]["seeds"]) == (repr(records[0]["ci95"][0]), "0 1")
    one = next(row for row in rows if row["group"] == "one")
    assert (one["std"], one["ci95_low"], one["p_value"]) == ("", "", "")


def test_columns_say_their_data_when_it_differs(store, add):
    add("baseline", 0, gap=0.5)
    add("baseline", 0, gap=0.25, at={"dataset": "coco", "protocol": "pool512", "data_fingerprint": "f2"})
    text = printed(compare("gap", db=store.place.name))
    assert "coco/test" in text and "scenes/test" in text and "pool512" in text
    assert "gap ↓ coco/test pool512" in render.markdown(compare("gap", db=store.place.name))


def test_numbers_are_printed_to_a_sensible_place(store, add):
    add("a", 0, gap=0.0081, effective_rank_image=123.456, image_median_rank=12.5, frechet=0.0)
    found = compare(["gap", "effective_rank_image", "image_median_rank", "frechet"], db=store.place.name)
    assert [render.decimals(found, column) for column in found.columns] == [5, 1, 2, 3]
    assert (
        render.fixed(-0.0001, 3) == "0.000"
        and render.fixed(-1.5, 1) == "−1.5"
        and render.fixed(10, 0) == "10"
    )


def test_sparklines_by_hand():
    assert chart([0, 1, 2, 3, 4, 5, 6, 7], 1) == ["▁▂▃▄▅▆▇█"]
    assert chart([0, 15], 2) == [" █", "▁█"] and chart([3.0, 3.0], 1) == ["▁▁"]
    assert all(set(line) <= set(BLOCKS) for line in chart([0.1, 0.5, 0.2], 3))
    assert resample([0, 1, 2, 3], [1.0, 3.0, 5.0, 7.0], 2) == [2.0, 6.0]
    # Recorded densely at the start: the picture is by steps, and gaps hold the value before.
    assert resample([0, 1, 2, 100], [0.0, 0.0, 3.0, 8.0], 4) == [1.0, 1.0, 1.0, 8.0]
    assert resample([5], [2.0], 3) == [2.0, 2.0, 2.0]
