"""The recipes that come with gaprun: in a checkout the folder `recipes/` beside the package, in a wheel within it."""

from __future__ import annotations

import difflib
import shutil
from contextlib import suppress
from functools import partial
from pathlib import Path

from gaprun.errors import Failure, UserError
from gaprun.files import write_atomically

PACKAGE = Path(__file__).parents[1]


def packaged() -> Path | None:
    """The folder of gaprun's own recipes; None where an installation left them out."""
    folders = (PACKAGE / "recipes", PACKAGE.parent / "recipes")
    return next((folder for folder in folders if (folder / "base").is_dir()), None)


def names() -> list[str]:
    """Their names as `gaprun train` takes them: `reparam`, `sweeps/methods`; what they extend (`base/`) left out."""
    folder = packaged()
    found = sorted(folder.rglob("*.yaml")) if folder else []
    every = [path.relative_to(folder).with_suffix("").as_posix() for path in found if folder]
    return [name for name in every if not name.startswith("base/")]


def found(path: Path) -> Path:
    """`path` if it is a file; else the packaged recipe of that name (`reparam`, `methods/cyclip`, `cyclip`,
    `recipes/reparam.yaml`), if there is one; else `path`, for whoever reads it to say what is wrong."""
    folder = packaged()
    if path.is_file() or folder is None or path.is_absolute():
        return path
    parts = path.parts[1:] if path.parts[:1] == ("recipes",) else path.parts
    if not parts or ".." in parts:
        return path
    name = Path(*parts)
    exact = folder / name.with_name(f"{name.name.removesuffix('.yaml')}.yaml")
    if exact.is_file():
        return exact
    alike = list(folder.rglob(exact.name)) if len(parts) == 1 else []
    return alike[0] if len(alike) == 1 else path


def nearest(name: str) -> str | None:
    """The packaged recipe whose name is most like `name`."""
    known = {one.rpartition("/")[2]: one for one in names()}
    close = difflib.get_close_matches(name.removesuffix(".yaml"), known, 1)
    return known[close[0]] if close else None


def write_recipes(target: Path) -> int:
    """Copy them below `target`; how many files. Raises UserError where one is there already, Failure (and leaves none)
    where they cannot be written."""
    folder = packaged()
    if folder is None:
        raise Failure(
            "this installation of gaprun came without recipes: install it from its wheel or checkout"
        )
    if not_folder := next(
        (one for one in (target, *target.parents) if one.exists() and not one.is_dir()), None
    ):
        raise UserError(f"{not_folder} is a file: name another folder")
    files = [path.relative_to(folder) for path in sorted(folder.rglob("*.yaml"))]
    there = next((target / file for file in files if (target / file).exists()), None)
    if there is not None:
        raise UserError(f"{there} is there already and is left as it is: name another folder")
    absent = [
        one
        for one in {target, *target.parents, *(target / file.parent for file in files)}
        if not one.exists()
    ]
    try:
        for file in files:
            write_atomically(target / file, partial(shutil.copyfile, folder / file))
    except OSError as error:
        for file in files:
            (target / file).unlink(missing_ok=True)
        for one in sorted(absent, reverse=True):
            with suppress(OSError):  # somebody else's file came in meanwhile
                one.rmdir()
        raise Failure(f"{target} cannot be written: {error.strerror or error}") from None
    return len(files)
