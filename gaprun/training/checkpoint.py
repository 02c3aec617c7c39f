"""Checkpoints: written whole or not at all, loaded without running code, newest valid one wins.

A checkpoint is `step-00001200.pt` (tensors and plain values, `weights_only` loadable) beside
`step-00001200.json` (readable: step, sha256 of the file, weights hash). The weights hash is over the towers' and
the temperature's values alone; it is the `checkpoint_hash` of every evaluation.
"""

from __future__ import annotations

import hashlib
import json
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from gaprun.errors import Failure, UserError
from gaprun.files import file_sha256, write_atomically

FORMAT = 1


def weights_hash(clip: dict[str, Tensor], head: dict[str, Tensor]) -> str:
    """sha256 over names, shapes, types and bytes of the towers' and the head's tensors."""
    digest = hashlib.sha256()
    for name, tensor in sorted({**clip, **{f"head.{k}": v for k, v in head.items()}}.items()):
        value = tensor.detach().cpu().contiguous()
        digest.update(f"{name}{tuple(value.shape)}{value.dtype}".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def save_checkpoint(folder: Path, state: dict[str, Any], keep: int) -> tuple[Path, str]:
    """Write `state` (with key `step`) to `folder`, drop all but the newest `keep`; returns path and weights hash.

    Raises Failure (a full disk, say) with the earlier checkpoints untouched.
    """
    path = folder / f"step-{state['step']:08d}.pt"
    identity = weights_hash(state["clip"], state["head"])
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(path, lambda target: torch.save({"format": FORMAT, **state}, target))
        note = {"step": state["step"], "sha256": file_sha256(path), "weights_hash": identity}
        write_atomically(
            path.with_suffix(".json"), lambda target: target.write_text(json.dumps(note, indent=1))
        )
    except (OSError, RuntimeError) as error:
        path.unlink(missing_ok=True)
        raise Failure(f"{path}: could not be written ({error}); earlier checkpoints are kept") from None
    for old in sorted(folder.glob("step-*.pt"))[:-keep]:
        old.unlink(missing_ok=True)
        old.with_suffix(".json").unlink(missing_ok=True)
    return path, identity


class CheckpointWriter:
    """Writes checkpoints of one run in the background: the steps wait only for the copy in memory."""

    def __init__(self, folder: Path, keep: int) -> None:
        self.folder, self.keep = folder, keep
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._pending: Future[tuple[Path, str]] | None = None

    def save(self, state: dict[str, Any]) -> None:
        """Copy `state` and write it; raises the Failure of the write before, if that failed."""
        self.wait()
        self._pending = self._thread.submit(save_checkpoint, self.folder, _snapshot(state), self.keep)

    def wait(self) -> tuple[Path, str] | None:
        """Wait until the last `save` is on disk; returns its path and weights hash. Raises its Failure."""
        pending, self._pending = self._pending, None
        return pending.result() if pending is not None else None

    def close(self) -> None:
        """Finish what is under way without raising."""
        self._thread.shutdown(wait=True)


def _snapshot(value: Any) -> Any:
    """A copy on the CPU that later steps do not change."""
    if isinstance(value, Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, dict):
        return type(value)((key, _snapshot(item)) for key, item in value.items())
    if isinstance(value, list | tuple):
        return type(value)(_snapshot(item) for item in value)
    return value


def newest_checkpoint(folder: Path) -> tuple[Path, list[Path]]:
    """The newest undamaged checkpoint in `folder` and the damaged ones that were passed over.

    Raises FileNotFoundError when there is none.
    """
    damaged: list[Path] = []
    for path in sorted(folder.glob("step-*.pt"), reverse=True):
        try:
            note = json.loads(path.with_suffix(".json").read_text())
            if note["sha256"] == file_sha256(path):
                return path, damaged
        except (OSError, ValueError, KeyError):
            pass
        damaged.append(path)
    raise FileNotFoundError(folder)


def read_tensors(path: Path) -> dict[str, Any]:
    """A dictionary saved by torch or safetensors, loaded on the CPU without running code from the file.

    Raises UserError when it is missing, damaged or holds something else.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such checkpoint file")
    try:
        if path.suffix == ".safetensors":
            return dict(load_file(path))
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception:
        raise UserError(f"{path}: damaged, or not a checkpoint that can be loaded safely") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: not a checkpoint: it holds {type(content).__name__}, not named tensors")
    return content


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
