"""A checkpoint of gaprun's as it lies on the disk: `step-00001200.pt`, and beside it a note, `step-00001200.json`.

The note names the file's sha256, so that a damaged one is known. The weights hash is over the towers' and the
temperature's values alone; it is the `checkpoint_hash` of every evaluation. They are written by training/checkpoint.py.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gaprun.errors import UserError
from gaprun.files import file_sha256, refusal
from gaprun.model.weights import read_tensors

FORMAT = 1
_intact: dict[Path, tuple[tuple[int, ...], str]] = {}


def weights_hash(clip: dict[str, Tensor], head: dict[str, Tensor]) -> str:
    """sha256 over names, shapes, types and bytes of the towers' and the head's tensors."""
    digest = hashlib.sha256()
    for name, tensor in sorted({**clip, **{f"head.{k}": v for k, v in head.items()}}.items()):
        value = tensor.detach().cpu().contiguous()
        digest.update(f"{name}{tuple(value.shape)}{value.dtype}".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def read_note(path: Path) -> dict[str, Any] | None:
    """What stands beside the checkpoint `path`; None where that is missing or damaged.

    Raises UserError where this user may not read it.
    """
    try:
        note = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    except PermissionError as error:
        raise UserError(refusal(error) or str(error)) from None
    except (OSError, ValueError):
        return None
    return note if isinstance(note, dict) and isinstance(note.get("sha256"), str) else None


def intact_note(path: Path) -> dict[str, Any] | None:
    """The note of `path` if the file has the content that it names; None for a damaged or missing one.

    Raises UserError for one that this user may not read: it is not damaged.
    """
    note = read_note(path)
    try:
        state = path.stat()
        seen = (state.st_ino, state.st_size, state.st_mtime_ns)
        if path not in _intact or _intact[path][0] != seen:
            _intact[path] = (seen, file_sha256(path))
    except PermissionError as error:
        raise UserError(refusal(error) or str(error)) from None
    except OSError:
        return None
    return note if note is not None and note["sha256"] == _intact[path][1] else None


def newest_checkpoint(folder: Path) -> tuple[Path, list[Path]]:
    """The newest undamaged checkpoint in `folder` and the damaged ones that were passed over.

    Raises FileNotFoundError when there is none.
    """
    damaged: list[Path] = []
    for path in sorted(folder.glob("step-*.pt"), reverse=True):
        if intact_note(path) is not None:
            return path, damaged
        damaged.append(path)
    raise FileNotFoundError(folder)


def load_checkpoint(path: Path) -> dict[str, Any]:
    """The content of one of our checkpoints, on the CPU. Raises UserError when it is missing, damaged or foreign."""
    content = read_tensors(path)
    if "clip" not in content or "recipe" not in content:
        raise UserError(f"{path}: not a gaprun checkpoint")
    if content.get("format") != FORMAT:
        raise UserError(
            f"{path}: checkpoint format {content.get('format')}, this gaprun reads {FORMAT}; use the gaprun that "
            "wrote it"
        )
    return content
