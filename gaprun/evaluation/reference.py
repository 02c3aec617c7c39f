"""The list of metrics in docs/metrics.md, made from their declarations: `python -m gaprun.evaluation.reference FILE`
renews it between its two marks."""

from __future__ import annotations

import sys
from pathlib import Path

from gaprun.errors import UserError
from gaprun.evaluation.catalogue import families, short_names
from gaprun.files import write_atomically

BEGIN, END = "<!-- metrics: made by `make docs` from the tasks' declarations -->", "<!-- end of metrics -->"
SIDES = {"up": "up", "down": "down", "none": "-"}


def metric_list() -> str:
    """A table of every declared metric by task, and the short names."""
    lines = [
        "| family | metric | what it is | unit | better | decimals | over queries |",
        "|---|---|---|---|---|---|---|",
    ]
    for family, metrics in families().items():
        for one in metrics:
            unit, tested = one.unit or "", "yes" if one.outcome else ""
            places = "4 digits" if one.places is None else one.places
            lines.append(
                f"| {family} | `{one.name}` | {one.words} | {unit} | {SIDES[one.direction]} | {places} | {tested} |"
            )
    short = [
        f"`{name}` ({', '.join(f'`{part}`' for part in parts)})"
        for name, parts in short_names().items()
        if name not in families()
    ]
    return "\n".join([*lines, "", f"Short names for several: a family's name, and {'; '.join(short)}."])


def renewed(page: str) -> str:
    """`page` with the list as it is declared now. Raises UserError for a page without the two marks."""
    head, begin, rest = page.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise UserError(f"the page has no place for the list of metrics: {BEGIN} ... {END}")
    return f"{head}{BEGIN}\n\n{metric_list()}\n\n{END}{tail}"


if __name__ == "__main__":
    target = Path(sys.argv[1])
    text = renewed(target.read_text(encoding="utf-8"))
    write_atomically(target, lambda path: path.write_text(text, encoding="utf-8"))
