"""Shards that lie elsewhere (read-only, in several folders, some of many) gathered as links in a folder of one's own.

Nothing is copied: the folder holds a link a shard, and the index is written beside the links.
"""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Sequence
from pathlib import Path

from braceexpand import braceexpand

from gaprun.data.classnames import CLASS_NAMES, TEMPLATES
from gaprun.data.columns import COLUMN_FILES
from gaprun.data.folder import disk_errors
from gaprun.data.foreign import WORK as UNFINISHED
from gaprun.data.foreign import refuse_compressed
from gaprun.data.identity import RECORD, SAMPLES
from gaprun.data.split import INDEX
from gaprun.errors import UserError
from gaprun.files import expanded

_BESIDE = (INDEX, SAMPLES, RECORD, CLASS_NAMES, TEMPLATES, UNFINISHED, *COLUMN_FILES)


def expand(patterns: Sequence[str]) -> list[Path]:
    """The .tar files meant by WebDataset's patterns (`/cc3m/{00000..00331}.tar`), globs, folders and file names.

    In the order given, sorted within a glob or folder. Raises UserError for what does not exist, for a shard named
    twice, and for files that are no .tar.
    """
    found: list[Path] = []
    for pattern in patterns:
        try:
            names = list(braceexpand(pattern))
        except ValueError as error:
            raise UserError(f"{pattern}: {error}") from None
        for name in names:
            found += _files(expanded(name))
    wrong = next((path for path in found if path.suffix != ".tar"), None)
    if wrong is not None:
        raise UserError(f"{wrong} is not a .tar shard (compressed tars must be unpacked to .tar first)")
    seen: set[Path] = set()
    for path in found:
        if path.resolve() in seen:
            raise UserError(f"{path} is named twice: its pictures would count double")
        seen.add(path.resolve())
    return found


def _files(path: Path) -> list[Path]:
    if path.is_dir():
        files = sorted(one for one in path.iterdir() if one.suffix == ".tar" and one.is_file())
        refuse_compressed(path, files)
    elif glob.has_magic(str(path)) and not path.exists():
        names = path.parent.glob(path.name) if path.parent.is_dir() else map(Path, glob.glob(str(path)))
        files = sorted(one for one in names if one.is_file())
    else:
        files = [path] if path.is_file() else []
    if not files:
        raise UserError(f"{path}: no .tar shard is there")
    return files


def link_shards(patterns: Sequence[str], folder: Path) -> None:
    """Fill `folder` with a link to each shard that `patterns` mean, numbered in their order.

    The links that an earlier call made are kept or replaced. Raises UserError, before anything is changed, for a
    folder that holds anything else (class names and templates may lie there), and as `expand` does.
    """
    shards = expand(patterns)
    names = {f"{number:05}-{path.name}": path.resolve() for number, path in enumerate(shards)}
    there = sorted(folder.iterdir()) if folder.is_dir() else []
    other = [path for path in there if path.name not in _BESIDE and not _is_own_link(path)]
    if other or folder.exists() and not folder.is_dir():
        what = f" ({other[0].name})" if other else ""
        raise UserError(f"{folder} holds files that are no links to shards{what}: choose another --out")
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for path in there:
            if path.is_symlink() and (path.name not in names or Path(os.readlink(path)) != names[path.name]):
                path.unlink()
        for name, target in names.items():
            if not (folder / name).is_symlink():
                (folder / name).symlink_to(target)


def _is_own_link(path: Path) -> bool:
    """Whether `link_shards` made it: a link to a tar, of that tar's name behind five or more digits."""
    number, _, name = path.name.partition("-")
    return (
        path.is_symlink()
        and re.fullmatch(r"\d{5,}", number) is not None
        and Path(os.readlink(path)).name == name
    )
