"""`gaprun data`: write captioned and labelled pictures as tar shards, index foreign shards, check sets."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gaprun.cli.common import err_console
from gaprun.cli.output import Format, FormatOption, JsonOption, chosen, show
from gaprun.cli.progress import bar
from gaprun.tables import Cell, Heading, Table

if TYPE_CHECKING:
    from gaprun.data.check import SplitReport
    from gaprun.data.division import Division
    from gaprun.data.tables import Entry
    from gaprun.data.tally import Tally
    from gaprun.data.write import SplitPlan

data = typer.Typer(no_args_is_help=True, help="Write, index and check data sets.", rich_markup_mode="rich")

Force = Annotated[bool, typer.Option("--force", help="Replace a split written with other settings.")]
Out = Annotated[
    Path | None,
    typer.Option(
        help="Folder of the data set; default: its name in GAPRUN_DATA, or in `data` where that is unset."
    ),
]
Workers = Annotated[int | None, typer.Option(min=1, help="Threads; the result does not depend on them.")]


def register(app: typer.Typer) -> None:
    """Add the `data` commands to `app`."""
    app.add_typer(data, name="data")


@data.command(epilog="Example: gaprun data scenes --out data/scenes --train 4000 --test 1000")
def scenes(
    out: Out = None,
    train: Annotated[int, typer.Option(help="Captioned pictures to train on.")] = 4000,
    test: Annotated[int, typer.Option(help="Captioned pictures held out.")] = 1000,
    classes_train: Annotated[int, typer.Option(help="Labelled pictures for the linear probe.")] = 2000,
    classes_test: Annotated[int, typer.Option(help="Labelled pictures for zero-shot and probe.")] = 1000,
    size: Annotated[int, typer.Option(help="Side of the pictures in pixels.")] = 32,
    seed: Annotated[int, typer.Option(help="Same seed, same bytes.")] = 0,
    force: Force = False,
    format: FormatOption = Format.table,
    json: JsonOption = False,
) -> None:
    """Draw captioned scenes: one to three shapes on a background, five partial captions each; no download."""
    from gaprun.data.scenes import scenes_plans
    from gaprun.data.split import data_root

    folder = out or data_root() / "scenes"
    _write(
        scenes_plans(folder, train, test, classes_train, classes_test, size, seed),
        force,
        1,
        chosen(format, json),
    )


Images = Annotated[list[Path], typer.Option("--images", help="Folder of pictures; repeatable.")]
Size = Annotated[
    int | None, typer.Option(help="Bring the shorter side down to this; default: keep the files.")
]
Quality = Annotated[int, typer.Option(help="JPEG quality where --size changes a picture.")]
TestCount = Annotated[int | None, typer.Option("--test", help="Hold out this many pictures as `test`.")]
Fractions = Annotated[str | None, typer.Option(help="Shares by split, e.g. train=0.8,test=0.2.")]
SplitName = Annotated[str, typer.Option("--split", help="Split for pictures that nothing else assigns.")]
Seed = Annotated[int, typer.Option(help="Seed of the division into splits.")]


@data.command(
    epilog="Example: gaprun data coco --images train2014 --images val2014 --karpathy dataset_coco.json"
)
def coco(
    context: typer.Context,
    images: Images,
    captions: Annotated[list[Path] | None, typer.Option(help="captions_*.json; repeatable.")] = None,
    karpathy: Annotated[Path | None, typer.Option(help="Karpathy's dataset_coco.json: its splits.")] = None,
    out: Out = None,
    size: Size = None,
    quality: Quality = 95,
    test: TestCount = None,
    split_fractions: Fractions = None,
    split: SplitName = "train",
    seed: Seed = 0,
    workers: Workers = None,
    force: Force = False,
    format: FormatOption = Format.table,
    json: JsonOption = False,
) -> None:
    """MSCOCO: official pictures and captions (2014 or 2017 names), with Karpathy's splits where given."""
    from gaprun.data.division import Division
    from gaprun.data.sources import coco_entries
    from gaprun.data.tally import Tally

    division, tally = Division.parse(split_fractions, test, split), Tally()
    entries = coco_entries(captions or [], karpathy, not division.divides, tally)
    source = karpathy or (captions or [Path()])[0]
    _captioned(context, "coco", entries, source, division, tally)


@data.command(
    epilog="Example: gaprun data flickr30k --images flickr30k-images --captions dataset_flickr30k.json"
)
def flickr30k(
    context: typer.Context,
    images: Images,
    captions: Annotated[Path, typer.Option(help="dataset_flickr30k.json, results_20130124.token or CSV.")],
    out: Out = None,
    size: Size = None,
    quality: Quality = 95,
    test: TestCount = None,
    split_fractions: Fractions = None,
    seed: Seed = 0,
    workers: Workers = None,
    force: Force = False,
    format: FormatOption = Format.table,
    json: JsonOption = False,
) -> None:
    """Flickr30k: Karpathy's JSON with its splits, or the original token file."""
    from gaprun.data.division import Division
    from gaprun.data.sources import flickr_entries
    from gaprun.data.tally import Tally

    division, tally = Division.parse(split_fractions, test), Tally()
    entries = flickr_entries(captions, tally)
    _captioned(context, "flickr30k", entries, captions, division, tally)


SplitList = Annotated[Path | None, typer.Option(help="Names of the split's pictures, one a line.")]


@data.command(
    epilog="Example: gaprun data flickr8k --images Flicker8k_Dataset --captions Flickr8k.token.txt "
    "--train-list Flickr_8k.trainImages.txt --val-list Flickr_8k.devImages.txt --test-list Flickr_8k.testImages.txt"
)
def flickr8k(
    context: typer.Context,
    images: Images,
    captions: Annotated[Path, typer.Option(help="Flickr8k.token.txt.")],
    train_list: SplitList = None,
    val_list: SplitList = None,
    test_list: SplitList = None,
    out: Out = None,
    size: Size = None,
    quality: Quality = 95,
    test: TestCount = None,
    split_fractions: Fractions = None,
    seed: Seed = 0,
    workers: Workers = None,
    force: Force = False,
    format: FormatOption = Format.table,
    json: JsonOption = False,
) -> None:
    """Flickr8k: the official token file, with the official split lists where given."""
    from gaprun.data.division import Division
    from gaprun.data.sources import flickr8k_entries
    from gaprun.data.tally import Tally

    division, tally = Division.parse(split_fractions, test), Tally()
    lists = {"train": train_list, "val": val_list, "test": test_list}
    entries = flickr8k_entries(captions, {name: path for name, path in lists.items() if path}, tally)
    _captioned(context, "flickr8k", entries, captions, division, tally)


@data.command(
    epilog="Example: gaprun data captions --images pictures --captions a.csv --out data/mine --test 500"
)
def captions(
    context: typer.Context,
    images: Images,
    captions: Annotated[Path, typer.Option(help="COCO captions JSON, or CSV/TSV with a header.")],
    out: Annotated[Path, typer.Option(help="Folder of the data set.")],
    image_column: Annotated[str | None, typer.Option(help="Column of file names in a table.")] = None,
    caption_column: Annotated[str | None, typer.Option(help="Column of captions in a table.")] = None,
    size: Size = None,
    quality: Quality = 95,
    test: TestCount = None,
    split_fractions: Fractions = None,
    split: SplitName = "train",
    seed: Seed = 0,
    workers: Workers = None,
    force: Force = False,
    format: FormatOption = Format.table,
    json: JsonOption = False,
) -> None:
    """Any captioned set: COCO captions format, or a table of (image, caption) rows."""
    from gaprun.data.division import Division
    from gaprun.data.sources import table_entries
    from gaprun.data.tally import Tally

    division, tally = Division.parse(split_fractions, test, split), Tally()
    entries = table_entries(captions, image_column, caption_column, tally)
    _captioned(context, "captions", entries, captions, division, tally)


@data.command(epilog="Example: gaprun data classes cifar10 --download --out data/cifar10")
def classes(
    source: Annotated[str, typer.Argument(help="cifar10, cifar100, digits, an .npz file, or a folder.")],
    out: Out = None,
    test_share: Annotated[
        float | None, typer.Option(help="Held-out share where the set has no splits.", show_default="0.2")
    ] = None,
    seed: Seed = 0,
    root: Annotated[Path | None, typer.Option(help="Where torchvision keeps CIFAR.")] = None,
    download: Annotated[bool, typer.Option("--download", help="Let torchvision fetch CIFAR.")] = False,
    workers: Workers = None,
    force: Force = False,
    format: FormatOption = Format.table,
    json: JsonOption = False,
) -> None:
    """Labelled pictures for zero-shot and probe: CIFAR, npz, class folders, or scikit-learn's digits."""
    from gaprun.data.classes import class_plans
    from gaprun.data.split import data_root

    folder = out or data_root() / Path(source).resolve().stem
    _write(
        class_plans(source, folder, test_share, seed, root, download), force, workers, chosen(format, json)
    )


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
    workers: Workers = None,
    force: Force = False,
    format: FormatOption = Format.table,
    json: JsonOption = False,
) -> None:
    """Make shards of img2dataset or open_clip (jpg, png or webp with txt or json) a split, where they are."""
    how = chosen(format, json)
    from gaprun.data.foreign import index_folder, may_index
    from gaprun.data.linked import link_shards
    from gaprun.data.parallel import usable_cores
    from gaprun.errors import UserError

    if out is None and (len(shards) > 1 or not Path(shards[0]).is_dir()):
        raise UserError(
            f"{shards[0]}: name one folder, or say with --out where the index of these shards goes"
        )
    folder = out or Path(shards[0])
    if out is not None:
        may_index(out, force)
        link_shards(shards, out)
    with bar("reading shards") as progress:
        made = index_folder(folder, force, workers or usable_cores(), progress)
    _show([(folder, made, True)], how)
    if out is not None:
        _say_where(folder)


@data.command(epilog="Example: gaprun data check data/coco")
def check(
    paths: Annotated[list[Path], typer.Argument(help="Split folders, or folders of splits.")],
    workers: Workers = None,
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


def _captioned(
    context: typer.Context,
    kind: str,
    entries: Sequence[Entry],
    source: Path,
    division: Division,
    tally: Tally,
) -> None:
    """Write the captioned set `kind` with the options that its commands share.

    An option that was given on the command line and would change nothing is refused.
    """
    from gaprun.data.captioned import captioned_plans
    from gaprun.data.folders import Folders
    from gaprun.data.split import data_root

    given = context.params
    if given["size"] is None:
        _refuse_given(context, "quality", "without --size the files are kept as they are: leave it out")
    if not division.divides:
        _refuse_given(
            context, "seed", "nothing is divided: leave it out, or give --test or --split-fractions"
        )
    if division.shares:
        _refuse_given(context, "split", "--split-fractions names every split: leave it out")
    if entries and all(entry.split is not None for entry in entries):
        _refuse_given(context, "split", f"{source} has its own splits: leave it out")
    plans = captioned_plans(
        kind,
        given["out"] or data_root() / kind,
        entries,
        Folders(given["images"]),
        source,
        division,
        given["seed"],
        given["size"],
        given["quality"],
        tally,
    )
    _write(plans, given["force"], given["workers"], chosen(given["format"], given["json"]))


def _refuse_given(context: typer.Context, name: str, why: str) -> None:
    """Raise UserError where the option `name` was given on the command line."""
    from gaprun.errors import UserError

    given = context.get_parameter_source(name)
    if given is not None and given.name == "COMMANDLINE":
        raise UserError(f"--{name} {context.params[name]}: {why}")


def _write(plans: Sequence[SplitPlan], force: bool, workers: int | None, how: Format) -> None:
    """Write the splits under a progress bar and print what was written and what was counted."""
    from gaprun.data.parallel import usable_cores
    from gaprun.data.write import write_splits

    with bar("writing", "pictures") as progress:
        results = write_splits(plans, force, workers or usable_cores(), progress)
    _show([(plan.folder, *result) for plan, result in zip(plans, results, strict=True)], how)
    _say_where(plans[0].folder)


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
    rows, legend = [], []
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
