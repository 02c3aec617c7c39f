"""The order of texts in a query: by their characters' numbers everywhere, as Python sorts them.

A server sorts texts by its own locale (`a-b` before `A_b` before `ab`), SQLite by their bytes. Where an order is seen,
or decides which rows are taken, it must not depend on where the database lies.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import String
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement


class by_code(FunctionElement[str]):  # noqa: N801 - named as what it does, like sqlalchemy's own
    """`by_code(column)`: the text column, ordered by its characters' numbers."""

    type = String()
    inherit_cache = True


@compiles(by_code)
def _as_it_is(element: by_code, compiler: Any, **options: Any) -> str:
    text: str = compiler.process(element.clauses, **options)
    return text


@compiles(by_code, "postgresql")
def _without_locale(element: by_code, compiler: Any, **options: Any) -> str:
    return f'({compiler.process(element.clauses, **options)} COLLATE "C")'
