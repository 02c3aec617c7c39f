"""Options that several commands take, each declared once: one name, one meaning. Those of tables are in `output`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from gaprun.cli.common import given
from gaprun.cli.help import Command
from gaprun.errors import UserError


def _remembered(db: str | None) -> str | None:
    given["--db"] = db
    return db


DbOption = Annotated[
    str | None,
    typer.Option(
        "--db",
        envvar="GAPRUN_DB",
        show_default="results.db",
        callback=_remembered,
        help="Database: a SQLite file or a URL such as postgresql://host/name.",
    ),
]
WhereOption = Annotated[
    list[str] | None,
    typer.Option(
        "--where",
        metavar="KEY=VALUE",
        help="Only what fits: recipe, seed, status, tag, dataset, any recipe key such as schedule.steps; also !=.",
    ),
]
AtOption = Annotated[
    str | None,
    typer.Option(
        "--at",
        metavar="MOMENT",
        help="Values of a moment of training: step=400, epoch=2, or each run's best, best:METRIC@DATA/SPLIT.",
        show_default="the end",
    ),
]
MarginOption = Annotated[
    list[str] | None,
    typer.Option(
        "--margin",
        metavar="[METRIC=]SIZE",
        help="Also test whether a difference so large, in the metric's units, is ruled out (≈; repeatable).",
    ),
]
SeedsOption = Annotated[
    str | None, typer.Option("--seeds", help="Seeds instead of the recipe's, e.g. 0,1,2.")
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", help="Change a key of the recipe: a.b=value; extends=FILE replaces its parent."),
]
DeviceOption = Annotated[str, typer.Option("--device", help="auto, cpu, cuda or cuda:1.")]
WorkersOption = Annotated[
    int | None,
    typer.Option("--workers", min=0, help="Pictures read at the same time; no result depends on it."),
]
JobsOption = Annotated[
    int | None,
    typer.Option(
        "--jobs",
        min=1,
        help="Jobs that run at the same time; default: one on each GPU or core, in SLURM 256.",
    ),
]
ProcessesOption = Annotated[
    int | None,
    typer.Option(
        "--nproc-per-node",
        min=1,
        help="Processes on each machine that train one job together (named as in torchrun).",
    ),
]
TopOption = Annotated[
    int | None,
    typer.Option("--top", min=1, help="Show only the first so many rows; no number depends on it."),
]
ForceOption = Annotated[
    bool, typer.Option("--force", help="Replace what was written there with other settings.")
]


def now_called(names: Mapping[str, str]) -> type[Command]:
    """A command that refuses its options of before: `names` says what each (or an option with a value) is now."""

    class Renamed(Command):
        def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
            words = f" {' '.join(args)} ".replace("=", " ")
            for old, new in names.items():
                if f" {old} " in words:
                    raise UserError(f"{old} is now {new}")
            return super().parse_args(ctx, args)

    return Renamed
