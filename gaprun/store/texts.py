"""Texts that every database and every program can hold: no NUL, no half of a surrogate pair.

PostgreSQL cannot keep them (one NUL in a JSON document makes every question about documents fail), SQLite keeps and
passes them on. So they are refused where texts come in: when a file is imported, when a database is copied, and by the
store itself.
"""

from __future__ import annotations

import re
from typing import Any

from gaprun.errors import UserError

_BAD = re.compile("[\0\ud800-\udfff]")


def check_texts(value: Any, what: str) -> None:
    """Raise UserError, beginning with `what`, for a text with such a character: `value`, or anywhere inside it."""
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, str):
            if found := _BAD.search(item):
                raise UserError(
                    f"{what} holds {'a NUL' if found[0] == chr(0) else 'half of a surrogate pair'} "
                    f"({ascii(item[max(0, found.start() - 10) : found.end() + 10])}), which databases cannot keep"
                )
        elif isinstance(item, dict):
            waiting += [*item.keys(), *item.values()]
        elif isinstance(item, list | tuple):
            waiting += item
