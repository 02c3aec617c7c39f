"""The table value and its renderers: numbers, widths, escapes, records, and templates that come with the package."""

import csv
import importlib.resources
import io
import re
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from gaprun.tables import Cell, Heading, Table, html, latex, markdown, numbers, terminal
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
    assert numbers.bracketed((-1, 2), 1, sign=True) == "[−1.0, +2.0]" and numbers.bracketed(None, 1) == ""
    assert [numbers.significant(v) for v in (-1234.56, None, float("nan"), -1e-9)] == [
        "−1235",
        "n/a",
        "n/a",
        "−1e−09",
    ]
    assert [numbers.places_for(3, v) for v in (5.0, 0.5, 0.0081, 0.0, 1e-12)] == [3, 3, 4, 3, 6]


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


def test_markdown_and_latex_lay_the_lines_of_a_cell_side_by_side():
    lines = markdown.render(table(legend=("a_b",))).splitlines()
    assert lines[0] == r"| name | value ↑ on a | Δ | words |" and lines[1] == "|---|---:|---:|---|"
    assert lines[2].startswith(r"| one \[a=1, b=2\] | **1.0 ± 0.1** | +0.2 \[−0.1, +0.3\] |")
    assert lines[3] == "| two | −2.0 |  | short |" and lines[-1] == r"a\_b  "
    text = latex.render(table(title="t_1"))
    assert r"\begin{tabular}{lrrl}" in text and r"\caption{t\_1}" in text and r"\label{tab:a-table}" in text
    assert r"two & $-$2.0 &  & short \\" in text


@given(st.text("\\~^_%&#${}−±<>↑Δτ…“”\nab[", max_size=30))
def test_latex_escapes_leave_balanced_braces_and_nothing_special(text):
    escaped = latex.escape(text)
    maths = "|".join(re.escape(sign) for sign in sorted(latex.SIGNS.values(), key=len, reverse=True))
    assert not set("\\~^_%&#${}−±<>↑Δτ…“”\n") & set(re.sub(maths, "", escaped))
    assert len(re.findall(r"(?<!\\)\{", escaped)) == len(re.findall(r"(?<!\\)\}", escaped))


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
        self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


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
