"""Reading a split: a folder of tar shards, `index.json` (what it is) and `samples.jsonl` (a line a sample).

A picture is fetched by one positioned read at its recorded offset, so any order costs the same, and threads
and forked workers share a `Split` safely. Nothing here imports torch.
"""

from __future__ import annotations

import json
import os
import re
import threading
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gaprun.data.errors import DamagedSample
from gaprun.data.identity import SAMPLES, checked_fingerprint, file_state
from gaprun.errors import UserError
from gaprun.files import file_sha256, refusal

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from gaprun.data.columns import CaptionLists, Columns, Texts

FORMAT = 1
INDEX = "index.json"
WORK = ".writing"
_KEPT_OPEN = 512  # open shards per split, below any process limit; the others are opened for each read


def data_root() -> Path:
    """The folder that recipes' data names are relative to: GAPRUN_DATA, else `data` in the working folder."""
    return Path(os.environ.get("GAPRUN_DATA") or "data")


def open_split(ref: str | Path, root: Path | None = None) -> Split:
    """Open the split named `ref`, such as `coco/train`, under `root` (or `data_root()`), or at that path.

    Raises UserError naming what is missing and the command that makes it.
    """
    root = data_root() if root is None else Path(root)
    candidates = [root / ref, Path(ref)]
    for folder in candidates:
        if (folder / INDEX).is_file():
            return Split(folder)
    for folder in candidates:
        if (folder / WORK).is_dir():
            raise UserError(f"{folder} was not written to its end: run its `gaprun data` command again")
        if folder.is_dir() and any(folder.glob("*.tar")):
            raise UserError(f"{folder} has shards but no {INDEX}: make one with `gaprun data index {folder}`")
    raise UserError(_absent(str(ref), root))


def is_there(ref: str) -> bool:
    """Whether anything lies where the split named `ref` would: if not, only its command can say more."""
    return any((folder / ref).exists() for folder in (data_root(), Path()))


def _absent(ref: str, root: Path) -> str:
    known = list_splits(root)
    here = f"splits there: {', '.join(known[:8])}" if known else "no split is there yet"
    family = Path(ref).parts[0] if Path(ref).parts else ""
    known_family = family in ("scenes", "coco", "flickr30k", "flickr8k")
    maker = f"write it with `gaprun data {family}`" if known_family else "see `gaprun data --help`"
    return f"no data split '{ref}' under {root} ({here}): {maker}, or set GAPRUN_DATA"


def list_splits(root: Path) -> list[str]:
    """Names (`coco/train`) of the finished splits directly below the data sets in `root`, sorted."""
    return sorted(str(path.parent.relative_to(root)) for path in root.glob(f"*/*/{INDEX}"))


def read_index(folder: Path) -> dict[str, Any]:
    """The parsed index.json of a split folder; UserError where absent, no JSON, or of another format."""
    path = folder / INDEX
    try:
        index = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{folder} holds no {INDEX}: it is not a finished split") from None
    except PermissionError as error:
        raise UserError(refusal(error) or str(error)) from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read ({error}): write the split again with --force") from None
    if not isinstance(index, dict) or "format" not in index:
        raise UserError(f"{path} was not written by gaprun: it is no index of a split")
    if (found := index["format"]) != FORMAT:
        raise UserError(f"{path} has format {found!r} and this gaprun reads {FORMAT}: write the split again")
    missing = {"dataset", "split", "samples", "shards", "fingerprint"} - index.keys()
    if missing:
        raise UserError(f"{path} lacks {', '.join(sorted(missing))}: write the split again with --force")
    _check_kinds(path, index)
    return index


def _check_kinds(path: Path, index: dict[str, Any]) -> None:
    """Raise UserError where a value of the index cannot be what it stands for: a file from elsewhere is not trusted."""
    for name in ("dataset", "split"):
        if not isinstance(index[name], str) or not re.fullmatch(r"[^/\\\x00-\x1f\x7f]+", index[name]):
            raise UserError(f"{path}: {name} {index[name]!r} cannot be a name: refused")
    if not isinstance(index["samples"], int) or not isinstance(index["shards"], list):
        raise UserError(
            f"{path}: 'samples' is no number or 'shards' no list: write the split again with --force"
        )
    for shard in index["shards"]:
        if not isinstance(shard, dict) or not {"file", "bytes", "sha256"} <= shard.keys():
            raise UserError(
                f"{path} has a shard without file, bytes and sha256: write the split again with --force"
            )
        if not isinstance(shard["file"], str) or not shard["file"] or "/" in shard["file"]:
            raise UserError(f"{path} names the shard '{shard['file']}' outside its own folder: refused")
    for name in ("classes", "templates"):
        words = index.get(name)
        if words is not None and not (isinstance(words, list) and all(isinstance(one, str) for one in words)):
            raise UserError(f"{path}: '{name}' is not a list of texts: write the split again with --force")


class Split:
    """One finished split, its captions and labels mapped into memory and its pictures one positioned read away.

    Attributes: `path`, `dataset`, `split`, `samples` (count), `fingerprint` (sha256 of the content as it is now),
    `classes` and `templates` (lists or None), `report` (what writing left out, by reason). In sample order:
    `keys`, `captions` (a list each), `labels` (int64, -1 where none), `sizes` (int64 (N, 2): width, height).
    """

    def __init__(self, folder: Path) -> None:
        """Read the index of `folder`; the sample lines are read on first use.

        Raises UserError, also where a file has another content than the index was written for.
        """
        index = read_index(folder)
        self.path = folder
        self.dataset: str = index["dataset"]
        self.split: str = index["split"]
        self.samples: int = index["samples"]
        self.fingerprint = checked_fingerprint(folder, index)
        self._samples_sha256: str | None = index.get("samples_sha256")  # unknown to earlier versions
        self.classes: list[str] | None = index.get("classes")
        self.templates: list[str] | None = index.get("templates")
        self.image_size: int | None = index.get("image_size")
        self.report: dict[str, int] = index.get("report", {})
        self._files: list[str] = [shard["file"] for shard in index["shards"]]
        self._open: dict[int, int] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        """Number of samples."""
        return self.samples

    @cached_property
    def shards(self) -> list[Path]:
        """The tar files, by number."""
        return [self.path / name for name in self._files]

    @cached_property
    def _columns(self) -> Columns:
        path = self.path / SAMPLES
        try:
            state = file_state(path)
            sha256 = self._samples_sha256 or file_sha256(path)
            columns = _columns_of(self.path.resolve(), sha256, *state)
        except PermissionError as error:
            raise UserError(refusal(error) or str(error)) from None
        except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
            reason = f"{type(error).__name__}: {error}"
            raise UserError(f"{path} cannot be read ({reason}): write the split again with --force") from None
        if len(columns.keys) != self.samples:
            counts = f"{len(columns.keys)} lines where {INDEX} says {self.samples}"
            raise UserError(f"{path} has {counts}: write the split again with --force")
        if self.samples and not 0 <= columns.lowest <= columns.highest < len(self._files):
            raise UserError(f"{path} names a shard that {INDEX} lacks: write the split again with --force")
        return columns

    @property
    def keys(self) -> Texts:
        """The samples' keys, unique within the split."""
        return self._columns.keys

    @property
    def captions(self) -> CaptionLists:
        """Each sample's captions, in their source's order; empty lists for sets that have labels only."""
        return self._columns.captions

    @property
    def caption_counts(self) -> npt.NDArray[np.int64]:
        """How many captions each sample has; int64 (N,)."""
        return self._columns.captions.counts

    @property
    def labels(self) -> npt.NDArray[np.int64]:
        """Class index of each sample, -1 where it has none; int64 (N,)."""
        return self._columns.numbers[:, 0]

    @property
    def sizes(self) -> npt.NDArray[np.int64]:
        """Width and height of each picture in pixels; int64 (N, 2)."""
        return self._columns.numbers[:, 1:3]

    @property
    def places(self) -> npt.NDArray[np.int64]:
        """Shard number, byte offset and length of each picture; int64 (N, 3)."""
        return self._columns.numbers[:, 3:6]

    def read_image(self, i: int) -> bytes:
        """The bytes of sample `i`'s picture file, read by position; safe from threads and after a fork.

        Raises DamagedSample where the shard is missing or ends too early, IndexError outside 0..samples-1.
        """
        if not 0 <= i < self.samples:
            raise IndexError(f"sample {i} of a split of {self.samples}")
        shard, offset, size = (int(value) for value in self.places[i])
        try:
            data = self._read(shard, offset, size)
        except OSError as error:
            reason = error.strerror or str(error)
            raise DamagedSample(self.keys[i], str(self.shards[shard]), reason) from error
        if len(data) != size:
            reason = f"{size} bytes expected at offset {offset} and {len(data)} found"
            raise DamagedSample(self.keys[i], str(self.shards[shard]), reason)
        return data

    def _read(self, shard: int, offset: int, size: int) -> bytes:
        descriptor = self._open.get(shard)
        if descriptor is None:
            with self._lock:
                descriptor = self._open.get(shard)
                if descriptor is None and len(self._open) < _KEPT_OPEN:
                    descriptor = self._open[shard] = os.open(self.path / self._files[shard], os.O_RDONLY)
        if descriptor is not None:
            return os.pread(descriptor, size, offset)
        descriptor = os.open(self.path / self._files[shard], os.O_RDONLY)
        try:
            return os.pread(descriptor, size, offset)
        finally:
            os.close(descriptor)

    def __getstate__(self) -> dict[str, Any]:
        """State for a spawned worker: everything but this process's open shards, its lock and what it mapped."""
        state = self.__dict__.copy()
        state["_open"], state["_lock"] = {}, None
        state.pop("_columns", None)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore from `__getstate__`, with a lock of this process's own."""
        self.__dict__.update(state)
        self._lock = threading.Lock()

    def __del__(self) -> None:
        """Close the shards that were opened."""
        for descriptor in self.__dict__.get("_open", {}).values():
            try:
                os.close(descriptor)
            except OSError:
                pass


@lru_cache(maxsize=16)
def _columns_of(folder: Path, samples_sha256: str, *state: int) -> Columns:
    """The columns of a split whose sample lines are in this `state`: the jobs of a table name the same few splits again
    and again."""
    from gaprun.data import columns  # numpy is loaded when a sample is asked for

    return columns.columns_of(folder, samples_sha256)
