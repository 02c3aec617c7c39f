"""Files that gaprun writes: they appear whole or not at all, and what gaprun did not write is never written over.

Every replacement goes through this module. A file is written beside its place and moved there. A folder that gaprun
makes carries a list of its own files (`gaprun-files.json`): `--force` replaces it only while it holds nothing else. A
single file is replaced only where it begins with gaprun's mark. Names that come from elsewhere (a checkpoint, a
database, an imported file) pass `plain_name` before they become part of a path.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import tempfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

from gaprun.errors import Failure, UserError

MANIFEST = "gaprun-files.json"
PAGE_MARK = '<meta name="generator" content="gaprun">'
# How pages of versions without the mark begin: the report's title, the style of the theory's pages.
OLDER_PAGES = (
    b"<title>Modality gap report: ",
    b"<style> body { font: 16px/1.55 system-ui, sans-serif;",
)
_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+=,@-]{0,199}")


def expanded(path: str | Path) -> Path:
    """`path` with a home folder for its ~. Raises UserError where none is known, as of a user of a container."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise UserError(f"{path}: no such home folder is known here: write the whole path") from None


def user_cache() -> Path | None:
    """The folder in which this user's programs keep what can be made again; None for a user without a home."""
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser())
    except RuntimeError:
        return None


def is_refused(error: OSError) -> bool:
    """Whether a file was not read or written for want of the right to it: no free space gives it."""
    return error.errno in (errno.EACCES, errno.EPERM, errno.EROFS)


def refusal(error: BaseException) -> str | None:
    """One line about a file that this user may not read or write; None for any other error."""
    if isinstance(error, OSError) and is_refused(error) and error.filename is not None:
        way_out = what_to_do(error) if error.errno == errno.EROFS else "ask its owner for the right to it"
        return f"{error.filename}: {error.strerror}: {way_out}"
    return None


def what_to_do(error: OSError) -> str:
    """The way out where a file could not be written."""
    if error.errno == errno.EROFS:
        return "it lies on a disk that is mounted read-only"
    return "ask its owner for the right to write there" if is_refused(error) else "free some space"


def file_sha256(path: Path) -> str:
    """sha256 (hex) of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def content_hash(value: Any) -> str:
    """sha256 (hex) of the canonical JSON of a plain value: equal values, equal hash, whatever the keys' order."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Call `write(temporary path)`, make the result durable, and only then give it its name. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = beside(path)
    try:
        write(temporary)
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    finally:
        temporary.unlink(missing_ok=True)


def beside(path: Path) -> Path:
    """A name beside `path` for what gets that name when it is whole: `.NAME.` and a random number.

    A process's own number would not do: on a shared disk, processes of two machines or containers can have the same.
    """
    return path.with_name(f".{path.name}.{int.from_bytes(os.urandom(6))}")


def plain_name(name: str, what: str) -> str:
    """`name` if it can be one part of a path and nothing more, else UserError; `what` says whose name it is.

    Letters, digits and `._+=,@-`, not beginning with a sign, at most 200: no separators, no `..`, no control
    characters.
    """
    if not isinstance(name, str) or not _PLAIN.fullmatch(name):
        shown = repr(name)[:80]
        raise UserError(f"{what} {shown} cannot be a name: use letters, digits and . _ + = , @ -")
    return name


def inner_path(text: str, what: str) -> str:
    """`text` if it is a path that stays below the folder it is joined to, else UserError; `what` says whose it is."""
    parts = PurePosixPath(text).parts
    if not parts or parts[0] == "/" or ".." in parts or any(ord(sign) < 32 for sign in text):
        raise UserError(f"{what} {text!r:.80} leads out of its folder")
    return text


def replace_file(
    path: Path,
    write: Callable[[Path], object],
    mark: bytes | Callable[[Path], bool] | None,
    way_out: str = "name another --out",
) -> None:
    """Write `path` anew by `write(temporary path)`; one that exists must be gaprun's, as `mark` tells.

    `mark`: bytes that stand in the file's first 4 KiB, or a question about the file; None: any file there is somebody
    else's. A link is followed. Raises UserError, naming the file, where it is not ours, and Failure where it cannot be
    written (what was there is kept).
    """
    check_replaceable(path, mark, way_out)
    try:
        write_atomically(path.resolve(), write)
    except (OSError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise Failure(f"{path} cannot be written: {reason}; what was there is kept") from None


def check_replaceable(
    path: Path, mark: bytes | Callable[[Path], bool] | None, way_out: str = "name another --out"
) -> None:
    """Raise UserError where `replace_file` would: ask before work whose result would have no place."""
    if path.is_dir():
        raise UserError(f"{path} is a folder: {way_out}")
    if (path.exists() or path.is_symlink()) and not _is_marked(path, mark):
        raise UserError(f"{path} was not written by this command and is left as it is: {way_out}")


def _is_marked(path: Path, mark: bytes | Callable[[Path], bool] | None) -> bool:
    if mark is None or not path.is_file():
        return False
    if isinstance(mark, bytes):
        return mark in beginning(path)
    return mark(path)


def beginning(path: Path) -> bytes:
    """The first 4 KiB of a file; nothing where it cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(4096)
    except OSError:
        return b""


def is_page(path: Path) -> bool:
    """Whether a file is an HTML page that gaprun wrote, by this version or an older one."""
    head = beginning(path)
    return head.startswith(b"<!doctype html>") and any(
        mark in head for mark in (PAGE_MARK.encode(), *OLDER_PAGES)
    )


NO_PAGES = (".pdf", ".png", ".svg", ".csv", ".json", ".md", ".tex", ".txt", ".xlsx")


def check_page(path: Path | None) -> Path | None:
    """`path` if `replace_page` may write there (or None). Raises UserError otherwise, and for another kind's name."""
    if path is not None:
        if path.suffix.lower() in NO_PAGES:
            raise UserError(f"{path}: a page is HTML: name it {path.with_suffix('.html').name}")
        check_replaceable(path, is_page)
    return path


def replace_page(path: Path, page: str) -> None:
    """Write an HTML page that holds PAGE_MARK to `path`, over nothing but a page of gaprun's; see `replace_file`.

    What is no UTF-8 in it (of a file's name) is spelled out.
    """
    content = page.encode("utf-8", "backslashreplace")
    replace_file(path, lambda target: target.write_bytes(content), is_page)


def replace_archive(
    path: Path, make: Callable[[Path], object], force: bool, way_out: str = "name another --out"
) -> None:
    """A .zip of the folder that `make(temporary folder)` fills, its manifest first; see `replace_folder`."""
    if not force and (path.exists() or path.is_symlink()):
        raise UserError(f"{path} exists: {way_out}, or replace it with --force")

    def write(target: Path) -> None:
        from zipfile import ZIP_DEFLATED, ZipFile

        with tempfile.TemporaryDirectory(prefix=".gaprun-", dir=target.parent) as scratch:
            folder = Path(scratch)
            make(folder)
            write_manifest(folder)
            parts = sorted(path for path in folder.rglob("*") if path.is_file())
            with ZipFile(target, "w", ZIP_DEFLATED) as archive:
                for part in sorted(parts, key=lambda part: part.name != MANIFEST):
                    archive.write(part, part.relative_to(folder))

    replace_file(path, write, is_archive, way_out)


def is_archive(path: Path) -> bool:
    """Whether a .zip holds gaprun's manifest and exactly the files that it lists."""
    import zlib
    from zipfile import BadZipFile, ZipFile

    try:
        with ZipFile(path) as archive:
            listed = json.loads(archive.read(MANIFEST))["files"]
            return sorted(archive.namelist()) == sorted([*listed, MANIFEST])
    except (OSError, ValueError, KeyError, TypeError, BadZipFile, NotImplementedError, zlib.error):
        return False


def replace_folder(
    target: Path,
    make: Callable[[Path], object],
    force: bool,
    way_out: str = "name another --out",
    owned: Callable[[Path, str], None] | None = None,
) -> None:
    """Make the folder `target` by `make(temporary folder)`; it appears whole or not at all, with its manifest.

    Where it exists it is replaced only with `force`, and only while `owned(target, way_out)` lets it pass: by default
    while it holds nothing but files of its own manifest. Raises UserError otherwise, Failure where it cannot be written
    (what was there is kept).
    """
    if target.exists() or target.is_symlink():
        if not force:
            raise UserError(f"{target} exists: {way_out}, or replace it with --force")
        (owned or check_owned)(target, way_out)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".gaprun-", dir=target.absolute().parent) as scratch:
            made, old = Path(scratch) / "new", Path(scratch) / "old"
            made.mkdir()
            make(made)
            write_manifest(made)
            if target.exists():
                os.replace(target, old)
            try:
                os.replace(made, target)
            except OSError:
                if old.exists():
                    os.replace(old, target)
                raise
    except OSError as error:
        raise Failure(
            f"{target} cannot be written: {error.strerror or error}; what was there is kept"
        ) from None


def write_manifest(folder: Path) -> None:
    """List the files of `folder` in its manifest, so that a later `check_owned` knows them as gaprun's."""
    files = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    write_atomically(folder / MANIFEST, lambda path: path.write_text(json.dumps({"files": files}, indent=1)))


def check_owned(folder: Path, way_out: str = "name another --out") -> None:
    """Raise UserError unless `folder` is one that gaprun made, and everything in it is on its manifest."""
    if folder.is_symlink() or not folder.is_dir():
        raise UserError(f"{folder} is not a folder that gaprun wrote: {way_out}")
    try:
        listed = set(json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["files"]) | {MANIFEST}
    except (OSError, ValueError, KeyError, TypeError):
        if not any(folder.iterdir()):
            return
        raise UserError(f"{folder} is not a folder that gaprun wrote: {way_out}") from None
    for path in sorted(folder.rglob("*")):
        if (path.is_symlink() or not path.is_dir()) and str(path.relative_to(folder)) not in listed:
            raise UserError(f"{folder} holds {path.name}, which gaprun did not write: {way_out}")
