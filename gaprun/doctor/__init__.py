"""Whether gaprun can work here: every check gives findings, each ok, a warning or a failure with what to do."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

State = Literal["ok", "warn", "fail"]


@dataclass(frozen=True)
class Finding:
    """One line of the report: `check` names what was looked at, `said` what was found, `advice` the way out."""

    check: str
    state: State
    said: str
    advice: str = ""


def examine(db: str | None) -> Iterator[Finding]:
    """All findings, in the order in which trouble is best solved. A check that breaks is a finding itself."""
    from gaprun.doctor import machine, places, versions

    for check in (
        versions.python,
        versions.packages,
        versions.extras,
        machine.device_and_decoder,
        machine.shared_memory,
        places.data,
        lambda: places.database(db),
        lambda: places.disk(db),
        places.cluster,
    ):
        try:
            yield from check()
        except Exception as error:
            name = getattr(check, "__name__", "database")
            yield Finding(name.strip("<>"), "fail", f"{type(error).__name__}: {error}", "please report this")
