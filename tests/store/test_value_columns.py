"""Stored values by column."""

import json

from hypothesis import given
from hypothesis import strategies as st

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
        assert empty.kinds("id", "value") == ([], []) and empty.distinct("id") == []
        assert empty.each_together("id", "value") == [] and len(empty) == 0 and empty.rows() == []
    assert ValueColumns.of_rows([]).rows() == []


def test_columns_by_kind_are_columns_like_others():
    records = [("a", '["gap", 1]'), ("b", '["rmg", null]'), ("c", '["gap", 1]'), ("d", '["gap", 2]')]
    packed = ValueColumns.of(["id"], records, ["metric", "n"])
    rows = [dict(zip(("id", "metric", "n"), (own, *json.loads(text)), strict=True)) for own, text in records]
    assert packed.rows() == rows and packed["n"] == [1, None, 1, 2]
    assert packed.kinds("metric", "n") == ([0, 1, 0, 2], [("gap", 1), ("rmg", None), ("gap", 2)])
    assert packed.kinds("metric", ["x", "x", "y", "x"])[1] == [("gap", "x"), ("rmg", "x"), ("gap", "y")]
    packed["n"] = [5, 6, 7, 8]
    assert packed.rows() == [row | {"n": n} for row, n in zip(rows, (5, 6, 7, 8), strict=True)]
    assert packed.kinds("metric", "n")[0] == [0, 1, 2, 3]


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2), st.integers(0, 2)), max_size=12), st.data())
def test_columns_by_kind_say_what_plain_columns_say(entries, data):
    names = ("a", "b", "c")
    plain = ValueColumns.of(names, entries)
    by_kind = ValueColumns.of(("a",), [(one[0], json.dumps(one[1:])) for one in entries], ("b", "c"))
    assert by_kind.each_together("b", "c") == [*dict.fromkeys(one[1:] for one in entries)]
    told = by_kind.each_together("a", "b")  # from here on `a` is held by kind too
    by_kind.set_each("sum", map(sum, told))
    by_kind.set_each("a", by_kind.each("a"))
    plain["sum"] = [a + b for a, b, _ in entries]
    keep = data.draw(st.lists(st.booleans(), min_size=len(entries), max_size=len(entries)))
    order = data.draw(st.permutations(range(sum(keep))))
    for columns in [("a",), ("b",), ("sum",), ("a", "b", "sum"), ("c", "c"), ("sum", list(range(sum(keep))))]:
        both = [own.kept(keep).taken(order).kinds(*columns) for own in (plain, by_kind)]
        assert both[0] == both[1]
        found = [own.kept(keep).taken(order).distinct(*columns) for own in (plain, by_kind)]
        assert found[0] == found[1] == both[0][1]
    assert sorted(map(str, by_kind.rows())) == sorted(
        str({name: row[name] for name in by_kind.rows()[0]}) for row in plain.rows()
    )
