"""params.txt, which open_clip's training loop writes above its checkpoints: how the model beside it was built."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gaprun.errors import UserError
from gaprun.model.openclip import Settings, checked_picture, tag_settings

NAME = "params.txt"
_LINE = re.compile(r"^([a-z][a-z0-9_]*): (.*)$")


@dataclass(frozen=True)
class Trained:
    """What a params.txt says: the file, the architecture, its settings, the seed, and what was assumed in reading."""

    path: Path
    arch: str | None
    settings: Settings
    seed: int | None
    remarks: tuple[str, ...]


def trained_beside(checkpoint: Path) -> Trained | None:
    """What the params.txt of `checkpoint` says, in its folder or the one above; None without one.

    Raises UserError where a value cannot be what open_clip wrote.
    """
    for folder in (checkpoint.parent, checkpoint.absolute().parent.parent):
        path = folder / NAME
        if path.is_file():
            return _trained(path, _read(path))
    return None


def _read(path: Path) -> dict[str, str]:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read ({error})") from None
    found: dict[str, str] = {}
    for line in text.splitlines():
        match = _LINE.match(line)
        if match is None:
            continue  # a text of several lines, such as notes
        name, value = match.groups()
        if name in found and name in _USED and found[name] != value:
            raise UserError(f"{path}: says {name} twice ({found[name]!r} and {value!r})")
        found.setdefault(name, value)
    return found


_USED = {
    "model", "pretrained", "force_quick_gelu", "force_custom_text", "force_image_size", "force_context_length",
    "image_mean", "image_std", "image_interpolation", "image_resize_mode", "siglip", "precision", "seed",
    "use_bnb_linear",
}  # fmt: skip


def _trained(path: Path, said: dict[str, str]) -> Trained:
    arch = _text(said.get("model"))
    tag = _text(said.get("pretrained"))
    names = ("mean", "std", "interpolation", "resize_mode")
    read = {"mean": _value, "std": _value, "interpolation": _word, "resize_mode": _word}
    given = {name: read[name](path, said, f"image_{name}") for name in names}
    picture = {**(tag_settings(arch, tag).picture if arch else {}), **checked_picture(str(path), given)}
    remarks = []
    precision = _text(said.get("precision"))
    if precision not in (None, "fp32"):
        remarks.append(f"{NAME}: trained with precision {precision}; measured in fp32")
    if _text(said.get("use_bnb_linear")) is not None:
        remarks.append(f"{NAME}: trained with use_bnb_linear; measured with plain linear layers in fp32")
    seed = _value(path, said, "seed")
    settings = Settings(
        quick_gelu=_flag(path, said, "force_quick_gelu") or None,
        custom_text=_flag(path, said, "force_custom_text") or None,
        image_size=_size(path, _value(path, said, "force_image_size")),
        context_length=_positive(path, "force_context_length", _value(path, said, "force_context_length")),
        logit_bias=_flag(path, said, "siglip") or None,
        picture=picture,
    )
    return Trained(path, arch, settings, seed if isinstance(seed, int) else None, tuple(remarks))


def _text(value: str | None) -> str | None:
    """The word that was written; Python's None and the empty word are no word."""
    return None if value is None or value.strip() in ("None", "") else value.strip()


def _word(path: Path, said: dict[str, str], name: str) -> str | None:
    return _text(said.get(name))


def _value(path: Path, said: dict[str, str], name: str) -> Any:
    if _text(said.get(name)) is None:
        return None
    try:
        return ast.literal_eval(said[name].strip())
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        raise UserError(f"{path}: {name}: {said[name][:60]!r} is no value of open_clip's") from None


def _flag(path: Path, said: dict[str, str], name: str) -> bool:
    value = _value(path, said, name)
    if value not in (None, True, False):
        raise UserError(f"{path}: {name} is neither True nor False: {said[name][:60]!r}")
    return bool(value)


def _positive(path: Path, name: str, value: Any) -> int | None:
    if value is not None and (
        not isinstance(value, int) or isinstance(value, bool) or not 0 < value < 100_000
    ):
        raise UserError(f"{path}: {name} must be a positive number, it is {str(value)[:60]!r}")
    return value


def _size(path: Path, value: Any) -> int | tuple[int, int] | None:
    if isinstance(value, list | tuple) and len(value) in (1, 2):
        sides = [_positive(path, "force_image_size", side) or 0 for side in value]
        return sides[0] if len(set(sides)) == 1 else (sides[0], sides[1])
    return _positive(path, "force_image_size", value)
