"""What the commands of `gaprun theory` share: their options, and how a page is written."""

from __future__ import annotations

from contextlib import AbstractContextManager
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from gaprun.cli.common import err_console


class RuleName(StrEnum):
    """What `--rule` takes."""

    exp = "exp"
    scaled_exp = "scaled-exp"
    softplus = "softplus"
    fixed = "fixed"
    schedule = "schedule"


class FeatureKind(StrEnum):
    """What `--features` of `theory init` takes."""

    parallel = "parallel"
    free = "free"
    linear = "linear"
    two_layer = "two-layer"


class GapOf(StrEnum):
    """What `--gap-of` of `theory init` takes."""

    pairs = "pairs"
    batch = "batch"


def check_out(path: Path | None) -> Path | None:
    """Refuse an `--out` that holds somebody else's file before anything is computed for it."""
    from gaprun.files import check_page

    return check_page(path)


OutOption = Annotated[
    Path | None,
    typer.Option("--out", metavar="FILE.html", help="Write a page of figures.", callback=check_out),
]
SeedOption = Annotated[int, typer.Option(help="Seed of every random draw.")]


def one_thread() -> AbstractContextManager[Any]:
    """Matrices of a few hundred rows are multiplied several times faster by one thread than by two."""
    from threadpoolctl import threadpool_limits

    return threadpool_limits(limits=1)


def write_page(path: Path, page: str) -> None:
    """Write an HTML page and say so on stderr; see `files.replace_page` for what it raises."""
    from gaprun.files import replace_page

    replace_page(path, page)
    err_console.print(f"wrote {path}", markup=False, soft_wrap=True)
