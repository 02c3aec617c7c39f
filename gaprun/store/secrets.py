"""Passwords in the names of databases, which are printed, logged and written into files."""

from __future__ import annotations

import re


def hide_passwords(url: str) -> str:
    """`url` with `***` for the password before its host and for each in its query; also of what is no whole URL."""
    scheme, sign, rest = url.rpartition("://") if url.count("://") == 1 else ("", "", url)
    rest = re.sub(r"^([^@:]*:).*@", r"\1***@", rest, flags=re.DOTALL)
    return scheme + sign + re.sub(r"(password=)[^&]*", r"\1***", rest, flags=re.IGNORECASE)
