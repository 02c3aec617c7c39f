"""Packages that only some exchanges need: imported when asked for, named clearly where they are missing."""

from __future__ import annotations

import importlib
from typing import Any


def require(module: str, extra: str) -> Any:
    """The imported `module`. Raises UserError naming the extra of gaprun that brings it where it is missing."""
    from gaprun.errors import UserError

    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        raise UserError(f"{package} is not installed ({error}): pip install 'gaprun[{extra}]'") from None
