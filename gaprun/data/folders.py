"""The picture files below some folders, and which of them an annotation file's name means."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

from gaprun.data.tally import Tally
from gaprun.errors import UserError

SUFFIXES = {
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"),
    *(".ppm", ".pgm", ".pbm", ".pnm", ".tga", ".jp2", ".avif"),
}
_NOT_PICTURES = {"__MACOSX", "@eaDir", "Thumbs.db", "desktop.ini", "lost+found"}


@dataclass(frozen=True)
class File:
    """One picture file: its path below the folder it was found in (`/` between parts, composed Unicode), and where."""

    relative: str
    path: str
    place: str  # its absolute path, as `relative` is written

    @property
    def root(self) -> str:
        """The absolute path of the folder it was found in."""
        return self.place.removesuffix(f"/{self.relative}")


@dataclass(frozen=True)
class Match:
    """The file that a name means. `loosely`: by its end only, the name's leading folders being unknown here."""

    file: File
    loosely: bool = False


Found = Match | Literal["ambiguous"] | None


class Folders:
    """The picture files below some folders, found by relative path, by unique base name, or by COCO id.

    Hidden files and folders and what systems leave behind (`__MACOSX`, `@eaDir`) are no pictures; they and files of
    other endings are counted in `tally`. Links to folders are followed.
    """

    def __init__(self, folders: Sequence[Path]) -> None:
        """List the picture files once. Raises UserError where a folder is absent or holds no picture."""
        self.files: list[File] = []
        self.tally = Tally()
        self._roots = [f"/{_name(str(folder.absolute())).strip('/')}" for folder in folders]
        self._reals = [(root, _name(os.path.realpath(root))) for root in self._roots]
        for folder, root in zip(folders, self._roots, strict=True):
            if not folder.is_dir():
                raise UserError(f"--images {folder} is not a folder")
            for relative, path in _walk(folder, self.tally):
                self.files.append(File(relative, path, f"{root}/{relative}"))
        if not self.files:
            where = ", ".join(str(folder) for folder in folders) or "no folder"
            raise UserError(f"no picture file in {where}")
        self._places = {*self._roots, *(file.place.rpartition("/")[0] for file in self.files)}
        self._agreement: dict[str, int] = {}
        self._names: dict[str, list[File]] = {}
        self._ids: dict[int, list[File]] = {}
        for file in self.files:
            self._names.setdefault(PurePosixPath(file.relative).name, []).append(file)
            if (number := coco_id(file.relative)) is not None:
                self._ids.setdefault(number, []).append(file)

    def find(self, name: str, source: Path, number: int | None = None) -> Found:
        """What an annotation file's `name` means: a file, several ("ambiguous"), or none.

        An absolute name below one of the folders is the file of that path. Else in this order: the file of that path
        below one of the folders; the only one whose whole path ends with the name; the only one whose path below its
        folder is the name's end, unless what comes before it in the name agrees better with another folder here; the
        only one of the COCO id `number`, by which a 2014 name finds a 2017 file.
        Raises UserError naming `source` where a name leaves the folders.
        """
        parts = PurePosixPath(_name(name.replace("\\", "/")))
        if parts.is_absolute() and ".." not in parts.parts:
            for root, real in self._reals:
                for folder in (root, real):
                    if parts.is_relative_to(folder):
                        place = f"{root}/{parts.relative_to(folder)}"
                        return _only(
                            [file for file in self._names.get(parts.name, []) if file.place == place]
                        )
        if parts.is_absolute() or ".." in parts.parts or re.match(r"[A-Za-z]:", name):
            raise UserError(
                f"{source} names the picture '{name}', which is outside --images: refused; name the folder that "
                "holds it with --images"
            )
        alike = self._names.get(parts.name, [])
        for chosen in (
            [file for file in alike if file.relative == str(parts)],
            [file for file in alike if file.place.endswith(f"/{parts}")],
        ):
            if chosen:
                return _only(chosen)
        chosen = [file for file in alike if f"/{parts}".endswith(f"/{file.relative}")]
        chosen = [file for file in chosen if self._could_be_in(file, str(parts))]
        if chosen:
            return _only(chosen, loosely=True)
        return _only(self._ids.get(number, []) if number is not None else [])

    def _could_be_in(self, file: File, name: str) -> bool:
        """Whether no other folder agrees better than the file's own with what `name` has before the file's path."""
        before = name.removesuffix(file.relative).rstrip("/")
        if before not in self._agreement:
            self._agreement[before] = max(_common_end(before, place) for place in self._places)
        return _common_end(before, file.root) == self._agreement[before]


def _walk(folder: Path, tally: Tally) -> Iterator[tuple[str, str]]:
    """(path below `folder`, path) of each picture file, sorted by folder and name."""
    for parent, below, names in os.walk(folder, onerror=_unreadable, followlinks=True):
        above = [one for one in Path(parent).parents if one == folder or folder in one.parents]
        if os.path.realpath(parent) in map(os.path.realpath, above):  # a link back to where it lies
            below.clear()
            continue
        inside = os.path.relpath(parent, folder).replace(os.sep, "/")
        prefix = "" if inside == "." else f"{inside}/"
        for name in [one for one in below if is_hidden(one)]:
            tally.add("hidden", f"{prefix}{name}")
        below[:] = sorted(name for name in below if not is_hidden(name))
        for name in sorted(names):
            if is_hidden(name):
                tally.add("hidden", f"{prefix}{name}")
            elif Path(name).suffix.lower() in SUFFIXES:
                yield _name(f"{prefix}{name}"), os.path.join(parent, name)
            else:
                tally.add("no_picture", f"{prefix}{name}")


def _only(chosen: Sequence[File], loosely: bool = False) -> Found:
    """The match where `chosen` is one file, which several links may lead to."""
    if not chosen:
        return None
    if len(chosen) > 1 and len({os.path.realpath(file.path) for file in chosen}) > 1:
        return "ambiguous"
    return Match(chosen[0], loosely)


def _common_end(one: str, other: str) -> int:
    """How many parts the ends of two paths have in common."""
    count = 0
    for a, b in zip(reversed(one.split("/")), reversed(other.split("/")), strict=False):
        if a != b or not a:
            break
        count += 1
    return count


def is_hidden(name: str) -> bool:
    """Whether a file or folder of this name is nobody's data: hidden, or left behind by a system."""
    return name.startswith(".") or name in _NOT_PICTURES


def _name(text: str) -> str:
    """Composed Unicode: some systems write é as e and an accent, and no annotation file does."""
    return unicodedata.normalize("NFC", text)


def _unreadable(error: OSError) -> None:
    raise UserError(f"--images: {error.filename} cannot be read: {error.strerror}")


def coco_id(name: str) -> int | None:
    """The id in a COCO file name of either naming (`COCO_val2014_000000391895.jpg`, `000000391895.jpg`)."""
    match = re.search(r"(?:^|[/_])(\d{12})\.\w+$", name)
    return int(match[1]) if match else None
