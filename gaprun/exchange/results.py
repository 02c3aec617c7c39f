"""Results that other programs measured, brought in as runs of kind external; see `formats` for what is read.

A value is stored under our name only where its definition is ours; what says the same thing by another rule keeps
options of its own, so that `compare` puts it in one column with ours only if asked to mix. Percent, as everywhere
here: the files hold shares of 1. Such a run's recipe is named `model@program`, and each of its evaluations names the
file's program as the code that measured it; in place of a checkpoint's hash stands that of the record in the file.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from gaprun.data.split import Split, open_split
from gaprun.errors import Failure, UserError
from gaprun.exchange.formats import read_file
from gaprun.exchange.mlflow_runs import is_tracking_store, read_store
from gaprun.exchange.own import import_export
from gaprun.exchange.records import Record
from gaprun.exchange.storing import bring_in
from gaprun.exchange.wandb_log import refuse_folder
from gaprun.files import plain_name
from gaprun.store import Store
from gaprun.store.content import Rows
from gaprun.store.export import read_export
from gaprun.store.secrets import hide_passwords

Place = tuple[str, str]  # data set and split


@dataclass
class Imported:
    """One run that was made or added to, from one file: how many values it got, what of the file was not taken."""

    run_id: str
    file: str
    values: int
    left_out: list[str]


@dataclass
class ImportReport:
    """What an import did.

    By file, `left_out`: names for which gaprun has no metric, `odd`: names (and texts) of what is no number. `notes`:
    what a reader of the numbers should know. `refused`: files and records that did not come in, each with its reason.
    """

    done: list[Imported] = field(default_factory=list)
    left_out: dict[str, list[str]] = field(default_factory=dict)
    odd: dict[str, list[str]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)


def import_files(
    open_target: Callable[[], Store],
    files: Sequence[str | Path],
    data: str | None = None,
    name: str | None = None,
    same_data: bool = False,
) -> ImportReport:
    """Bring in every record of `files` that can be read, also exports of gaprun's own and MLflow's tracking stores (by
    URI or folder); the same twice changes nothing.

    `open_target` opens the store, and is called only when there is something to store. `data` names what was measured:
    a split that lies here, then its fingerprint and size go with the values and they stand beside our own, or just
    `dataset/split`; `same_data` says that it is what a file calls by another name. `name` replaces the recipe's name.
    Raises UserError for a `data` or `name` that cannot be, and for several data sets or splits under one `data`.
    """
    report = ImportReport()
    if name is not None:
        plain_name(name, "--name")
    split = _local(data, report) if data else None
    records: list[Record] = []
    store: Store | None = None
    done: dict[tuple[str, str], Imported] = {}
    for path in dict.fromkeys(map(str, files)):
        try:
            if is_tracking_store(path):
                tracked = read_store(path)
                records += tracked.records
                report.refused += tracked.refused
                if tracked.exports and tracked.records and (data or name):
                    report.notes.append(
                        f"{hide_passwords(path)}: runs of gaprun's own in it keep their names and data"
                    )
                for source, rows in tracked.exports.items():
                    if not tracked.records:
                        _refuse_other_names(source, data, name)
                    store = _bring_back(rows, source, store, open_target, done)
            elif Path(path).is_dir() or Path(path).suffix == ".zip":
                refuse_folder(Path(path))
                rows = read_export(Path(path))
                _refuse_other_names(path, data, name)
                store = _bring_back(rows, path, store, open_target, done)
            else:
                records += read_file(Path(path))
        except (UserError, Failure) as error:  # a server that does not answer is one of many too
            report.refused.append(str(error))
    several = sorted({record.dataset for record in records if record.dataset is not None})
    if data and len(several) > 1:
        raise UserError(
            f"--data {data}: the files hold several data sets ({', '.join(several)}); import them apart"
        )
    parts = sorted({record.split for record in records if record.says_split and record.values})
    if data and len(parts) > 1:
        raise UserError(
            f"--data {data}: the files hold several splits ({', '.join(parts)}); import them apart"
        )
    for record in records:
        left_out = report.left_out.setdefault(record.file, [])
        for kind, texts in (
            (left_out, record.left_out),
            (report.odd.setdefault(record.file, []), record.odd),
        ):
            kind += [text for text in texts if text not in kind]
        report.notes += [f"{record.file}: {note}" for note in record.notes]
        if not record.values:
            continue
        try:
            place = _measured(record, data, split, same_data)
            store = store or open_target()
            run_id, count = bring_in(store, record, place, split, name)
        except UserError as error:
            report.refused.append(str(error))
            continue
        one = done.setdefault((run_id, record.file), Imported(run_id, record.file, 0, left_out))
        one.values += count
    report.done = list(done.values())
    return report


def _refuse_other_names(source: str, data: str | None, name: str | None) -> None:
    """Raise UserError for names that would be ignored: an export says itself what its runs are and were measured on."""
    given = [option for option, value in (("--data", data), ("--name", name)) if value]
    if given:
        raise UserError(
            f"{source}: runs of gaprun's own have their names and data: leave {' and '.join(given)} out"
        )


def _bring_back(
    rows: Rows,
    source: str,
    store: Store | None,
    open_target: Callable[[], Store],
    done: dict[tuple[str, str], Imported],
) -> Store:
    """Runs of gaprun's own; they say themselves what was measured. Returns the store, opened once there is need."""
    counts = Counter(row["run_id"] for row in rows["metrics"])
    store = store or open_target()
    import_export(store, rows, source)
    for row in rows["runs"]:
        done[row["id"], source] = Imported(row["id"], source, counts[row["id"]], [])
    return store


def _local(data: str, report: ImportReport) -> Split | None:
    """The split `data` if it lies here; None, noted, if `data` is but a name."""
    try:
        return open_split(data)
    except UserError:
        dataset, sign, part = data.partition("/")
        if not sign or Path(data).exists():
            raise
        plain_name(dataset, f"--data {data}: the data set")
        plain_name(part, f"--data {data}: the split")
        report.notes.append(f"no split {data} lies here: it is taken as a name, without fingerprint and size")
        return None


def _measured(record: Record, data: str | None, split: Split | None, same_data: bool) -> Place:
    """Names of the data set and its part, for values that do not name theirs. Raises UserError where files disagree."""
    if split is not None:
        named = (split.dataset, split.split)
        if record.samples is not None and record.samples != split.samples:
            raise UserError(
                f"{record.where}: measured on {record.samples} images, {data} has {split.samples}: name another --data"
            )
    elif data is not None:
        dataset, _, part = data.partition("/")
        named = (dataset, part)
    else:
        if record.dataset is None and any(value.dataset is None for value in record.values):
            raise UserError(f"{record.where}: it does not say what was measured; add --data DATASET/SPLIT")
        return record.dataset or "", record.split
    said = record.dataset
    if said is None and record.values and all(value.dataset is not None for value in record.values):
        places = sorted({f"{value.dataset}/{value.split}" for value in record.values})
        if "/".join(named) not in places:
            others = ", ..." if len(places) > 3 else ""
            raise UserError(
                f"{record.where}: it says itself what was measured ({', '.join(places[:3])}{others}), not {data}: "
                "leave --data out"
            )
    if said is not None and said != named[0] and not same_data:
        raise UserError(
            f"{record.where}: measured on {said}, not on {named[0]}: leave --data out, or add --same-data if both are "
            "names of the same pictures and texts"
        )
    return named
