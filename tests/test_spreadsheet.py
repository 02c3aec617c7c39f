"""Texts that a spreadsheet would run are shown by it, and read back as they were."""

from __future__ import annotations

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gaprun.spreadsheet import csv_cell, csv_text, text_of


@pytest.mark.parametrize(
    "text",
    [
        "=1+1",
        '=HYPERLINK("http://x")',
        "+1+1",
        "-2+3",
        "@SUM(A1)",
        "\t=1",
        "\r=1",
        "\n=1",
        "\uff1d1",
        "'=1",
        "-",
        "+",
    ],
)
def test_what_a_spreadsheet_would_run_is_text(text: str) -> None:
    assert csv_cell(text) == f"'{text}" and text_of(f"'{text}") == text


@pytest.mark.parametrize(
    "value", [-1, -0.5, None, True, 1e300, "-0.5", "+3", "-1e-5", "-.5", "baseline", "a=1", " =1"]
)
def test_numbers_and_plain_texts_stay(value: object) -> None:
    assert csv_cell(value) == value


@given(st.lists(st.text(), min_size=2, max_size=2))
def test_every_text_comes_back_through_a_csv(texts: list[str]) -> None:
    file = io.StringIO(csv_text([["a", "b"], texts, ["end", 1.5]]), newline="")
    head, written, last = list(csv.reader(file))
    assert [text_of(cell) for cell in written] == texts and (head, last) == (["a", "b"], ["end", "1.5"])
    for cell in written:
        assert not cell.startswith(("=", "@", "\t", "\r", "\n"))
