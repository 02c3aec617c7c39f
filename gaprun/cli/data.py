"""`gaprun data`: write captioned and labelled pictures as tar shards, index foreign shards, check sets."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gaprun.cli.common import console, err_console, print_json

if TYPE_CHECKING:
    from gaprun.data.check import Report
    from gaprun.data.write import Plan

data = typer.Typer(no_args_is_help=True, help="Write, index and check data sets.", rich_markup_mode="rich")

Force = Annotated[bool, typer.Option("--force", help="Replace a split written with other settings.")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Workers = Annotated[int | None, typer.Option(min=1, help="Threads; the result does not depend on them.")]


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
    images: Images,
    captions: Annotated[list[Path] | None, typer.Option(help="captions_*.json; repeatable.")] = None,
    karpathy: Annotated[Path | None, typer.Option(help="Karpathy's dataset_coco.json: its splits.")] = None,
    out: Annotated[Path, typer.Option(help="Folder of the data set.")] = Path("data/coco"),
    size: Size = None,
    quality: Quality = 95,
    test: TestCount = None,
    split_fractions: Fractions = None,
    split: SplitName = "train",
    seed: Seed = 0,
    workers: Workers = None,
    force: Force = False,
    json: Json = False,
) -> None:
    """MSCOCO: official pictures and captions (2014 or 2017 names), with Karpathy's splits where given."""
    from gaprun.data.captioned import captioned_plans
    from gaprun.data.division import Division
    from gaprun.data.pictures import Folders
    from gaprun.data.sources import coco_entries

    division = Division.parse(split_fractions, test, split)
    entries = coco_entries(captions or [], karpathy, infer_split=not division.divides)
    source = karpathy or (captions or [Path()])[0]
    plans = captioned_plans("coco", out, entries, Folders(images), source, division, seed, size, quality)
    _write(plans, force, workers, json)


@data.command(
    epilog="Example: gaprun data flickr30k --images flickr30k-images --captions dataset_flickr30k.json"
)
def flickr30k(
    images: Images,
    captions: Annotated[Path, typer.Option(help="dataset_flickr30k.json, results_20130124.token or CSV.")],
    out: Annotated[Path, typer.Option(help="Folder of the data set.")] = Path("data/flickr30k"),
    size: Size = None,
    quality: Quality = 95,
    test: TestCount = None,
    split_fractions: Fractions = None,
    seed: Seed = 0,
    workers: Workers = None,
    force: Force = False,
    json: Json = False,
) -> None:
    """Flickr30k: Karpathy's JSON with its splits, or the original token file."""
    from gaprun.data.captioned import captioned_plans
    from gaprun.data.division import Division
    from gaprun.data.pictures import Folders
    from gaprun.data.sources import flickr_entries

    division, entries = Division.parse(split_fractions, test), flickr_entries(captions)
    plans = captioned_plans(
        "flickr30k", out, entries, Folders(images), captions, division, seed, size, quality
    )
    _write(plans, force, workers, json)


@data.command(
    epilog="Example: gaprun data captions --images pictures --captions a.csv --out data/mine --test 500"
)
def captions(
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
    json: Json = False,
) -> None:
    """Any captioned set: COCO captions format, or a table of (image, caption) rows."""
    from gaprun.data.captioned import captioned_plans
    from gaprun.data.division import Division
    from gaprun.data.pictures import Folders
    from gaprun.data.sources import table_entries

    division = Division.parse(split_fractions, test, split)
    entries = table_entries(captions, image_column, caption_column)
    plans = captioned_plans(
        "captions", out, entries, Folders(images), captions, division, seed, size, quality
    )
    _write(plans, force, workers, json)


@data.command(epilog="Example: gaprun data classes cifar10 --download --out data/cifar10")
def classes(
    source: Annotated[str, typer.Argument(help="cifar10, cifar100, digits, an .npz file, or a folder.")],
    out: Annotated[Path | None, typer.Option(help="Folder of the data set; default data/NAME.")] = None,
    test_share: Annotated[float, typer.Option(help="Held-out share where the set has no splits.")] = 0.2,
    seed: Seed = 0,
    root: Annotated[Path | None, typer.Option(help="Where torchvision keeps CIFAR.")] = None,
    download: Annotated[bool, typer.Option("--download", help="Let torchvision fetch CIFAR.")] = False,
    workers: Workers = None,
    force: Force = False,
    json: Json = False,
) -> None:
    """Labelled pictures for zero-shot and probe: CIFAR, npz, class folders, or scikit-learn's digits."""
    from gaprun.data.classes import class_plans

    folder = out or Path("data") / Path(source).resolve().stem
    _write(class_plans(source, folder, test_share, seed, root, download), force, workers, json)


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
    json: Json = False,
) -> None:
    """Make shards of img2dataset or open_clip (jpg, png or webp with txt or json) a split, where they are."""
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
    with _progress("reading shards") as progress:
        made = index_folder(folder, force, workers or usable_cores(), progress)
    _show([(folder, made, True)], json)


@data.command(epilog="Example: gaprun data check data/coco")
def check(
    paths: Annotated[list[Path], typer.Argument(help="Split folders, or folders of splits.")],
    workers: Workers = None,
    json: Json = False,
) -> None:
    """Verify checksums and tar structure, decode every picture; exit code 1 where something is damaged."""
    from gaprun.data.check import check_split, find_splits
    from gaprun.data.parallel import usable_cores

    folders = [folder for path in paths for folder in find_splits(path)]
    with _progress("decoding") as progress:
        reports = [check_split(folder, workers or usable_cores(), progress) for folder in folders]
    if json:
        print_json([report.as_dict() for report in reports])
    else:
        _show_reports(reports)
    if any(report.damage for report in reports):
        raise typer.Exit(1)


def _show_reports(reports: Sequence[Report]) -> None:
    """A table of what was checked, and below it every damage with its shard and key."""
    from rich.table import Column, Table

    from gaprun.data.check import shared_pictures

    table = Table(
        Column("split", overflow="fold"),
        "samples",
        "captions",
        "decoded",
        "no caption",
        "repeated pictures",
        "damage",
    )
    for one in reports:
        numbers = (one.samples, one.captions, one.decoded, one.without_caption, one.repeated_pictures)
        damage = f"[red]{len(one.damage)}[/]" if one.damage else "none"
        table.add_row(one.folder, *(f"{number:,}" for number in numbers), damage)
    console.print(table)
    for first, second, count in shared_pictures(reports):
        _line(f"{count:,} pictures are in both {first} and {second}")
    for one in reports:
        for found in one.damage:
            place = " ".join(part for part in (one.folder, found.shard, found.key) if part)
            _line(f"{place}: {found.problem}")


def _write(plans: Sequence[Plan], force: bool, workers: int | None, json: bool) -> None:
    """Write the splits under a progress bar and print what was written and what was counted."""
    from gaprun.data.parallel import usable_cores
    from gaprun.data.write import write_splits

    with _progress("writing") as progress:
        results = write_splits(plans, force, workers or usable_cores(), progress)
    _show([(plan.folder, *result) for plan, result in zip(plans, results, strict=True)], json)


def _show(splits: Sequence[tuple[Path, dict[str, Any], bool]], json: bool) -> None:
    """Print each split's folder, its index in short, and whether it was written now."""
    if json:
        keys = ("dataset", "split", "samples", "captions", "fingerprint", "report", "examples")
        print_json(
            [
                {"folder": str(folder), "written": written} | {key: index[key] for key in keys}
                for folder, index, written in splits
            ]
        )
        return
    for folder, index, written in splits:
        size = sum(shard["bytes"] for shard in index["shards"]) / 2**20
        counts = (
            f"{index['samples']:,} pictures, {index['captions']:,} captions, {len(index['shards'])} shards"
        )
        _line(f"{folder}: {counts}, {size:,.1f} MB ({'written' if written else 'already there'})")
        for reason, count in index["report"].items():
            names = ", ".join(index.get("examples", {}).get(reason, [])[:3])
            _line(f"  {reason}: {count:,}{f' (such as {names})' if names else ''}")


def _line(text: str) -> None:
    console.print(text, highlight=False, soft_wrap=True, markup=False)


@contextmanager
def _progress(what: str) -> Iterator[Callable[[int, int], None]]:
    """A bar on stderr with rate and remaining time, driven by calls of (done, total)."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=err_console, transient=True) as bar:
        task = bar.add_task(what, total=None, rate="")

        def advance(done: int, total: int) -> None:
            speed = bar.tasks[0].speed
            bar.update(task, completed=done, total=total, rate=f"{speed:,.0f}/s" if speed else "")

        yield advance
