"""What can be measured: each task is one file with its recipe options, its protocols and how it measures.

A task reads embeddings and never runs an encoder itself, so ten tasks encode each image once. Adding a task: one class
with `TASKS.register`, in a file here (imported below) or in a module that GAPRUN_PLUGINS names. The classes are read
with the recipe: no torch at import time.
"""

from __future__ import annotations

from gaprun.evaluation.task import TASKS, AnyTask
from gaprun.evaluation.tasks import (
    clustering,
    composition,
    gap,
    intra,
    mixed,
    probe,
    retrieval,
    shift,
    transfer,
    zeroshot,
)

DEFAULT_TASKS = ("gap", "retrieval", "zeroshot", "probe")

__all__ = [
    "DEFAULT_TASKS",
    "TASKS",
    "AnyTask",
    "clustering",
    "composition",
    "gap",
    "intra",
    "mixed",
    "probe",
    "retrieval",
    "shift",
    "transfer",
    "zeroshot",
]
