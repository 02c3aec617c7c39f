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
    Kinds are numbered as they first appear, and each has a row. So rows are told apart without a look at each row.
    """

    def __init__(
        self,
        columns: Mapping[str, list[Any]],
        codes: Sequence[int] = (),
        by_kind: Mapping[str, Sequence[Any]] | None = None,
    ) -> None:
        """`codes`: each row's kind; `by_kind`: of further columns the entry of each kind."""
        self._columns = dict(columns)
        self._codes = codes
        self._by_kind = dict(by_kind or {})

    @classmethod
    def of(
        cls, names: Sequence[str], records: Sequence[Sequence[Any]], packed: Sequence[str] = ()
    ) -> ValueColumns:
        """Of records that have the columns `names`, in this order, and last those of `packed` as a JSON list, which are
        held by kind."""
        by_column = list(zip(*records, strict=True)) if records else [()] * (len(names) + bool(packed))
        codes, texts = _numbered(by_column.pop() if packed else ())
        kinds = json.loads(f"[{','.join(texts)}]")
        by_kind = zip(*kinds, strict=True) if kinds else [()] * len(packed)
        columns = dict(zip(names, map(list, by_column), strict=True))
        return cls(columns, codes, dict(zip(packed, by_kind, strict=True)))

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

    def each(self, name: str) -> list[Any]:
        """The entry of this column in each kind; it is held by kind from here on."""
        return [entry for (entry,) in self.each_together(name)]

    def each_together(self, *names: str) -> list[Entries]:
        """The entries of these columns in each kind; they are held by kind from here on."""
        if alone := [name for name in dict.fromkeys(names) if name not in self._by_kind]:
            parts = [self._codes] if self._by_kind else []
            self._codes, told = _numbered(self.entries(*parts, *alone))
            if parts:
                known = [kind for kind, *_ in told]
                self._by_kind = {name: [own[kind] for kind in known] for name, own in self._by_kind.items()}
            for place, name in enumerate(alone, len(parts)):
                self._by_kind[name] = [entries[place] for entries in told]
                del self._columns[name]
        return list(zip(*(self._by_kind[name] for name in names), strict=True))

    def set_each(self, name: str, entries: Iterable[Any]) -> None:
        """Set the column to one entry for each kind, as `each` gives them."""
        self._by_kind[name] = list(entries)
        self._columns.pop(name, None)

    def entries(self, *columns: str | Sequence[Any]) -> Iterator[Entries]:
        """The entries of these columns, by name or as they are, a tuple a row."""
        return zip(*(self[one] if isinstance(one, str) else one for one in columns), strict=True)

    def taken(self, rows: Sequence[int]) -> ValueColumns:
        """The rows of these numbers, in this order."""
        return self._of_each(lambda column: list(map(column.__getitem__, rows)))

    def kept(self, keep: Sequence[bool]) -> ValueColumns:
        """The rows for which `keep` holds."""
        return self if all(keep) else self._of_each(lambda column: list(compress(column, keep)))

    def _of_each(self, change: Callable[[Sequence[Any]], list[Any]]) -> ValueColumns:
        columns = {name: change(column) for name, column in self._columns.items()}
        if not self._by_kind:
            return ValueColumns(columns)
        codes, present = _numbered(change(self._codes))
        by_kind = {name: list(map(own.__getitem__, present)) for name, own in self._by_kind.items()}
        return ValueColumns(columns, codes, by_kind)

    def kinds(self, *columns: str | Sequence[Any]) -> tuple[Sequence[int], list[Entries]]:
        """For each row the number of its entries in these columns, and the distinct entries as they first appear."""
        if not self._all_by_kind(columns):
            return _numbered(self.entries(*columns))
        numbers, found = _numbered(self.each_together(*map(str, columns)))
        alike = len(found) < len(numbers)
        return (list(map(numbers.__getitem__, self._codes)) if alike else self._codes), found

    def distinct(self, *columns: str | Sequence[Any]) -> list[Entries]:
        """The distinct entries of these columns as they first appear."""
        by_kind = self._all_by_kind(columns)
        return list(
            dict.fromkeys(self.each_together(*map(str, columns)) if by_kind else self.entries(*columns))
        )

    def _all_by_kind(self, columns: Sequence[str | Sequence[Any]]) -> bool:
        return all(isinstance(one, str) and one in self._by_kind for one in columns)

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
