"""What every command shares: consoles, and JSON without NaN."""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from typing import Any, TextIO, cast

from pydantic_core import to_json
from rich.console import Console

from gaprun.cli import streams


class _Steady:
    """stderr as it is at the time, where a word that cannot be written is lost and nothing else.

    A terminal that closed, or a full disk under a log, must not end what runs.
    """

    def _target(self) -> Any:
        """None where this process was started without a stderr."""
        return getattr(sys.stderr, "rich_proxied_file", sys.stderr)

    def write(self, text: str) -> int:
        with suppress(OSError, ValueError):
            if (target := self._target()) is not None:
                target.write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError, ValueError):
            if (target := self._target()) is not None:
                target.flush()

    def isatty(self) -> bool:
        target = self._target()
        return target is not None and not getattr(target, "closed", False) and bool(target.isatty())

    def fileno(self) -> int:
        if (target := self._target()) is None:
            raise OSError("no stderr")
        return int(target.fileno())

    @property
    def encoding(self) -> str:
        return str(getattr(self._target(), "encoding", None) or "utf-8")


streams.prepare()
console = Console()
err_console = Console(file=cast(TextIO, _Steady()), stderr=True)


def with_db(command: str, db: str | None) -> str:
    """`command` as it is to be typed next, with the `--db` that this one was given; without its password."""
    if not db or db == os.environ.get("GAPRUN_DB"):
        return command
    if "://" in db:
        from gaprun.store.secrets import hide_passwords  # the store is not for every command's start

        db = hide_passwords(db)
    return f"{command} --db {shlex.quote(db)}"


given: dict[str, str | None] = {"--db": None}  # what the command that runs was told, for what it hints at
_READS_A_DATABASE = "train|submit|eval|compare|runs|report|watch|paper|db|doctor"


def with_hints(text: str) -> str:
    """`text` with the `--db` that this command was given in each gaprun command in backticks that reads a database."""

    def carried(found: re.Match[str]) -> str:
        return (
            found[0]
            if "--db" in found[1] or "--help" in found[1]
            else f"`{with_db(found[1], given['--db'])}`"
        )

    return re.sub(rf"`(gaprun (?:{_READS_A_DATABASE})\b[^`]*)`", carried, text)


def print_json(value: Any) -> None:
    """Print `value` to stdout as plain JSON (no colours, no wrapping), NaN and infinities as null; of a list or an
    iterator each entry on a line of its own."""

    def encoded(one: Any, indent: int | None = None) -> str:
        return to_json(one, indent=indent, inf_nan_mode="null", ensure_ascii=True, fallback=str).decode()

    if not isinstance(value, list | Iterator):
        print(encoded(value, indent=2))
        return
    lines = map(encoded, value)
    start = "[\n"
    while part := list(islice(lines, 1000)):  # so that a large answer is never in memory as a whole
        sys.stdout.write(start + ",\n".join(part))
        start = ",\n"
    print("[]" if start == "[\n" else "\n]")
