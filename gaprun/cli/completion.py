"""What Tab offers beyond commands and options: recipe files, run ids, metric names, data splits.

The shell asks while someone types: nothing here imports torch or pandas, changes a database, or fails aloud.
Install with `gaprun --install-completion`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import typer

RECIPE_FOLDER = Path("recipes")


def recipes(incomplete: str) -> list[str]:
    """YAML files and folders that begin so, at first those under `recipes/`; elsewhere also gaprun's own by name."""
    if not incomplete and RECIPE_FOLDER.is_dir():
        return sorted(str(path) for path in RECIPE_FOLDER.rglob("*.yaml"))
    typed = Path(incomplete)
    folder = typed if incomplete.endswith(os.sep) or not incomplete else typed.parent
    found = []
    try:
        for path in sorted(folder.iterdir()):
            if path.is_dir() and not path.name.startswith("."):
                found.append(f"{path}{os.sep}")
            elif path.suffix in (".yaml", ".yml"):
                found.append(str(path))
    except OSError:
        return []
    from gaprun.recipe.packaged import names

    if not RECIPE_FOLDER.is_dir():
        found += names()
    return [name for name in found if name.startswith(incomplete.removeprefix("./"))]


def runs(context: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """Ids of runs in the database that the command line (or GAPRUN_DB) names, newest first, with their status."""
    return [(run, status) for run, status in _runs(context.params.get("db")) if run.startswith(incomplete)]


def metrics(incomplete: str) -> list[str]:
    """Names of metrics, short names first."""
    from gaprun.evaluation.catalogue import declared, short_names

    return [name for name in (*short_names(), *declared()) if name.startswith(incomplete)]


def splits(incomplete: str) -> list[str]:
    """Splits under the data root."""
    from gaprun.data.split import data_root, list_splits

    return [name for name in list_splits(data_root()) if name.startswith(incomplete)]


def _runs(db: str | None) -> Iterator[tuple[str, str]]:
    from sqlalchemy import select
    from sqlalchemy.exc import SQLAlchemyError

    from gaprun.errors import GaprunError
    from gaprun.store.engine import make_engine
    from gaprun.store.models import Run
    from gaprun.store.place import check_file, locate

    try:
        engine = make_engine(check_file(locate(db), create=False))
        with engine.connect() as connection:
            yield from connection.execute(select(Run.id, Run.status).order_by(Run.created.desc())).all()
    except (GaprunError, SQLAlchemyError):
        return
