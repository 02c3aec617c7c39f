"""Text as others saved it: byte order marks, line ends and encodings, lists of captions written as one text, and
captions that can be stored anywhere."""

from __future__ import annotations

import ast
import codecs
import io
import json
import re
import tokenize
from pathlib import Path
from typing import Any

from gaprun.errors import UserError

_MARKS = (  # UTF-32 first: its little-endian mark begins like UTF-16's
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


def decode_text(data: bytes) -> str:
    """`data` as text with plain line feeds: UTF-8, or UTF-8, UTF-16 or UTF-32 by its byte order mark.

    Raises UnicodeError where it is neither, and where it holds NUL, as UTF-16 without a mark does; the message says in
    which line.
    """
    mark, encoding = next(((mark, name) for mark, name in _MARKS if data.startswith(mark)), (b"", "utf-8"))
    data = data[len(mark) :]
    if encoding == "utf-8" and b"\0" in data:
        line = data[: data.index(b"\0")].count(b"\n") + 1
        raise UnicodeError(
            f"line {line}: a NUL character (UTF-16 without a byte order mark?); save it as UTF-8"
        )
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data[: error.start].decode(encoding, "replace").count("\n") + 1
        byte = f"byte 0x{data[error.start]:02x}"
        raise UnicodeError(f"line {line}: {byte} is not {encoding.upper()}; save it as UTF-8") from None
    if "\0" in text:
        line = text[: text.index("\0")].count("\n") + 1
        raise UnicodeError(
            f"line {line}: a NUL character (UTF-16 without a byte order mark?); save it as UTF-8"
        )
    return text.replace("\r\n", "\n").replace("\r", "\n")


def read_text(path: Path, what: str) -> str:
    """The text of the file `path`, by `decode_text`. Raises UserError that begins with `what` and the path."""
    try:
        return decode_text(path.read_bytes())
    except OSError as error:
        raise UserError(f"{what} {path}: {error.strerror}".lstrip()) from None
    except UnicodeError as error:
        raise UserError(f"{what} {path} {error}".lstrip()) from None


def printable(name: str) -> str:
    """`name` with control characters and bytes that are no UTF-8 (file systems and tars hold them) as U+FFFD."""
    return _CONTROL.sub("\ufffd", name)


def clean_caption(text: str) -> str | None:
    """`text` with white space stripped and collapsed; None where it holds what no text should: NUL, other control
    characters, halves of surrogate pairs."""
    cleaned = " ".join(text.split())
    return None if _CONTROL.search(cleaned) else cleaned


def listed(text: str) -> list[str] | None:
    """The texts of a list of texts that was written as one text, None for any other text.

    As JSON (`["a", "b"]`), as Python (`['a', 'b']`) and as numpy shows an array (`['a' 'b']`): tables made by pandas,
    and the Flickr30k table of the Hugging Face hub, hold a picture's captions so.
    """
    text = text.strip()
    if not (text.startswith("[") and text.endswith("]") and text[1:-1].strip()[:1] in ("'", '"')):
        return None
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = _strings(text)
    return found if isinstance(found, list) and all(isinstance(one, str) for one in found) else None


def _strings(text: str) -> list[str] | None:
    """The string literals of a Python list that holds nothing else."""
    found = []
    try:
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            if token.type == tokenize.STRING:
                found.append(ast.literal_eval(token.string))
            elif token.string.strip() not in ("[", "]", ",", ""):
                return None
    except (tokenize.TokenError, SyntaxError, ValueError):
        return None
    return found


def names_of(array: Any) -> list[str]:
    """The names in a numpy array (N,) of texts, bytes in UTF-8 or whole numbers, as one-line texts.

    Raises ValueError, saying what is wrong, for other shapes and kinds, and for an empty name.
    """
    if array.ndim != 1 or array.dtype.kind not in "USiu":
        raise ValueError(f"must be a list of names, it is {array.dtype} {array.shape}")
    names = []
    for number, one in enumerate(array.tolist()):
        name = clean_caption(one.decode("utf-8", "surrogateescape") if isinstance(one, bytes) else str(one))
        if not name:
            raise ValueError(f"has a name that is empty or no text: number {number}")
        names.append(name)
    return names
