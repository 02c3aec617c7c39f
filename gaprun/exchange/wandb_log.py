"""What open_clip's training loop logged to Weights & Biases, as files: a run's summary, and the CSVs of its page.

`wandb-summary.json` (in wandb/run-DATE-ID/files, or from the run's Files tab) holds the last value of every name, its
`config.yaml` beside it the training's parameters. The page exports its table of runs, a run a row, and charts, a step
a row with columns `RUN - NAME` and their `__MIN` and `__MAX`; a chart's mean of several numbers is left out. The
names are `val/` and those of results.jsonl. Each form is a program of its own here, so that one training that came in
by two of them is not taken for two.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from gaprun.errors import UserError
from gaprun.exchange.openclip_log import CIRCUMSTANCES, take
from gaprun.exchange.records import Record, RecordReader, digest_of, text_of, whole_number
from gaprun.store.texts import check_texts

SUMMARY, CONFIG = "wandb-summary.json", "config.yaml"
_RUN_FOLDER = re.compile(r"(?:offline-)?run-\d{8}_\d{6}-(.+)")
_VALUE = "val/"
_EPOCHS = ("val/epoch", "epoch")
_COLUMN = re.compile(r"(.+) - ((?:val|train)/.+?)(__MIN|__MAX)?")
_NOT_FINITE = ("NaN", "Infinity", "-Infinity")


def unsent(path: Path) -> str:
    """What is to be said of `path`, W&B's own record of a run."""
    return (
        f"{path}: W&B's own record of a run that was never sent: `wandb sync` it, then take {SUMMARY} from the run's "
        "files on its page, or the CSV of the page's table of runs"
    )


def refuse_folder(path: Path) -> None:
    """Raise UserError, naming what to import instead, for a folder of W&B's: of all runs, of one, or its `files`."""
    for pattern in (SUMMARY, f"files/{SUMMARY}", f"*/files/{SUMMARY}"):
        for summary in sorted(path.glob(pattern)):
            raise UserError(f"{path}: a folder of W&B's: name the summaries in it, such as {summary}")
    for record in sorted([*path.glob("*.wandb"), *path.glob("*/*.wandb")]):
        raise UserError(unsent(record))


def is_table(header: Iterable[str]) -> bool:
    """Whether a CSV's header is that of the page's table of runs, with something measured by open_clip in it."""
    names = set(header)
    return {"Name", "State"} <= names and any(name.startswith(_VALUE) for name in names)


def is_chart(header: list[str]) -> bool:
    """Whether a CSV's header is that of a chart of such names."""
    return len(header) > 1 and all(_COLUMN.fullmatch(name) for name in header[1:])


def read_summary(path: Path, document: Any, config: str | None) -> list[Record]:
    """The record of a run's last values; `config`: the text of its config.yaml. Raises UserError for what is none."""
    if not isinstance(document, dict):
        raise UserError(f"{path}: damaged, or no summary of W&B")
    parameters = _parameters(path, config)
    folder = path.resolve().parent
    named = _RUN_FOLDER.fullmatch(folder.parent.name if folder.name == "files" else folder.name)
    name = parameters.get("name") or (named[1] if named else None)
    if name is None:
        raise UserError(
            f"{path}: it does not say which run it is: leave it in wandb's folder, beside {CONFIG}"
        )
    facts = {key: parameters[key] for key in ("name", "model", "pretrained") if key in parameters}
    others = {k: v for k, v in parameters.items() if k not in facts and k not in CIRCUMSTANCES}
    identity = {"model": facts or {"name": name}, **({"parameters": others} if others else {})}
    check_texts(identity, f"{path}: its run")
    return [record(str(path), "", "wandb", str(name), identity, document)]


def read_table(path: Path, rows: list[tuple[int, dict[str, str]]]) -> list[Record]:
    """A record a row of the table of runs. Raises UserError, naming the line, for a run that stands there twice."""
    found: dict[str, Record] = {}
    for line, row in rows:
        where = f"{path}, line {line}"
        name = text_of(dict(row), "Name", where)
        if name in found:
            raise UserError(f"{where}: a run {name!r} is there twice: export them apart, each with a --name")
        values = {k: v for k, v in row.items() if k.startswith((_VALUE, "train/")) or k in _EPOCHS}
        made = record(
            str(path), f"line {line}", "wandb-table", name, {"model": {"name": name}}, values, text=True
        )
        found[name] = made
    return list(found.values())


def read_chart(path: Path, rows: list[tuple[int, dict[str, str]]]) -> list[Record]:
    """A record a run and epoch of a chart. Raises UserError for a chart along another axis, or a step that returns."""
    axis = next(iter(rows[0][1]), "") if rows else ""
    if rows and axis not in _EPOCHS:
        raise UserError(
            f"{path}: drawn along {axis!r}, which does not tell the epoch: choose epoch as the chart's x axis"
        )
    found: dict[tuple[str, str], Record] = {}
    for line, row in rows:
        by_run: dict[str, dict[str, str]] = {}
        means: dict[str, list[str]] = {}
        for column, raw in list(row.items())[1:]:
            match = _COLUMN.fullmatch(column)
            assert match is not None
            name, metric, bound = match.groups()
            if bound or not raw.strip():
                continue
            if any(row.get(column + end, raw).strip() not in ("", raw.strip()) for end in ("__MIN", "__MAX")):
                means.setdefault(name, []).append(f"{metric} (a mean of several)")
                continue
            by_run.setdefault(name, {})[metric] = raw
        for name in by_run.keys() | means.keys():
            if (name, row[axis]) in found:
                raise UserError(f"{path}, line {line}: {axis} {row[axis]} is there twice")
            check_texts(name, f"{path}: its run")
            values = by_run.get(name, {}) | {_EPOCHS[0]: row[axis]}
            made = record(
                str(path), f"line {line}", "wandb-chart", name, {"model": {"name": name}}, values, text=True
            )
            made.odd += means.get(name, [])
            found[name, row[axis]] = made
    return list(found.values())


def record(
    file: str,
    place: str,
    program: str,
    name: str,
    identity: dict[str, Any],
    values: Mapping[str, Any],
    text: bool = False,
    step: int | None = None,
) -> Record:
    """The record of `values` named as open_clip's loop logs them (`val/...`), at their epoch, else at `step`.

    `text`: numbers come as text, and an empty one is none. Raises UserError for a value that cannot be.
    """
    reader = RecordReader(f"{file}, {place}" if place else file)
    counts = {key: _counted(values.get(key)) for key in (*_EPOCHS, "val/num_samples")}
    said = [whole_number(counts, key, reader.where, None) for key in counts]
    for key, raw in values.items():
        if key in counts or key == "step" or key.startswith("_") or (text and not raw.strip()):
            continue
        if key.startswith(_VALUE):
            take(reader, key.removeprefix(_VALUE), raw, said[2], text or raw in _NOT_FINITE)
        elif (family := f"{key.partition('/')[0]}/*" if "/" in key else key) not in reader.left_out:
            reader.left_out.append(family)
    at = next((epoch for epoch in said[:2] if epoch is not None), step)
    made = sorted((v.dataset or "", v.name, repr(v.value)) for v in reader.values)
    found = Record(
        file=file,
        place=place,
        program=program,
        model=name,
        identity=identity,
        values=reader.values,
        left_out=reader.left_out,
        odd=reader.odd,
        digest=digest_of([identity, at, made]),
        step=at or 0,
        samples=said[2],
    )
    if at is None and reader.values:
        found.notes.append(f"{name}: its epoch is not said: kept as step 0")
    return found


def _counted(raw: Any) -> Any:
    """A count out of a table's cell; what is none stays as it is, to be named."""
    if not isinstance(raw, str):
        return raw
    try:
        return float(raw) if raw.strip() else None
    except ValueError:
        return raw


def _parameters(path: Path, config: str | None) -> dict[str, str]:
    """config.yaml's values as texts, as params.txt has them; what is none is left out."""
    if config is None:
        return {}
    where = f"{path.parent / CONFIG}"
    try:
        document = yaml.safe_load(config)
    except (yaml.YAMLError, ValueError, RecursionError):
        raise UserError(f"{where}: damaged, or no config of W&B") from None
    if not isinstance(document, dict):
        raise UserError(f"{where}: damaged, or no config of W&B")
    values = {k: v["value"] for k, v in document.items() if isinstance(v, dict) and "value" in v}
    return {str(k): str(v) for k, v in values.items() if k != "_wandb" and str(v) not in ("", "None")}
