"""A table as HTML, and the environment of every page: jinja2 templates that lie in the package, all text escaped."""

from __future__ import annotations

import re
from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from gaprun.tables.value import Table


@cache
def environment(package: str) -> Environment:
    """The templates in `package`'s folder `templates`.

    What a template is given is escaped, but for `Markup`; a name that it is not given is an error.
    """
    found = Environment(
        loader=PackageLoader(package),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters["coded"] = coded
    found.filters["breakable"] = breakable
    return found


def breakable(name: str) -> Markup:
    """A name that a line may break behind each `=`, `_` and `/`, as it may behind a hyphen, and not inside a word."""
    return Markup(re.sub("([=_/])", r"\1<wbr>", str(escape(name))))


def coded(text: str) -> Markup:
    """A sentence with its `words in backticks` as code."""
    parts = str(text).split("`")
    return Markup("").join(
        Markup("<code>{}</code>").format(part) if place % 2 else escape(part)
        for place, part in enumerate(parts)
    )


def filled(package: str, name: str, **values: object) -> Markup:
    """The template `name` of `package` with these values."""
    return Markup(environment(package).get_template(name).render(**values))


def render(table: Table, sortable: str = "", wrap: bool = False) -> Markup:
    """The table in a box that scrolls, its title above and its legend below.

    sortable: the id of a table whose heads are buttons (a script sorts it); wrap: sentences in cells may break.
    """
    return filled("gaprun.tables", "table.html", table=table.stacked(), sortable=sortable, wrap=wrap)
