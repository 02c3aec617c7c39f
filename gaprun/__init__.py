"""gaprun: train CLIP by recipe, measure the modality gap, compare methods with error bars (arXiv 2412.07909).

`from gaprun import load_recipe, train, evaluate, compare` is the command line in Python; each is loaded when it is
first used, so importing gaprun stays cheap.
"""

from __future__ import annotations

import gaprun.leaving  # noqa: F401 (before anything else: Ctrl-C may come at once)

# isort: split
import os
from typing import TYPE_CHECKING, Any

from gaprun.version import __version__

if TYPE_CHECKING:
    from gaprun.api import compare, evaluate, load_recipe, train

# cuBLAS reads this once, at a process's first product on a GPU: any later might be too late for repeatable runs.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")

__all__ = ["__version__", "compare", "evaluate", "load_recipe", "train"]

# Where each verb lives: the first two need no torch.
_HOMES = {
    "load_recipe": "gaprun.recipe",
    "compare": "gaprun.comparison",
    "train": "gaprun.api",
    "evaluate": "gaprun.api",
}


def __dir__() -> list[str]:
    """What completion shows: the verbs too, which are not loaded yet."""
    return sorted({*globals(), *__all__})


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'gaprun' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
