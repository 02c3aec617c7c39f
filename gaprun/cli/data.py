"""`gaprun data`: write captioned and labelled pictures as tar shards, index foreign shards, check sets."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gaprun.cli.common import console, err_console, print_json

if TYPE_CHECKING:
    from gaprun.data.write import Plan

data = typer.Typer(no_args_is_help=True, help="Write, index and check data sets.", rich_markup_mode="rich")

Force = Annotated[bool, typer.Option("--force", help="Replace a split written with other settings.")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Workers = Annotated[int | None, typer.Option(min=1, help="Threads that decode and encode; the result does not depend on them.")]


def register(app: typer.Typer) -> None:
    """Add the `data` commands to `app`."""
    app.add_typer(data, name="data")


@data.command(epilog="Example: gaprun data scenes --out data/scenes --train 4000 --test 1000")
def scenes(
    out: Annotated[Path, typer.Option(help="Folder of the data set.")] = Path("data/scenes"),
    train: Annotated[int, typer.Option(help="Captioned pictures to train on.")] = 4000,
    test: Annotated[int, typer.Option(help="Captioned pictures held out.")] = 1000,
    classes_train: Annotated[int, typer.Option(help="Labelled pictures for the linear probe.")] = 2000,
    classes_test: Annotated[int, typer.Option(help="Labelled pictures for zero-shot and probe.")] = 1000,
    size: Annotated[int, typer.Option(help="Side of the pictures in pixels.")] = 32,
    seed: Annotated[int, typer.Option(help="Same seed, same bytes.")] = 0,
    force: Force = False,
    json: Json = False,
) -> None:
    """Draw captioned scenes: one to three shapes on a background, five partial captions each; no download."""
    from gaprun.data.scenes import scenes_plans

    _write(scenes_plans(out, train, test, classes_train, classes_test, size, seed), force, 1, json)


def _write(plans: Sequence[Plan], force: bool, workers: int | None, json: bool) -> None:
    """Write the splits under a progress bar and print what was written and what was counted."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from gaprun.data.parallel import usable_cores
    from gaprun.data.write import write_splits

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=err_console, transient=True) as bar:
        task = bar.add_task("writing", total=None, rate="")

        def progress(done: int, total: int) -> None:
            speed = bar.tasks[0].speed
            bar.update(task, completed=done, total=total, rate=f"{speed:,.0f}/s" if speed else "")

        results = write_splits(plans, force, workers or usable_cores(), progress)
    if json:
        keys = ("dataset", "split", "samples", "captions", "fingerprint", "report")
        rows = zip(plans, results, strict=True)
        print_json(
            [{"folder": str(p.folder), "written": new} | {k: i[k] for k in keys} for p, (i, new) in rows]
        )
        return
    for plan, (index, written) in zip(plans, results, strict=True):
        state = "written" if written else "found, as asked for"
        size = sum(shard["bytes"] for shard in index["shards"]) / 2**20
        console.print(
            f"{plan.folder}: {index['samples']:,} pictures, {index['captions']:,} captions, "
            f"{len(index['shards'])} shards, {size:,.1f} MB ({state})",
            highlight=False,
            soft_wrap=True,
        )
        for reason, count in index["report"].items():
            names = ", ".join(index.get("examples", {}).get(reason, [])[:3])
            console.print(
                f"  {reason}: {count:,}{f' (such as {names})' if names else ''}",
                highlight=False,
                soft_wrap=True,
                markup=False,
            )
