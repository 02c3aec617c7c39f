"""From picture files to samples: found by the names in an annotation file, checked, maybe made smaller."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from PIL import Image

from gaprun.data.decode import open_image, to_rgb
from gaprun.data.errors import DamagedSample
from gaprun.data.shards import Sample
from gaprun.data.write import Outcome
from gaprun.errors import UserError

EXTENSIONS = {"JPEG": "jpg", "MPO": "jpg", "PNG": "png", "WEBP": "webp"}
SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"}
_GREY = {"1", "L", "LA", "I", "I;16", "F"}


@dataclass(frozen=True)
class Picture:
    """One picture to write: its file, its key in the shards, and what is known about it."""

    path: str
    key: str
    captions: tuple[str, ...] = ()
    label: int | None = None
    id: int | str | None = None


class Folders:
    """The picture files below some folders, found by relative path, by unique base name, or by COCO id."""

    def __init__(self, folders: Sequence[Path]) -> None:
        """List the picture files once. Raises UserError where a folder is absent or holds no picture."""
        self.files: dict[str, str] = {}
        self._names: dict[str, list[str]] = {}
        self._ids: dict[int, list[str]] = {}
        for folder in folders:
            if not folder.is_dir():
                raise UserError(f"--images {folder} is not a folder")
            for parent, below, names in os.walk(folder, onerror=_unreadable):
                below.sort()
                for name in sorted(names):
                    if Path(name).suffix.lower() in SUFFIXES:
                        path = os.path.join(parent, name)
                        self.files.setdefault(os.path.relpath(path, folder).replace(os.sep, "/"), path)
        if not self.files:
            where = ", ".join(str(folder) for folder in folders) or "no folder"
            raise UserError(f"--images: no picture file in {where}")
        for relative in self.files:
            self._names.setdefault(PurePosixPath(relative).name, []).append(relative)
            if (number := coco_id(relative)) is not None:
                self._ids.setdefault(number, []).append(relative)

    def find(self, name: str, source: Path, number: int | None = None) -> str | None:
        """The relative path that an annotation file's `name` means, or None where there is no such file.

        Besides an equal path that is a single file whose path ends with `name` or the other way round
        (folders given above or below the name's own), or one of the COCO id `number`, by which a 2014 name
        finds a 2017 file. Raises UserError naming `source` where a name leaves the folders.
        """
        parts = PurePosixPath(name.replace("\\", "/"))
        if parts.is_absolute() or ".." in parts.parts or re.match(r"[A-Za-z]:", name):
            raise UserError(f"{source} names the picture '{name}', which is outside --images: refused")
        if str(parts) in self.files:
            return str(parts)
        found = [one for one in self._names.get(parts.name, ()) if _ends_alike(one, str(parts))]
        if not found and number is not None:
            found = self._ids.get(number, [])
        return found[0] if len(found) == 1 else None


def _unreadable(error: OSError) -> None:
    raise UserError(f"--images: {error.filename} cannot be read: {error.strerror}")


def _ends_alike(a: str, b: str) -> bool:
    return f"/{a}".endswith(f"/{b}") or f"/{b}".endswith(f"/{a}")


def coco_id(name: str) -> int | None:
    """The id in a COCO file name of either naming (`COCO_val2014_000000391895.jpg`, `000000391895.jpg`)."""
    match = re.search(r"(?:^|[/_])(\d{12})\.\w+$", name)
    return int(match[1]) if match else None


def picture_outcome(picture: Picture, size: int | None, quality: int) -> Outcome:
    """Read and check one picture: its own bytes, or as JPEG with its shorter side brought down to `size`.

    Counted: `unreadable`, `undecodable` (both left out), `greyscale`, `alpha`, `cmyk` (kept, RGB when read),
    `recoded` (a format other than JPEG, PNG, WebP, now PNG), `not_enlarged` (already below `size`).
    """
    name = os.path.basename(picture.path)
    try:
        data = Path(picture.path).read_bytes()
    except OSError:
        return Outcome(None, ("unreadable",), name)
    reasons = []
    try:
        image = open_image(data)
        width, height = image.size
        if image.mode in _GREY:
            reasons.append("greyscale")
        elif "A" in image.mode or "transparency" in image.info:
            reasons.append("alpha")
        elif image.mode == "CMYK":
            reasons.append("cmyk")
        extension = EXTENSIONS.get(image.format or "")
        if size is not None and min(width, height) > size:
            image.draft("RGB", (2 * size, 2 * size))  # a JPEG decodes at a fraction, never below twice `size`
            width, height = _shrunk(width, height, size)
            data, extension = _jpeg(to_rgb(image), width, height, quality), "jpg"
        else:
            if size is not None and min(width, height) < size:
                reasons.append("not_enlarged")
            if extension is None:
                data, extension = _png(to_rgb(image)), "png"
                reasons.append("recoded")
            else:
                image.draft("RGB", (1, 1))  # a whole JPEG at an eighth shows damage at a third of the cost
                to_rgb(image)
    except DamagedSample:
        return Outcome(None, ("undecodable",), name)
    captions = list(picture.captions)
    sample = Sample(picture.key, data, extension, width, height, captions, picture.label, picture.id)
    return Outcome(sample, tuple(reasons), name)


def file_size(path: str) -> int:
    """Length of a picture file in bytes; -1 where it cannot be looked at (reading then counts it)."""
    try:
        return os.stat(path).st_size
    except OSError:
        return -1


def _shrunk(width: int, height: int, size: int) -> tuple[int, int]:
    scale = size / min(width, height)
    return max(size, round(width * scale)), max(size, round(height * scale))


def _jpeg(image: Image.Image, width: int, height: int, quality: int) -> bytes:
    buffer = io.BytesIO()
    image.resize((width, height), Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()
