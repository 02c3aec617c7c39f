"""`gaprun data`: a command for each reader of a data set, which writes it as tar shards; index and check."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gaprun.cli.common import err_console
from gaprun.cli.help import Commands
from gaprun.cli.options import ForceOption, WorkersOption
from gaprun.cli.output import Format, FormatOption, JsonOption, chosen, show
from gaprun.cli.progress import bar
from gaprun.cli.readers import group_with_readers
from gaprun.data.languages import HELP as LANGUAGE_HELP
from gaprun.tables import Cell, Heading, Table
from gaprun.tables.numbers import counted

if TYPE_CHECKING:
    from gaprun.data.check import SplitReport
    from gaprun.data.reader import Reader


def _write(reader: Reader, force: bool, workers: int | None, how: Format) -> None:
    """Write a reader's splits under a progress bar and print what was written and what was counted."""
    from gaprun.data.parallel import usable_cores
    from gaprun.data.write import write_splits

    plans = reader.plans()
    with bar("writing", "pictures") as progress:
        results = write_splits(plans, force, workers or usable_cores(), progress)
    _show([(plan.folder, *result) for plan, result in zip(plans, results, strict=True)], how)
    _say_where(plans[0].folder)


data = Commands(
    cls=group_with_readers(_write),
    no_args_is_help=True,
    help="Write, index and check data sets.",
)


def register(app: typer.Typer) -> None:
    """Add the `data` commands to `app`."""
    app.add_typer(data, name="data")


@data.command(epilog="Example: gaprun data index '/data/cc3m/{00000..00331}.tar' --out data/cc3m/train")
def index(
    shards: Annotated[
        list[str],
        typer.Argument(
            help="The folder of .tar shards; with --out also several, files and {000..099} patterns."
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(help="Put the index here, beside links to the shards; default: into their own folder."),
    ] = None,
    language: Annotated[list[str] | None, typer.Option(help=LANGUAGE_HELP)] = None,
    workers: WorkersOption = None,
    force: ForceOption = False,
    format: FormatOption = Format.table,
    json: JsonOption = False,
) -> None:
    """Make shards of img2dataset or open_clip (jpg, png or webp with txt or json) a split, where they are."""
    how = chosen(format, json)
    from gaprun.data.foreign import index_folder, may_index
    from gaprun.data.linked import link_shards
    from gaprun.data.parallel import usable_cores
    from gaprun.errors import UserError

    if len(shards) == 1 and not set(shards[0]) & set("{*?[") and not Path(shards[0]).exists():
        raise UserError(f"{shards[0]}: no such folder or shard")
    if out is None and (len(shards) > 1 or not Path(shards[0]).is_dir()):
        raise UserError(
            f"{shards[0]}: name one folder, or say with --out where the index of these shards goes"
        )
    folder = out or Path(shards[0])
    if out is not None:
        may_index(out, force)
        link_shards(shards, out)
    with bar("reading shards") as progress:
        made = index_folder(folder, force, workers or usable_cores(), progress, language or [])
    _show([(folder, made, True)], how)
    if out is not None:
        _say_where(folder)


@data.command(epilog="Example: gaprun data check data/coco")
def check(
    paths: Annotated[list[Path], typer.Argument(help="Split folders, or folders of splits.")],
    workers: WorkersOption = None,
    format: FormatOption = Format.table,
    json: JsonOption = False,
) -> None:
    """Verify checksums and tar structure, decode every picture; exit code 1 where something is damaged."""
    how = chosen(format, json)
    from gaprun.data.check import check_split, find_splits
    from gaprun.data.parallel import usable_cores
    from gaprun.errors import UserError

    folders, absent = [], []
    for path in paths:
        try:
            folders += find_splits(path)
        except UserError as error:
            absent.append(error)
    if absent and not folders:
        raise absent[0]
    with bar("decoding", "pictures") as progress:
        reports = [check_split(folder, workers or usable_cores(), progress) for folder in folders]
    show(_reports_table(reports), how)
    for reason in absent:
        err_console.print(f"not checked: {reason}", soft_wrap=True, markup=False, highlight=False)
    if absent or any(report.damage for report in reports):
        raise typer.Exit(1)


def _reports_table(reports: Sequence[SplitReport]) -> Table:
    """What was checked, and below it every damage with its shard and key."""
    from gaprun.data.check import shared_pictures

    names = ("samples", "captions", "decoded", "no caption", "repeated pictures")
    heads: list[Heading | str] = [
        "split",
        *(Heading(name.replace(" ", "\n"), right=True) for name in names),
        "damage",
    ]
    rows: list[list[Cell | str]] = []
    legend = [
        f"{count:,} pictures are in both {first} and {second}"
        for first, second, count in shared_pictures(reports)
    ]
    for one in reports:
        numbers = (one.samples, one.captions, one.decoded, one.without_caption, one.repeated_pictures)
        damage = Cell((str(len(one.damage)) if one.damage else "none",), "bad" if one.damage else "")
        rows.append([one.folder, *(f"{number:,}" for number in numbers), damage])
        for found in one.damage:
            place = " ".join(part for part in (one.folder, found.shard, found.key) if part)
            legend.append(f"{place}: {found.problem}")
    return Table.of("checked", heads, rows, [report.as_dict() for report in reports], legend=legend)


def _say_where(folder: Path) -> None:
    """Say how recipes name the split `folder` where it lies outside the folder that their names start from."""
    import os

    from gaprun.data.split import data_root

    root = data_root()
    if folder.absolute().parent.parent == root.absolute():
        return
    unused = (
        f"GAPRUN_DATA={root} is where recipes look"
        if os.environ.get("GAPRUN_DATA")
        else "GAPRUN_DATA is unset"
    )
    text = f"note: written to {folder.absolute().parent}; {unused}: name its splits by path, such as {folder}"
    err_console.print(text, soft_wrap=True, markup=False, highlight=False)


def _show(splits: Sequence[tuple[Path, dict[str, Any], bool]], how: Format) -> None:
    """Print each split's folder, its index in short, and whether it was written now."""
    from gaprun.data.tally import REASONS

    keys = ("dataset", "split", "samples", "captions", "shared_captions", "fingerprint", "report", "examples")
    records = [
        {"folder": str(folder), "written": written} | {key: index.get(key) for key in keys}
        for folder, index, written in splits
    ]
    pictures, captions = (sum(index[key] for _, index, _ in splits) for key in ("samples", "captions"))
    rows, legend = [], [f"In all: {counted(pictures, 'picture')}, {counted(captions, 'caption')}"]
    for folder, index, written in splits:
        size = sum(shard["bytes"] for shard in index["shards"]) / 2**20
        counts = (
            f"{index['samples']:,}",
            f"{index['captions']:,}",
            str(len(index["shards"])),
            f"{size:,.1f} MiB",
        )
        rows.append((str(folder), *counts, "written" if written else "already there"))
        for reason, count in index["report"].items():
            names = ", ".join(index.get("examples", {}).get(reason, [])[:3])
            such = f" (such as {names})" if names else ""
            legend.append(f"{folder}: {reason}: {count:,}{such} - {REASONS.get(reason, reason)}")
        if index.get("shared_captions"):
            count = index["shared_captions"]
            legend.append(f"{folder}: {count:,} captions have a text that another picture has too")
    numbers = [Heading(name, right=True) for name in ("pictures", "captions", "shards", "size")]
    show(Table.of("splits", ["split", *numbers, ""], rows, records, legend=legend), how)
