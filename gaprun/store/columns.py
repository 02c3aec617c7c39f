"""Stored values by column: what 100,000 of them are selected, grouped and averaged in without an object each."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import compress
from typing import Any

Entries = tuple[Any, ...]


class ValueColumns:
    """Columns of one length by name, each with an entry a row; a column may be set anew or added.

    Columns whose entries repeat together are held by kind: of each row the number of its kind, of each kind the entry.
    So rows are told apart by them without a look at each row.
    """

    def __init__(
        self,
        columns: Mapping[str, list[Any]],
        codes: Sequence[int] = (),
        by_kind: Mapping[str, Sequence[Any]] | None = None,
    ) -> None:
        """`codes`: a number a row, from 0 up; `by_kind`: of further columns the entry of each number."""
        self._columns = dict(columns)
        self._codes = list(codes)
        self._by_kind = dict(by_kind or {})

    @classmethod
    def of(
        cls, names: Sequence[str], records: Sequence[Sequence[Any]], packed: Sequence[str] = ()
    ) -> ValueColumns:
        """Of records that have the columns `names`, in this order, and last those of `packed` as a JSON list."""
        by_column = list(zip(*records, strict=True)) if records else [()] * (len(names) + bool(packed))
        codes, texts = _numbered(by_column.pop() if packed else ())
        kinds = [json.loads(text) for text in texts]
        by_kind = {name: [kind[place] for kind in kinds] for place, name in enumerate(packed)}
        return cls(dict(zip(names, map(list, by_column), strict=True)), codes, by_kind)

    @classmethod
    def of_rows(cls, rows: Sequence[Mapping[str, Any]]) -> ValueColumns:
        """Of mappings with the same keys."""
        return cls({name: [row[name] for row in rows] for name in (rows[0] if rows else ())})

    def rows(self) -> list[dict[str, Any]]:
        """A dictionary a row, for who looks at few."""
        names = [*self._columns, *self._by_kind]
        return [dict(zip(names, one, strict=True)) for one in self.entries(*names)]

    def __len__(self) -> int:
        return len(next(iter(self._columns.values()), self._codes))

    def __getitem__(self, name: str) -> list[Any]:
        if name in self._by_kind:
            return list(map(self._by_kind[name].__getitem__, self._codes))
        return self._columns[name]

    def __setitem__(self, name: str, column: Iterable[Any]) -> None:
        self._columns[name] = list(column)
        self._by_kind.pop(name, None)

    def set_by_kind(self, codes: Sequence[int], entries: Mapping[str, Sequence[Any]]) -> None:
        """Set the columns of these names: in each row the entry of the number that `codes` has there."""
        self._codes, kinds = _numbered(zip(self._codes or codes, codes, strict=True))
        known = {name: [own[kind] for kind, _ in kinds] for name, own in self._by_kind.items()}
        self._by_kind = known | {name: [own[code] for _, code in kinds] for name, own in entries.items()}
        for name in entries:
            self._columns.pop(name, None)

    def entries(self, *columns: str | Sequence[Any]) -> Iterator[Entries]:
        """The entries of these columns, by name or as they are, a tuple a row."""
        return zip(*(self[one] if isinstance(one, str) else one for one in columns), strict=True)

    def taken(self, rows: Sequence[int]) -> ValueColumns:
        """The rows of these numbers, in this order."""
        return self._of_each(lambda column: [column[row] for row in rows])

    def kept(self, keep: Sequence[bool]) -> ValueColumns:
        """The rows for which `keep` holds."""
        return self if all(keep) else self._of_each(lambda column: list(compress(column, keep)))

    def _of_each(self, change: Callable[[list[Any]], list[Any]]) -> ValueColumns:
        columns = {name: change(column) for name, column in self._columns.items()}
        return ValueColumns(columns, change(self._codes) if self._by_kind else (), self._by_kind)

    def kinds(self, *columns: str | Sequence[Any]) -> tuple[list[int], list[Entries]]:
        """For each row the number of its entries in these columns, and the distinct entries as they first appear."""
        if not all(isinstance(one, str) and one in self._by_kind for one in columns):
            return _numbered(self.entries(*columns))
        present = list(dict.fromkeys(self._codes))
        own = [self._by_kind[str(name)] for name in columns]
        numbers, found = _numbered(tuple([entries[kind] for entries in own]) for kind in present)
        alike = dict(zip(present, numbers, strict=True))
        return list(map(alike.__getitem__, self._codes)), found

    def first(self, codes: Sequence[int], name: str) -> list[Any]:
        """The entry of `name` in the first row of each kind, given the `codes` of `kinds`."""
        found = dict(zip(reversed(codes), reversed(self[name]), strict=True))
        return [found[code] for code in range(len(found))]


def _numbered(entries: Iterable[Any]) -> tuple[list[int], list[Any]]:
    """Of each entry the number of those like it, and the distinct ones as they first appear."""
    numbers: defaultdict[Any, int] = defaultdict()
    numbers.default_factory = numbers.__len__  # one not met before gets the next number
    codes = list(map(numbers.__getitem__, entries))
    numbers.default_factory = None
    return codes, list(numbers)
