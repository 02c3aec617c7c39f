"""Stored values by column: what 100,000 of them are selected, grouped and averaged in without an object each."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import compress
from typing import Any

Entries = tuple[Any, ...]


class ValueColumns:
    """Columns of one length by name, each a list with an entry a row; a column may be set anew or added."""

    def __init__(self, columns: Mapping[str, list[Any]]) -> None:
        self._columns = dict(columns)

    @classmethod
    def of(cls, names: Sequence[str], records: Sequence[Sequence[Any]]) -> ValueColumns:
        """Of records that have the columns `names`, in this order."""
        by_column = zip(*records, strict=True) if records else [()] * len(names)
        return cls(dict(zip(names, map(list, by_column), strict=True)))

    @classmethod
    def of_rows(cls, rows: Sequence[Mapping[str, Any]]) -> ValueColumns:
        """Of mappings with the same keys."""
        return cls({name: [row[name] for row in rows] for name in (rows[0] if rows else ())})

    def rows(self) -> list[dict[str, Any]]:
        """A dictionary a row, for who looks at few."""
        names = list(self._columns)
        return [dict(zip(names, one, strict=True)) for one in zip(*self._columns.values(), strict=True)]

    def __len__(self) -> int:
        return len(next(iter(self._columns.values()), ()))

    def __getitem__(self, name: str) -> list[Any]:
        return self._columns[name]

    def __setitem__(self, name: str, column: Iterable[Any]) -> None:
        self._columns[name] = list(column)

    def entries(self, *columns: str | Sequence[Any]) -> Iterator[Entries]:
        """The entries of these columns, by name or as they are, a tuple a row."""
        return zip(*(self[one] if isinstance(one, str) else one for one in columns), strict=True)

    def taken(self, rows: Sequence[int]) -> ValueColumns:
        """The rows of these numbers, in this order."""
        return ValueColumns({name: [column[row] for row in rows] for name, column in self._columns.items()})

    def kept(self, keep: Sequence[bool]) -> ValueColumns:
        """The rows for which `keep` holds."""
        if all(keep):
            return self
        return ValueColumns({name: list(compress(column, keep)) for name, column in self._columns.items()})

    def kinds(self, *columns: str | Sequence[Any]) -> tuple[list[int], list[Entries]]:
        """For each row the number of its entries in these columns, and the distinct entries as they first appear."""
        numbers: defaultdict[Entries, int] = defaultdict()
        numbers.default_factory = numbers.__len__  # one not met before gets the next number
        codes = list(map(numbers.__getitem__, self.entries(*columns)))
        numbers.default_factory = None
        return codes, list(numbers)

    def first(self, codes: Sequence[int], name: str) -> list[Any]:
        """The entry of `name` in the first row of each kind, given the `codes` of `kinds`."""
        found = dict(zip(reversed(codes), reversed(self[name]), strict=True))
        return [found[code] for code in range(len(found))]
