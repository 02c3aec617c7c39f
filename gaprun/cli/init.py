"""`gaprun init`: the recipes that come with gaprun, as files to start from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gaprun.cli.common import console
from gaprun.tables.numbers import counted


def register(app: typer.Typer) -> None:
    """Add `init` to `app`."""
    app.command(epilog="Example: gaprun init recipes")(init)


def init(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Where to write them, such as recipes.")],
) -> None:
    """Write the recipes that come with gaprun into DIR, to be read, changed and extended; no file is written over.

    Without it they are found by name: `gaprun train reparam`.
    """
    from gaprun.recipe.packaged import write_recipes

    count = write_recipes(folder)
    console.print(
        f"wrote {counted(count, 'recipe')} to {folder}; next: gaprun data scenes --out data/scenes, then "
        f"gaprun train {folder / 'quickstart.yaml'}; for photos of your own: {folder / 'templates' / 'photos.yaml'}",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )
