"""Opening a foreign result file: which format it is of, and that it can be read at all, in one line where it cannot.

Formats are told by the file's ending and content: results.jsonl of open_clip_train, JSON or CSV of CLIP_benchmark, the
tables that open_clip publishes (docs/openclip_results.csv and its sisters), JSON of mteb, W&B's summary and CSVs.
"""

from __future__ import annotations

import csv
import io
import json
import os
import stat
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gaprun.errors import UserError
from gaprun.exchange import clip_benchmark, mteb_results, openclip_log, openclip_tables, wandb_log
from gaprun.exchange.records import Record

MOST_BYTES = 64 * 1024 * 1024  # a result file has some kilobytes, a published table some hundred


def read_file(path: Path) -> list[Record]:
    """The records of one file; those without a value that gaprun knows say what they left out.

    Raises UserError, naming file and line, for a file of another kind and for one that is damaged.
    """
    if path.suffix == ".wandb":
        raise UserError(wandb_log.unsent(path))
    try:
        text = _text(path)
        if path.suffix == ".jsonl":
            records = openclip_log.read(path, list(_json_lines(path, text)))
        elif path.suffix == ".csv":
            records = _table(path, text)
        elif path.name == wandb_log.SUMMARY:
            config = path.parent / wandb_log.CONFIG
            records = wandb_log.read_summary(
                path, _json(path, text), _text(config) if config.exists() else None
            )
        elif path.name == mteb_results.META:
            return []  # read with each result that lies beside it
        elif mteb_results.is_mteb(document := _json(path, text)):
            meta = path.parent / mteb_results.META
            records = mteb_results.read(path, document, _json(meta, _text(meta)) if meta.exists() else None)
        else:
            if not isinstance(document, dict) or not isinstance(document.get("metrics"), dict):
                raise UserError(
                    f"{path}: not a result of CLIP_benchmark (it has no metrics) and none of mteb"
                )
            records = [clip_benchmark.read_json(path, document)]
    except RecursionError:
        raise UserError(f"{path}: nested too deeply for a result file") from None
    if not records:
        raise UserError(f"{path}: no result in it: it is empty")
    return records


def _text(path: Path) -> str:
    try:
        mode = os.stat(path).st_mode
        if not stat.S_ISREG(mode):
            raise UserError(f"{path}: a {'folder' if stat.S_ISDIR(mode) else 'device'}, not a result file")
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    if content.startswith(b"SQLite format 3\0"):
        raise UserError(
            f"{path}: a database, not a result file: `gaprun db copy {path} TARGET` brings gaprun's runs from one "
            f"database into another, `gaprun runs import sqlite:///{path}` MLflow's"
        )
    if len(content) > MOST_BYTES:
        raise UserError(f"{path}: larger than {MOST_BYTES // 2**20} MiB, so not a result file")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UserError(f"{path}, line {line}: not UTF-8, so damaged or not a result file") from None


def _json(where: object, text: str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_once)
    except ValueError as error:
        raise UserError(f"{where}: damaged, or not a result file ({error})") from None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object whose keys are all different: of two values for one name nobody knows which counts."""
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = [key for key, count in Counter(key for key, _ in pairs).items() if count > 1]
        raise ValueError(f"it says {twice[0]!r} twice")
    return found


def _json_lines(path: Path, text: str) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line, object_pairs_hook=_once)
        except ValueError as error:
            reason = f"({error})" if "twice" in str(error) else "not JSON; is the file cut off?"
            raise UserError(f"{path}, line {number}: {reason}") from None
        if not isinstance(row, dict):
            raise UserError(f"{path}, line {number}: not a result of open_clip_train")
        yield number, row


def _table(path: Path, text: str) -> list[Record]:
    """The records of a CSV, whose header says whose it is."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        header = [name.strip() for name in next(reader, [])]
        twice = [name for name, count in Counter(header).items() if count > 1]
        if twice:
            raise UserError(f"{path}: its column {twice[0]!r} is there twice")
        rows = []
        for fields in reader:
            if not fields:
                continue
            if len(fields) != len(header):
                raise UserError(
                    f"{path}, line {reader.line_num}: {len(fields)} fields, the header has {len(header)}"
                )
            rows.append((reader.line_num, dict(zip(header, fields, strict=True))))
    except csv.Error as error:
        raise UserError(f"{path}, line {reader.line_num}: damaged, or not a result file ({error})") from None
    if wandb_log.is_table(header):
        return wandb_log.read_table(path, rows)
    if wandb_log.is_chart(header):
        return wandb_log.read_chart(path, rows)
    if openclip_tables.is_ours(header):
        return [openclip_tables.read_row(path, line, row) for line, row in rows]
    if not header:
        return []
    missing = clip_benchmark.NEEDED - set(header)
    if missing:
        raise UserError(
            f"{path}: not a result of CLIP_benchmark (it has no {', '.join(sorted(missing))}) and no table of "
            "open_clip (name, pretrained, data sets)"
        )
    return [clip_benchmark.read_row(path, line, row) for line, row in rows]
