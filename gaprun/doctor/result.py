"""What a check says: ok, a warning or a failure with what to do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

State = Literal["ok", "warn", "fail"]


@dataclass(frozen=True)
class CheckResult:
    """One line of the report: `check` names what was looked at, `said` what was found, `advice` the way out."""

    check: str
    state: State
    said: str
    advice: str = ""
