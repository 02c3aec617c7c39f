"""Stored values by column."""

from gaprun.store.columns import ValueColumns

ROWS = [
    {"id": "a", "metric": "gap", "value": 0.5},
    {"id": "b", "metric": "rmg", "value": None},
    {"id": "a", "metric": "rmg", "value": 0.25},
    {"id": "a", "metric": "gap", "value": 0.125},
]


def test_rows_come_back_as_they_were():
    columns = ValueColumns.of(["id", "metric", "value"], [tuple(row.values()) for row in ROWS])
    assert columns.rows() == ValueColumns.of_rows(ROWS).rows() == ROWS
    assert len(columns) == 4 and columns["id"] == ["a", "b", "a", "a"]
    columns["unit"] = map(len, columns["metric"])
    assert list(columns.entries("unit", "value", [1, 2, 3, 4])) == [
        (3, 0.5, 1),
        (3, None, 2),
        (3, 0.25, 3),
        (3, 0.125, 4),
    ]


def test_kinds_are_numbered_as_they_first_appear():
    columns = ValueColumns.of_rows(ROWS)
    codes, found = columns.kinds("id", "metric")
    assert codes == [0, 1, 2, 0] and found == [("a", "gap"), ("b", "rmg"), ("a", "rmg")]
    assert columns.first(codes, "value") == [0.5, None, 0.25]
    assert columns.kinds("id", ["x", "x", "x", "y"])[1] == [("a", "x"), ("b", "x"), ("a", "y")]


def test_rows_are_kept_and_taken():
    columns = ValueColumns.of_rows(ROWS)
    assert columns.kept([True] * 4) is columns
    assert columns.kept([False, True, False, True]).rows() == [ROWS[1], ROWS[3]]
    assert columns.taken([3, 1]).rows() == [ROWS[3], ROWS[1]]
    assert len(columns) == 4


def test_without_rows_the_columns_are_there():
    for empty in (ValueColumns.of(["id", "value"], []), ValueColumns.of_rows(ROWS).kept([False] * 4)):
        assert len(empty) == 0 and not empty and empty.rows() == [] and empty["value"] == []
        assert empty.kinds("id", "value") == ([], [])
    assert ValueColumns.of_rows([]).rows() == []
