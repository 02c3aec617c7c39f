"""results.jsonl, which open_clip_train writes an epoch a line, with the params.txt that stands one folder up.

It measures matched pairs, one caption an image: `image_to_text_R@5` is the share of images whose own caption is among
their five best, our text_recall@5 under protocol `pairs`. Its median of an even number of ranks is rounded down. A line
without an epoch (a run that measures only zero-shot writes none) counts by its number; of two lines of one epoch, as a
resumed training leaves them, the later counts.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any

from gaprun.errors import UserError
from gaprun.exchange.records import OURS, Record, RecordReader, Value, digest_of, whole_number
from gaprun.files import plain_name
from gaprun.protocols import FULL, Protocol
from gaprun.store.texts import check_texts

PROGRAM = "open_clip_train"
MOST_BYTES = 1024 * 1024
PAIRS, PAIRS_FLOOR = Protocol("pairs"), Protocol("pairs-floor")

_PAIRS = re.compile(r"(image_to_text|text_to_image)_(R@([1-9]\d{0,5})|mean_rank|median_rank)")
_ZERO_SHOT = re.compile(r"(.+?)-zeroshot-(.+)-top(1|5)")
# What one training may say otherwise when it is taken up again, and what says only where and how it ran.
CIRCUMSTANCES = {
    "resume", "logs", "log_local", "log_path", "log_level", "checkpoint_path", "tensorboard", "tensorboard_path",
    "wandb", "report_to", "wandb_notes", "wandb_project_name", "debug", "copy_codebase", "workers", "device", "rank",
    "local_rank", "world_size", "distributed", "dist_url", "dist_backend", "horovod", "no_set_device_rank",
    "cache_dir", "save_frequency", "save_most_recent", "save_logs", "zeroshot_frequency", "val_frequency",
    "log_every_n_steps", "remote_sync", "remote_sync_frequency", "remote_sync_protocol",
    "delete_previous_checkpoint",
}  # fmt: skip


def read(path: Path, lines: list[tuple[int, dict[str, Any]]]) -> list[Record]:
    """The records of the file's lines (number, object), one an epoch. Raises UserError, naming the line."""
    parameters = _parameters(path)
    if parameters:
        model = parameters.get("name") or parameters.get("model") or _folder(path).name
        facts = {key: parameters[key] for key in ("name", "model", "pretrained") if key in parameters}
        others = {k: v for k, v in parameters.items() if k not in facts and k not in CIRCUMSTANCES}
        identity: dict[str, Any] = {"model": facts or {"name": model}, "parameters": others}
    else:
        # Nothing says which training this is: the file's place does.
        model = _folder(path).name or "results"
        hashed = hashlib.sha256(str(path.resolve()).encode(errors="surrogateescape")).hexdigest()[:8]
        identity = {"model": {"name": model}, "file": f"{path.resolve().parent.name}/{path.name}#{hashed}"}
    check_texts(identity, f"{path}: params.txt")
    by_epoch: dict[int, Record] = {}
    for number, row in lines:
        record = _record(path, number, row, model, identity)
        if record.step in by_epoch:
            record.notes.append(f"epoch {record.step} is there twice: line {number} counts")
        by_epoch[record.step] = record
    _say_what_is_older(list(by_epoch.values()))
    return list(by_epoch.values())


def _folder(path: Path) -> Path:
    folder = path.resolve().parent
    return folder.parent if folder.name == "checkpoints" else folder


def _record(path: Path, number: int, row: dict[str, Any], model: str, identity: dict[str, Any]) -> Record:
    where = f"{path}, line {number}"
    samples = whole_number(row, "num_samples", where, None)
    step = whole_number(row, "epoch", where, number)
    assert step is not None
    reader = RecordReader(where)
    for name, raw in row.items():
        if name not in ("epoch", "num_samples"):
            take(reader, name, raw, samples)
    return Record(
        file=str(path),
        place=f"line {number}",
        program=PROGRAM,
        model=model,
        identity=identity,
        values=reader.values,
        left_out=reader.left_out,
        odd=reader.odd,
        digest=digest_of(row),
        step=step,
        samples=samples,
    )


def take(reader: RecordReader, name: str, raw: Any, samples: int | None, text: bool = False) -> None:
    """Add the value that open_clip's loop calls `name` under our name, or its name to what is left out.

    `samples`: how many pairs were measured; `text`: numbers come as text.
    """
    pairs, zero_shot = _PAIRS.fullmatch(name), _ZERO_SHOT.fullmatch(name)
    if not (pairs or zero_shot or name == "clip_val_loss"):
        reader.left_out.append(name)
        return
    number = reader.number(name, raw, text)
    if number is None:
        return
    if pairs:
        # A text query finds its image: that is our image_recall.
        side = "text" if pairs[1] == "image_to_text" else "image"
        if pairs[3]:
            value = Value("retrieval", f"{side}_recall@{pairs[3]}", reader.share(name, number), PAIRS, OURS)
        else:
            # Another rule is another protocol: of two evaluations by one protocol only the later counts.
            floor = pairs[2] == "median_rank"
            by = (PAIRS_FLOOR, {"median": "floor"}) if floor else (PAIRS, OURS)
            value = Value("retrieval", f"{side}_{pairs[2]}", _rank(reader, name, number, samples), *by)
        reader.values.append(_sized(value, samples))
    elif zero_shot:
        dataset = plain_name(zero_shot[1], f"{reader.where}: the data set of {name}")
        split = plain_name(zero_shot[2], f"{reader.where}: the split of {name}")
        metric, prompts = f"zeroshot_top{zero_shot[3]}", {"templates": "open_clip"}
        reader.values.append(
            Value("zeroshot", metric, reader.share(name, number), FULL, prompts, dataset, split)
        )
    else:
        loss = reader.at_least(name, number, 0.0)
        reader.values.append(_sized(Value("validation", "val_loss", loss, PAIRS), samples))


def _rank(reader: RecordReader, name: str, number: float, samples: int | None) -> float:
    if samples is not None and number > samples:
        raise UserError(f"{reader.where}: {name} is {number:g} of {samples} samples: is the file damaged?")
    return reader.at_least(name, number, 1.0)


def _sized(value: Value, samples: int | None) -> Value:
    return Value(value.task, value.name, value.value, value.protocol, value.options, n=samples)


def _say_what_is_older(records: list[Record]) -> None:
    """Note with the last epoch what only an older one has: its value would stand beside newer ones."""
    if not records:
        return
    last = max(records, key=lambda record: record.step)
    have = {(value.dataset, value.name) for value in last.values}
    older: dict[tuple[str | None, str], int] = {}
    for record in records:
        for value in record.values:
            if (key := (value.dataset, value.name)) not in have:
                older[key] = max(record.step, older.get(key, record.step))
    for (dataset, name), step in older.items():
        place = f" on {dataset}" if dataset else ""
        last.notes.append(f"{name}{place} was last measured at epoch {step}, the rest at {last.step}")


def _parameters(path: Path) -> dict[str, str]:
    """The `key: value` lines of params.txt, beside the file or above its folder `checkpoints`."""
    folders = [path.parent]
    if path.resolve().parent.name == "checkpoints":
        folders.append(path.resolve().parent.parent)
    for folder in folders:
        file = folder / "params.txt"
        try:
            with file.open("rb") as opened:
                text = opened.read(MOST_BYTES).decode("utf-8-sig")
        except OSError:
            continue
        except UnicodeDecodeError:
            raise UserError(f"{file}: not UTF-8, so damaged: mend it, or move it away") from None
        pairs = (line.partition(": ") for line in text.split("\n"))
        return {
            key: value.strip() for key, sign, value in pairs if sign and value.strip() not in ("", "None")
        }
    return {}
