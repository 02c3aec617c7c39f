"""The table value and its renderers: numbers, widths, escapes, records, and templates that come with the package."""

import csv
import importlib.resources
import io
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from gaprun.tables import Cell, Heading, Table, html, latex, layout, markdown, numbers, terminal, tex
from gaprun.tables import csv as comma


def table(**more):
    heads = ("name", Heading("value ↑\non a", ("", "Δ"), right=True), Heading("words", wrap=True))
    rows = [
        ("one [a=1, b=2]", Cell(("1.0 ± 0.1", "+0.2 [−0.1, +0.3]"), "best"), "a sentence that is long"),
        ("two", Cell(("−2.0", "")), "short"),
    ]
    records = [
        {"name": "one", "value": 1.00000000001, "ci95": [0.5, 1.5], "runs": ["a", "b"]},
        {"name": "=two"},
    ]
    return Table.of("a table", heads, rows, records, **more)


def test_numbers_have_one_sign_for_minus_and_one_form_of_p():
    assert [numbers.fixed(v, 1) for v in (-0.04, -1.5, 10)] == ["0.0", "−1.5", "10.0"]
    assert [numbers.signed(v, 1) for v in (-0.04, 0.04, -1.5, 0)] == ["−0.0", "+0.0", "−1.5", "+0.0"]
    assert [numbers.p_value(v) for v in (None, 0.0004, 0.012, 1.0)] == ["", "p<.001", "p=.012", "p=1.000"]
    assert [numbers.p_value(v) for v in (0.0494, 0.0496, 0.04996, 0.05, 0.0503)] == [
        "p=.049", "p=.0496", "p=.04996", "p=.050", "p=.050",
    ]  # fmt: skip
    assert numbers.bracketed((-1, 2), 1, sign=True) == "[−1.0, +2.0]" and numbers.bracketed(None, 1) == ""
    assert [numbers.significant(v) for v in (-1234.56, None, float("nan"), -1e-9)] == [
        "−1235",
        "n/a",
        "n/a",
        "−1e−09",
    ]
    assert [numbers.places_for(3, v) for v in (5.0, 0.5, 0.0081, 0.0, 1e-5)] == [3, 3, 4, 3, 6]
    assert numbers.places_for(3, 9e-6) is None  # 1e-09 would read 0.000000, and so would its interval


def test_a_terminal_shows_all_lines_and_breaks_between_words():
    lines = [line.plain for line in terminal.lines(table(title="Title", legend=("Said of it.",)), 60)]
    assert lines[0] == "Title" and lines[-1] == "Said of it."
    assert lines[1].split() == ["value", "↑"] and lines[2].split() == ["name", "on", "a", "words"]
    assert lines[3].startswith("one [a=1, b=2]") and "1.0 ± 0.1 ◂" in lines[3]
    assert lines[4].strip().startswith("+0.2 [−0.1, +0.3]")
    narrow = [line.plain for line in terminal.lines(table(), 30)]
    assert sum(line.startswith("two") for line in narrow) == 2  # a second block of columns, named again


@given(
    st.lists(st.lists(st.text("abc -_=0", max_size=12), min_size=3, max_size=3), min_size=1, max_size=4),
    st.integers(24, 90),
)
def test_no_word_is_broken_or_lost_at_any_width(rows, width):
    found = Table.of("t", ("a", Heading("b", wrap=True), Heading("c", right=True)), rows)
    lines = [line.plain for line in terminal.lines(found, width)]
    shown = " ".join(lines).split()
    assert {word for row in rows for cell in row for word in cell.split()} <= set(shown)
    longest = max((len(word) for row in rows for cell in row for word in cell.split()), default=1)
    if longest + 2 + terminal.LEAST < width:
        assert max(map(cell_len, lines)) <= width


def named(*names, more=()):
    heads = ("run", Heading("n", right=True), Heading("gap ↓", right=True), *more)
    rows = [(name, "3", "0.510 ± 0.010", *(name for _ in more)) for name in names]
    return Table.of("t", heads, rows, [{"run": name} for name in names])


@pytest.mark.parametrize(("width", "room"), [(40, 20), (80, 62), (120, 102)])
def test_a_name_that_leaves_no_room_loses_its_middle(width, room):
    """It has what the other columns leave, or half of a width that leaves too little."""
    names = [f"sweep-{'abcdefghij' * 12}-{seed}" for seed in range(3)]
    lines = [line.plain for line in terminal.lines(named(*names), width)]
    assert max(map(cell_len, lines)) <= width and " ".join(lines).endswith(terminal.WHOLE_NAMES)
    for name in names:
        (row,) = [
            line.split() for line in lines if line.startswith("sweep") and line.split()[0].endswith(name[-1])
        ][:1]
        head, tail = row[0].split("…")
        assert name.startswith(head) and name.endswith(tail) and len(row[0]) == room
    assert comma.render(named(*names)).splitlines()[1:] == names
    assert all(name in markdown.render(named(*names)) for name in names)
    paths = named(*names, more=(Heading("path", wrap=True),))  # what stands in sentences is wanted whole
    assert all(any(line.plain.endswith(name) for line in terminal.lines(paths, width)) for name in names)


def test_names_that_fit_or_would_look_alike_are_left_whole():
    short = named("a" * 50)  # with all its columns within 80
    assert terminal.WHOLE_NAMES not in str(terminal.lines(short, 80))
    assert [line.plain for line in terminal.lines(short, 80)][1].startswith("a" * 50)
    alike = [f"{'a' * 60}{middle}{'b' * 60}" for middle in "xy"]
    text = "\n".join(line.plain for line in terminal.lines(named(*alike), 80))
    assert all(name in text for name in alike) and terminal.WHOLE_NAMES not in text


def test_markdown_and_latex_lay_the_lines_of_a_cell_side_by_side():
    lines = markdown.render(table(legend=("a_b",))).splitlines()
    assert lines[0] == r"| name | value ↑ on a | Δ | words |" and lines[1] == "|---|---:|---:|---|"
    assert lines[2].startswith(r"| one \[a=1, b=2\] | **1.0 ± 0.1** | +0.2 \[−0.1, +0.3\] |")
    assert lines[3] == "| two | −2.0 |  | short |" and lines[-1] == r"a\_b  "
    text = latex.render(table(title="t_1"))
    assert (
        r"\begin{tabular}{@{}lrrl@{}}" in text
        and r"\caption{t\_1.}" in text
        and r"\label{tab:a-table}" in text
    )
    assert r"two & $-$2.0 &  & short \\" in text
    assert r" & \multicolumn{2}{c}{value $\uparrow$} &  \\" in text and r"\cmidrule(lr){2-3}" in text


@given(st.text("\\~^_%&#${}−±<>↑Δτ…“”\nab[-é中⁻", max_size=30), st.booleans())
def test_latex_escapes_leave_balanced_braces_and_nothing_special(text, breaks):
    escaped = tex.escape(text, breaks)
    known = [*tex.SIGNS.values(), r"\allowbreak{}", "$^{-}$", r"\'{e}", "-{}"]
    maths = "|".join(re.escape(sign) for sign in sorted(known, key=len, reverse=True))
    assert not set("\\~^_%&#${}−±<>↑Δτ…“”\né中⁻") & set(re.sub(maths, "", escaped)) and "--" not in escaped
    assert len(re.findall(r"(?<!\\)\{", escaped)) == len(re.findall(r"(?<!\\)\}", escaped))


def test_latex_has_letters_of_every_kind_and_breaks_names_only_where_words_are_joined():
    assert tex.escape("Łódź x⁻¹₂ --where 中") == r"Ł\'{o}d\'{z} x$^{-}$$^{1}$$_{2}$ -{}-where U+4E2D"
    assert tex.escape("rule=0.32,b", breaks=True) == r"rule=\allowbreak{}0.32,\allowbreak{}b"
    assert tex.escape("x" * 40, breaks=True).count(r"\allowbreak{}") == 3
    assert tex.longest_word("a-long it") == tex.width("long") and tex.longest_word("x" * 400) < 61


def wide_table(rows, numbers, name="row"):
    heads = (Heading("recipe", wrap=True), *(Heading(f"metric {n} ↑", right=True) for n in range(numbers)))
    cells = [(f"{name} {n}", *["−0.594 [−0.626, −0.563]*"] * numbers) for n in range(rows)]
    return Table.of("wide", heads, cells, legend=["First.", "x " * 600, "Last."])


def test_latex_that_is_too_wide_stands_in_blocks_and_too_long_in_further_floats_of_one_number():
    assert [layout.blocks(wide_table(2, numbers)) for numbers in (1, 3, 4, 8)] == [1, 1, 2, 3]
    text = latex.render(wide_table(100, 4))
    assert text.count(r"\begin{table}") == text.count(r"\addtocounter{table}{-1}") + 1 == 6
    assert text.count("row 99 &") == 2 and text.count(r"\label{") == 1 and r"\caption{First.}" in text
    assert text.endswith(r"\par}") and "Last." in text.partition(r"Table~\ref{tab:wide}: x")[2]
    small = latex.render(wide_table(2, 3))
    assert r"\centering\footnotesize" in small and small.count(r"\begin{tabular}") == 1
    long = latex.render(wide_table(2, 3, name="a-name-of-many-words=" * 3))
    assert r"\raggedright\arraybackslash}p{" in long and r"% needs \usepackage{array,booktabs}" in long


def test_latex_tables_of_one_command_have_labels_of_their_own():
    parts = [replace(table(), title=f"{name}:") for name in ("one", "two")]
    text = latex.every(parts, caption="Mine")
    assert re.findall(r"\\label\{(.*)\}", text) == ["tab:a-table", "tab:a-table-2"]
    assert re.findall(r"\\caption\{(.*)\}", text) == ["Mine (one)", "Mine (two)"]
    assert r"\caption{Mine}" in latex.every(parts[:1], caption="Mine")


def test_lines_below_each_other_are_named_where_columns_share_parts():
    heads = ("method", *(Heading(name, ("paper", "ours"), right=True) for name in ("gap", "recall")))
    found = Table.of("t", heads, [("FLT", Cell(("0.1", "0.2 (3)")), Cell(("5", "-")))])
    assert [line.plain.split() for line in terminal.lines(found, 80)[1:]] == [
        ["FLT", "0.1", "5"],
        ["ours", "0.2", "(3)", "-"],
    ]
    assert "<td>FLT<small>ours</small></td>" in html.render(found)
    assert "FLT & 0.1 & 0.2 (3) & 5 & -" in latex.render(
        found
    ) and "| FLT | 0.1 | 0.2 (3) |" in markdown.render(found)
    assert table().stacked() == table(), "parts without names say so themselves"


def test_csv_has_unrounded_records():
    rows = list(csv.DictReader(io.StringIO(comma.render(table()))))
    assert float(rows[0]["value"]) == 1.00000000001 and (rows[0]["ci95_low"], rows[0]["ci95_high"]) == (
        "0.5",
        "1.5",
    )
    assert rows[0]["runs"] == "a b" and rows[1]["name"] == "'=two" and rows[1]["value"] == ""


class Tags(HTMLParser):
    """Fails for a tag that is not closed."""

    def __init__(self, text):
        super().__init__()
        self.open = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.open += [tag] if tag != "wbr" else []

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_a_name_breaks_between_its_words_alone():
    table = Table.of("one", ("recipe", "gap"), [("<soft>-swap=0.001_a/b", "a=b")])
    text = str(html.render(table))
    assert "&lt;soft&gt;-swap=<wbr>0.001_<wbr>a/<wbr>b</td>" in text and "<td>a=b</td>" in text


@pytest.mark.parametrize("sortable", ["", "compared"])
def test_html_is_escaped_and_well_formed(sortable):
    evil = '"><script>alert(1)</script>'
    found = Table.of(
        evil,
        (evil, evil),
        [(Cell((evil, evil), sort=evil, hint=evil), Cell(("1",), "best", 1.0))],
        title=evil,
        legend=(evil,),
    )
    text = str(html.render(found, sortable=sortable))
    assert "<script" not in text and "alert(1)" in text and Tags(text).open == []
    assert ('data-value="1.0"' in text) == bool(sortable)


def test_templates_come_with_the_package():
    for package in ("gaprun.tables", "gaprun.report", "gaprun.theory"):
        folder = importlib.resources.files(package) / "templates"
        names = [file.name for file in folder.iterdir() if file.name.endswith(".html")]
        assert names
        environment = html.environment(package)
        assert environment.autoescape is True
        for name in names:
            environment.get_template(name)  # compiles


def test_a_template_that_lacks_a_name_says_so():
    from jinja2 import UndefinedError

    with pytest.raises(UndefinedError):
        html.filled("gaprun.report", "none.html")
