"""Which models several `--ckpt` mean: patterns of paths, and lists in files. No torch here."""

from __future__ import annotations

import glob
from collections.abc import Sequence
from pathlib import Path

from gaprun.errors import UserError

LIST = "@"


def models_named(words: Sequence[str]) -> list[str]:
    """Each model once, in order: `@FILE` stands for the file's lines, a pattern (`runs/*/checkpoints`) for every path
    that it fits, in the order of their names; anything else for itself.

    In a file, empty lines and what follows ` #` do not count; a line may be a pattern too. Paths start from the working
    folder. Raises UserError for a file that cannot be read or is empty, and a pattern that fits nothing.
    """
    found: list[str] = []
    for word in words:
        if word.startswith(LIST):
            found += models_named(_lines(Path(word.removeprefix(LIST))))
        elif glob.has_magic(word) and not Path(word).exists():
            paths = sorted(glob.glob(word))
            if not paths:
                raise UserError(f"--ckpt {word}: no path fits this pattern")
            found += paths
        else:
            found.append(word)
    return list(dict.fromkeys(found))


def _lines(path: Path) -> list[str]:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--ckpt {LIST}{path}: cannot be read ({error})") from None
    lines = [line.partition(" #")[0].strip() for line in text.splitlines()]
    named = [line for line in lines if line and not line.startswith("#")]
    if any(line.startswith(LIST) for line in named):
        raise UserError(f"--ckpt {LIST}{path}: a list in a list is not read")
    if not named:
        raise UserError(f"--ckpt {LIST}{path}: names no model")
    return named
