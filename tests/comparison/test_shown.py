"""Tables of a comparison in every format hold the right numbers, mark the best, and can go into a paper as they are."""

import csv
import io
import re
import shutil
import subprocess

import pytest
from rich.cells import cell_len

from gaprun.comparison import compare, shown
from gaprun.comparison.sparkline import BLOCKS, chart, resample
from gaprun.evaluation.catalogue import value_text
from gaprun.tables import Heading, Table, latex, markdown, terminal
from gaprun.tables import csv as comma


@pytest.fixture
def comparison(store, add):
    """Two recipes with two seeds, one of them with one seed only."""
    add("baseline", 0, gap=0.5, image_recall_at_5=0.25, text_recall_at_5=0.3)
    add("baseline", 1, gap=0.7, image_recall_at_5=0.27, text_recall_at_5=0.3)
    add("soft_swap&", 0, gap=0.25, image_recall_at_5=0.2, text_recall_at_5=0.3)
    add("soft_swap&", 1, gap=0.35, image_recall_at_5=0.26, text_recall_at_5=0.31)
    add("one", 0, gap=0.4)
    return compare(["gap", "recall@5"], db=store.place.name)


def lines_of(table, width=200):
    return [line.plain for line in terminal.lines(table, width)]


def test_everything_in_the_terminal(comparison):
    lines = lines_of(shown.whole(comparison))
    assert "gap ↓" in lines[0] and "image_recall@5 ↑" in lines[0] and "seeds" in lines[0]
    assert re.match(r"baseline +2 +0\.600 ± 0\.141 +0\.26 ± 0\.01 ◂", lines[1])
    assert "[−0.671, 1.871]" in lines[2]
    swap = next(i for i, line in enumerate(lines) if line.startswith("soft_swap&"))
    assert "0.300 ± 0.071 ◂" in lines[swap]
    # scipy's ttest_ind([.25, .35], [.5, .7], equal_var=False)
    assert "Δ −0.300 [−0.992, +0.392] p=.158" in lines[swap + 1]
    one = next(line for line in lines if line.startswith("one"))
    assert re.match(r"one +1 +0\.400 +- +-", one)
    legend = " ".join(lines)
    assert "Mean ± standard deviation over seeds, [95 % Student-t interval of the mean]" in legend
    assert "paired by seed" in legend and "within each metric" in legend and "family of 1" in legend
    assert "scenes/test, protocol full." in legend


def test_differences_stand_alone_as_far_as_the_width_goes(comparison):
    wide = lines_of(shown.fitting(comparison, 200))
    assert re.match(r"baseline +2 +0\.600 ± 0\.141 ", wide[1])
    swap = next(line for line in wide if line.startswith("soft_swap&"))
    assert re.search(r"0\.300 ± 0\.071 +−0\.300 \[−0\.992, \+0\.392\] +p=\.158", swap)
    narrow = lines_of(shown.fitting(comparison, 100), 100)
    swap = next(line for line in narrow if line.startswith("soft_swap&"))
    assert "−0.300 [−0.992, +0.392]" in swap and "p=" not in swap and "±" not in swap
    one = next(line for line in narrow if line.startswith("one"))
    assert re.match(r"one +1 +−0\.100 \[one value\]", one)  # never a bare number
    assert "Rows without a sign: mean ± standard deviation over seeds." in " ".join(narrow)


def test_where_columns_are_many_half_of_the_interval_says_it(store, add):
    for seed in range(3):
        values = {"image_recall_at_5": 50 + seed, "text_recall_at_5": 40 - seed}
        add("baseline", seed, gap=0.5 + seed / 100, **values)
        add("a-name-of-some-length", seed, gap=0.2 + seed / 40, **values | {"text_recall_at_5": 30.0})
    found = compare(["gap", "recall@5"], db=store.place.name)
    lines = lines_of(shown.fitting(found, 80), 80)
    assert lines[0].split() == ["image_", "text_"] and max(map(cell_len, lines)) <= 80
    row = next(line for line in lines if line.startswith("a-name"))
    low, high = found.cells["a-name-of-some-length", found.columns[0]].difference.ci95
    assert f"−0.285 ±{(high - low) / 2:.3f}*" in row and " +0.0  " in row  # no spread
    assert re.match(r"baseline +3 +0\.510 +51\.0 ", lines[2])
    assert "± half of its 95 % interval" in " ".join(lines)


def test_a_star_marks_what_is_sure(store, add):
    for seed in range(4):
        add("baseline", seed, gap=0.5 + seed / 100)
        add("near", seed, gap=0.51 + seed / 200)
        add("far", seed, gap=0.1 + seed / 90)
    found = compare("gap", db=store.place.name)
    rows = {row[0].lines[0]: row[2].lines[0] for row in shown.differences(found, "interval").rows}
    assert rows["far"].endswith("*") and rows["near"].endswith(" ")
    assert "*: p < .05: paired t-test" in " ".join(shown.differences(found, "interval").legend)


def test_one_protocol_a_metric_unless_asked(store, add):
    for recipe in ("baseline", "flt"):
        for protocol in ("full", "pool512", "full+centre"):
            add(recipe, 0, gap=0.5, at={"protocol": protocol})
    found = compare("gap", db=store.place.name)
    table = shown.differences(found)
    assert len(table.heads) == 3 and "protocol pool512." in table.legend[0]
    assert table.hints[0] == "--protocol or --wide: also measured by full, full+centre."
    assert len(shown.whole(found).heads) == 5 and len(shown.differences(found, every=True).heads) == 5
    assert len(table.records) == 6  # csv and json hold all of them


def test_a_narrow_terminal_gets_the_metrics_below_each_other(comparison):
    lines = lines_of(shown.whole(comparison), 60)
    assert max(map(cell_len, lines)) <= 60
    assert sum(line.startswith("baseline ") for line in lines) >= 2 and "…" not in "".join(lines)
    for name in ("gap ↓", "image_recall@5 ↑", "text_recall@5 ↑"):
        assert sum(name in line for line in lines) == 1


def test_brief_leaves_intervals_and_differences_out(comparison):
    text = "\n".join(lines_of(shown.whole(comparison, brief=True)))
    assert "±" in text and "Δ" not in text and "0.671" not in text
    assert "CI" not in markdown.render(shown.whole(comparison, brief=True))


def test_markdown_is_a_table_with_the_best_in_bold(comparison):
    lines = markdown.render(shown.whole(comparison)).splitlines()
    table = [line for line in lines if line.startswith("|")]
    assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table}) == 1 and len(table) == 5
    assert r"image\_recall@5 ↑" in table[0] and "**0.300 ± 0.071**" in table[4]
    assert r"\[−0.671, 1.871\]" in table[2] and table[3].startswith("| one | 1 | 0.400 |")
    assert r"soft\_swap&" in table[4]


def test_latex_is_balanced_escaped_and_complete(comparison):
    text = latex.render(shown.whole(comparison))
    assert text.startswith("% needs \\usepackage{booktabs}\n\\begin{table}") and text.endswith(r"\end{table}")
    body = text.split(r"\midrule")[1].split(r"\bottomrule")[0].strip().splitlines()
    heads = text.split(r"\toprule")[1].split(r"\midrule")[0]
    columns = re.search(r"\\begin\{tabular\}\{@\{\}(l+r*)@\{\}\}", text).group(1)
    assert {len(re.findall(r"(?<!\\)&", row)) + 1 for row in body} == {len(columns)}
    assert all(row.endswith(r" \\") for row in body)
    assert r"\textbf{0.300 $\pm$ 0.071}" in text and r"gap $\downarrow$" in heads and r"soft\_swap\&" in text
    assert re.findall(r"\\multicolumn\{\d\}\{c\}\{(.*?)\}", heads) == [r"gap $\downarrow$"]
    plain = re.sub(r"\\[_%&]", "", text.partition("\n")[2]).replace("&", "")
    assert not set("−±↑↓Δ_%&") & set(plain), "left unescaped"
    assert len(re.findall(r"(?<!\\)\{", text)) == len(re.findall(r"(?<!\\)\}", text))


def test_numbers_as_siunitx_takes_them(comparison):
    text = latex.render(shown.differences(comparison, "interval"), siunitx=True)
    assert r"\usepackage{booktabs,siunitx}" in text and r"\num{0.600+-0.141}" in text
    row = r"soft\_swap\& & \num{2} & \num{-0.300} [\num{-0.992}, \num[retain-explicit-plus]{+0.392}]"
    assert row in text and "$-$" not in text.partition(r"\midrule")[2]


def test_a_power_of_ten_stays_with_its_number(store, add):
    for seed in range(2):
        add("baseline", seed, tiny=2e-9 + seed * 1e-11)
        add("flt", seed, tiny=1e-9 + seed * 1e-11)
    found = shown.whole(compare("tiny", db=store.place.name))
    interval = "[−1.03e−09, −9.696e−10]"  # Student's t of two degrees of freedom times 7.071e-12
    assert found.rows[1][2].lines[:2] == ("1.005e−09 ± 7.071e−12", f"Δ −1e−09 {interval} p<.001")
    assert r"\num{1.005e-09} $\pm$ \num{7.071e-12}" in latex.render(found, siunitx=True)
    mixed = Table.of(
        "t", ["a", Heading("b", right=True)], [("x", "900 ± 1.5e+05"), ("y", "1e+05 ± 30 p=.5")], []
    )
    text = latex.render(mixed, siunitx=True)
    assert r"\num{900} $\pm$ \num{1.5e+05}" in text and r"\num{1e+05} $\pm$ \num{30} p=\num{.5}" in text


def test_a_notebook_shows_the_table(comparison):
    page = comparison._repr_html_()
    assert "<table" in page and "−0.300 [−0.992, +0.392]" in page and "soft_<wbr>swap&amp;" in page
    assert comparison.frame().shape[0] == len(comparison.records())
    lines = str(comparison).splitlines()
    assert lines[0].startswith("recipe") and any("−0.300 [−0.992, +0.392]" in line for line in lines)
    assert len(lines) < 20 and max(map(len, lines)) <= 100


def test_latex_of_differences_is_one_table_of_them(comparison):
    look = shown.Look(digits=2, names={"gap": "modality gap", "soft_swap&": "soft"})
    text = latex.render(shown.differences(comparison, "interval", look), r"Gap at $\tau=1$", "tab:gap")
    assert r"\caption{Gap at $\tau=1$}" in text and r"\label{tab:gap}" in text
    assert r"modality gap $\downarrow$" in text and r"soft & 2 & $-$0.30 [$-$0.99, +0.39]" in text
    assert text.count(r"\begin{tabular}") == 1 and "p=" not in text


@pytest.mark.skipif(
    shutil.which("pdflatex") is None, reason="pdflatex is not installed (Debian: texlive-latex-base)"
)
def test_latex_compiles(comparison, tmp_path):
    head, tail = r"\documentclass{article}\usepackage{booktabs}\begin{document}", r"\end{document}"
    (tmp_path / "paper.tex").write_text(head + latex.render(shown.whole(comparison)) + tail)
    subprocess.run(["pdflatex", "-halt-on-error", "paper.tex"], cwd=tmp_path, check=True, capture_output=True)


def test_csv_holds_the_records(comparison):
    rows = list(csv.DictReader(io.StringIO(comma.render(shown.differences(comparison)))))
    records = comparison.records()
    assert [float(row["mean"]) for row in rows] == [record["mean"] for record in records]
    assert (rows[0]["ci95_low"], rows[0]["seeds"]) == (repr(records[0]["ci95"][0]), "0 1")
    one = next(row for row in rows if row["group"] == "one")
    assert (one["std"], one["ci95_low"], one["p_value"]) == ("", "", "")


def test_columns_say_their_data_when_it_differs(store, add):
    add("baseline", 0, gap=0.5)
    add("baseline", 0, gap=0.25, at={"dataset": "coco", "protocol": "pool512", "data_fingerprint": "f2"})
    found = compare("gap", db=store.place.name)
    text = "\n".join(lines_of(shown.differences(found)))
    assert "coco/test" in text and "scenes/test" in text and "pool512" in text
    assert "gap ↓ coco/test pool512" in markdown.render(shown.whole(found))


def test_numbers_are_printed_to_their_metrics_places(store, add):
    add("a", 0, gap=0.0081, effective_rank_image=123.456, image_median_rank=12.5, frechet=0.0)
    found = compare(["gap", "effective_rank_image", "image_median_rank", "frechet"], db=store.place.name)
    assert [shown.places_of(found, column) for column in found.columns] == [4, 1, 1, 3]
    assert shown.places_of(found, found.columns[0], shown.Look(digits=2)) == 2


def test_a_number_of_any_power_of_ten_is_printed_to_four_digits(store, add):
    """The probe's C runs from 0.01 to a million: `100000.000` and `0.010` in one column."""
    at = {"task": "probe", "protocol": "full"}
    for seed, penalties in enumerate(((1e5, 0.01), (1e6, 0.01))):
        for name, penalty in zip(("a", "b"), penalties, strict=True):
            add(name, seed, at=at, probe_penalty=penalty, probe_top1=50.0)
    found = compare(["probe_penalty", "probe_top1"], db=store.place.name)
    text = "\n".join(lines_of(shown.whole(found)))
    assert "5.5e+05 ± 6.364e+05" in text and re.search(r"0\.01 ± 0 ", text) and "50.0 ± 0.0" in text
    assert [value_text("probe_penalty", value) for value in (0.01, 1.0, 31.62278, 1e6)] == [
        "0.01",
        "1",
        "31.62",
        "1e+06",
    ]


def test_the_example_fits_a_screen():
    found = compare(["gap", "recall@5"], db="results.db.example")
    lines = lines_of(shown.fitting(found, 80), 80)
    assert len(lines) <= 60 and max(map(cell_len, lines)) <= 80
    below = [line for line in lines if not line.startswith(tuple(found.parts()))]
    rows = [line.split()[0] for line in below if re.match(r"\S+[^\s:] +\d ", line)]
    kept = len(rows) + (
        int(more[1]) if (more := re.search(r"(\d+) more rows, of their", "\n".join(lines))) else 0
    )
    assert kept == len(found.groups) and set(rows) <= {found.names[group].short for group in found.groups}
    for words in found.parts():
        assert sum(line.startswith(words) for line in lines) == 1


def test_sparklines_by_hand():
    assert chart([0, 1, 2, 3, 4, 5, 6, 7], 1) == ["▁▂▃▄▅▆▇█"]
    assert chart([0, 15], 2) == [" █", "▁█"] and chart([3.0, 3.0], 1) == ["▁▁"]
    assert all(set(line) <= set(BLOCKS) for line in chart([0.1, 0.5, 0.2], 3))
    assert resample([0, 1, 2, 3], [1.0, 3.0, 5.0, 7.0], 2) == [2.0, 6.0]
    # Recorded densely at the start: the picture is by steps, and gaps hold the value before.
    assert resample([0, 1, 2, 100], [0.0, 0.0, 3.0, 8.0], 4) == [1.0, 1.0, 1.0, 8.0]
    assert resample([5], [2.0], 3) == [2.0, 2.0, 2.0]
