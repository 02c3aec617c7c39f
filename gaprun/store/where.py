"""`--where key=value`: conditions on a run's columns and on any dotted key of its resolved recipe."""

from __future__ import annotations

import fnmatch
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from gaprun.errors import UserError

NULLS = ("null", "none")


@dataclass(frozen=True)
class Condition:
    """`key` must (or, `negated`, must not) equal one of `values`; `*` and `?` in a value match any text."""

    key: str
    values: tuple[str, ...]
    negated: bool = False

    def texts(self) -> list[str]:
        """The texts that `parse_conditions` makes it of."""
        return [f"{self.key}{'!' if self.negated else ''}={value}" for value in self.values]

    @property
    def plain(self) -> bool:
        """Whether it is nothing but texts of which one must be equal: what a database can decide by itself."""
        special = any("*" in value or "?" in value or value.lower() in NULLS for value in self.values)
        return not special and not self.negated

    def holds(self, *values: Any) -> bool:
        """Whether one of `values` (several names of one thing) satisfies the condition; see `equal`."""
        return any(equal(value, wanted) for wanted in self.values for value in values) != self.negated


def parse_conditions(texts: Iterable[str]) -> list[Condition]:
    """Conditions from texts `key=value` or `key!=value`. The same key again with `=` allows one more value.

    Raises UserError for text without `=`, a key or a value.
    """
    wanted: dict[tuple[str, bool], list[str]] = {}
    for text in texts:
        key, sign, value = text.partition("=")
        negated = key.endswith("!")
        key = key.removesuffix("!").strip()
        if not sign or not key or not value.strip():
            raise UserError(
                f"--where {text!r}: expected key=value, such as recipe=baseline or optimizer.lr=0.001"
            )
        wanted.setdefault((key, negated), []).append(value.strip())
    return [Condition(key, tuple(values), negated) for (key, negated), values in wanted.items()]


def equal(value: Any, wanted: str) -> bool:
    """Whether `value` is what `wanted` says: 0.10 is 0.1, null is None, `fl*` any text that begins so.

    A list is what any of its entries is, and what its JSON says.
    """
    if isinstance(value, str):
        return value == wanted or (
            any(sign in wanted for sign in "*?") and fnmatch.fnmatchcase(value, wanted.replace("[", "[[]"))
        )
    if value is None:
        return wanted.lower() in NULLS
    if isinstance(value, bool):
        return wanted.lower() == str(value).lower()
    if isinstance(value, int | float):
        for number in (int, float):  # a float has not enough digits for every seed
            try:
                return number(wanted) == value
            except ValueError:
                continue
        return False
    if isinstance(value, list) and any(equal(entry, wanted) for entry in value):
        return True
    try:
        return bool(json.loads(wanted) == value)
    except ValueError:
        return False


def is_place(part: str) -> bool:
    """Whether a part of a dotted key counts in a list, from 0."""
    return part.isascii() and part.isdigit() and len(part) < 10


def is_path(dotted: str) -> bool:
    """Whether every database reads a dotted key alike: a quote ends a name in one, another counts from a list's end."""
    return '"' not in dotted and all(is_place(part) or not _is_number(part) for part in dotted.split("."))


def _is_number(text: str) -> bool:
    try:
        int(text)
    except ValueError:
        return False
    return True


def lookup(document: Mapping[str, Any] | None, dotted: str) -> Any:
    """The value at a dotted key of a nested document (digits index lists); None where there is none."""
    value: Any = document
    for part in dotted.split("."):
        if isinstance(value, Mapping):
            value = value.get(part)
        elif isinstance(value, list) and is_place(part) and int(part) < len(value):
            value = value[int(part)]
        else:
            return None
    return value


def dotted_keys(document: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Every dotted key of a nested document that leads to a value which is not itself a mapping."""
    keys: list[str] = []
    for key, value in document.items():
        name = f"{prefix}{key}"
        keys += dotted_keys(value, f"{name}.") if isinstance(value, Mapping) and value else [name]
    return keys
