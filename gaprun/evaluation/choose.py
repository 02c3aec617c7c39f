"""Which tasks `--tasks` and `--data` mean. No torch here, so that a mistyped name is answered at once."""

from __future__ import annotations

import difflib
from pathlib import Path

from gaprun.data.split import data_root
from gaprun.errors import UserError
from gaprun.evaluation.task import Task
from gaprun.evaluation.tasks import DEFAULT_TASKS, TASK_CLASSES


def chosen_tasks(names: str | None, data: list[str] | None) -> list[Task]:
    """Tasks for `--tasks` and `--data`; raises UserError for an unknown task or one that no data set allows."""
    if not data:
        raise UserError("name the data to measure on: --data coco/test (repeatable)")
    wanted = [name.strip() for name in names.split(",")] if names else list(DEFAULT_TASKS)
    chosen: list[Task] = []
    for name in wanted:
        if name not in TASK_CLASSES:
            near = difflib.get_close_matches(name, TASK_CLASSES, 1)
            hint = f"did you mean {near[0]}?" if near else f"choose from {', '.join(TASK_CLASSES)}"
            raise UserError(f"--tasks {name}: unknown task; {hint}")
        kind = TASK_CLASSES[name]
        probing = kind(task=name, data=data)
        fitting = [ref for ref in data if _fits(probing, ref, lenient=len(data) > 1)]
        if fitting:
            chosen.append(kind(task=name, data=fitting))
        elif names:
            raise UserError(f"--tasks {name}: needs {kind.needs}, which no --data has")
    return chosen


def _fits(task: Task, ref: str, lenient: bool) -> bool:
    """Whether `task` can be measured on `ref`; with several data sets, one that another task reads is passed over."""
    try:
        return task.accepts(task.open(ref))
    except UserError:
        if lenient and _readable(ref):
            return False
        raise


def _readable(ref: str) -> bool:
    return (data_root() / ref).is_dir() or Path(ref).is_dir()
