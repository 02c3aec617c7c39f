"""What can be measured: each task is one file with its recipe options, its protocols and how it measures.

A task reads embeddings and never runs an encoder itself, so five tasks encode each image once. Adding a task:
one class, and its name in `TASKS`. The classes are read with the recipe: no torch at import time.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from gaprun.evaluation.task import Task
from gaprun.evaluation.tasks.composition import Mmvp, SugarCrepe, Winoground
from gaprun.evaluation.tasks.gap import Gap
from gaprun.evaluation.tasks.probe import Probe
from gaprun.evaluation.tasks.retrieval import Retrieval
from gaprun.evaluation.tasks.shift import Shift
from gaprun.evaluation.tasks.zeroshot import ZeroShot

TASKS = Gap | Retrieval | ZeroShot | Probe | Shift | SugarCrepe | Winoground | Mmvp
AnyTask = Annotated[TASKS, Field(discriminator="task")]
TASK_CLASSES: dict[str, type[Task]] = {
    "gap": Gap,
    "retrieval": Retrieval,
    "zeroshot": ZeroShot,
    "probe": Probe,
    "shift": Shift,
    "sugarcrepe": SugarCrepe,
    "winoground": Winoground,
    "mmvp": Mmvp,
}
DEFAULT_TASKS = ("gap", "retrieval", "zeroshot", "probe")
