"""The database of runs, evaluations, metrics and trajectories; `open_store` is the way in (lazy)."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gaprun.store.database import Store, open_store
    from gaprun.store.values import EvaluationKey, NewRun

__all__ = ["EvaluationKey", "NewRun", "Store", "open_store"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = "values" if name in ("EvaluationKey", "NewRun") else "database"
    return getattr(import_module(f"gaprun.store.{home}"), name)
