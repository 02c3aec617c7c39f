"""Where output goes may know no sign beyond ASCII or Latin-1, or say that it has no columns: numbers stay readable."""

from __future__ import annotations

import codecs
import io
import os
import sys

# Never "?" for what changes a number or a word's meaning: a minus that became one would be read as an unknown sign.
_SPELLED = {
    "−": "-", "±": "+-", "↑": "^", "↓": "v", "◂": "<", "→": "->", "≈": "~", "≥": ">=", "≤": "<=", "∞": "inf",
    "…": "...", "†": "+", "–": "-", "—": "-", "“": '"', "”": '"', "‘": "'", "’": "'", "×": "x", "·": ".", "½": "1/2",
    "²": "2", "³": "3", "⁶": "6", "√": "sqrt", "‖": "||", "°": " deg", "µ": "mu", "━": "-", "─": "-", "│": "|",
    "α": "alpha", "β": "beta", "γ": "gamma", "δ": "delta", "Δ": "Delta", "λ": "lambda", "μ": "mu", "ν": "nu",
    "π": "pi", "σ": "sigma", "τ": "tau", "Θ": "Theta", "Ø": "O", "ø": "o", "ł": "l", "Ł": "L", "ß": "ss", "æ": "ae",
} | {chr(0x2581 + height): str(height + 1) for height in range(8)}  # fmt: skip


def _spelled(error: UnicodeError) -> tuple[str | bytes, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    sign = error.object[error.start]
    if "\udc80" <= sign <= "\udcff":  # of a file's name: the byte that it was
        return bytes([ord(sign) - 0xDC00]), error.start + 1
    if sign in _SPELLED:
        return _SPELLED[sign], error.start + 1
    import unicodedata

    plain = unicodedata.normalize("NFKD", sign).encode("ascii", "ignore").decode()
    return plain or "?", error.start + 1


def prepare() -> None:
    """Let stdout and stderr spell out what their encoding lacks, and forget a width of nothing."""
    if os.environ.get("COLUMNS", "").strip() == "0":
        del os.environ["COLUMNS"]  # a table would get no room at all, and nothing would be printed
    codecs.register_error("spelled", _spelled)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors in ("strict", "backslashreplace"):
            stream.reconfigure(errors="spelled")
