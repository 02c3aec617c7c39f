"""Which tasks `--tasks` and `--data` mean. No torch here, so that a mistyped name is answered at once."""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field

from gaprun.errors import UserError
from gaprun.evaluation.task import Task
from gaprun.evaluation.tasks import DEFAULT_TASKS, TASK_CLASSES


@dataclass
class Chosen:
    """Tasks with the data that each can be measured on, and the data that could not be opened, with the reason."""

    tasks: list[Task] = field(default_factory=list)
    failures: list[tuple[str, Exception]] = field(default_factory=list)


def task_names(names: str) -> list[str]:
    """The tasks that a comma-separated list names, each once. Raises UserError for one that does not exist, with the
    nearest that does."""
    wanted = list(dict.fromkeys(name.strip() for name in names.split(",")))
    for name in wanted:
        if name not in TASK_CLASSES:
            near = difflib.get_close_matches(name, TASK_CLASSES, 1)
            hint = f"did you mean {near[0]}?" if near else f"choose from {', '.join(TASK_CLASSES)}"
            raise UserError(f"--tasks {name}: unknown task; {hint}")
    return wanted


def chosen_tasks(names: str | None, data: list[str] | None) -> Chosen:
    """Tasks for `--tasks` and `--data`; data that cannot be read are listed beside what can be measured on the others.

    Raises UserError for an unknown task, one that no data set allows, and where no data can be read at all.
    """
    wanted = task_names(names) if names is not None else list(DEFAULT_TASKS)
    if not data:
        raise UserError("name the data to measure on: --data coco/test (repeatable)")
    data = list(dict.fromkeys(data))
    chosen, unread, taken = Chosen(), dict[str, UserError](), set[str]()
    for name in wanted:
        kind = TASK_CLASSES[name]
        probing = kind(task=name, data=data)
        fitting = [ref for ref in data if _fits(probing, ref, unread)]
        taken.update(fitting)
        if fitting:
            chosen.tasks.append(kind(task=name, data=fitting))
        elif names and not unread:
            raise UserError(f"--tasks {name}: needs {kind.needs}, which no --data has")
    for ref in data:
        if ref not in taken:
            nothing = UserError(f"no task of {', '.join(wanted)} can be measured on it")
            chosen.failures.append((ref, unread.get(ref, nothing)))
    if not chosen.tasks:
        raise chosen.failures[0][1]
    return chosen


def _fits(task: Task, ref: str, unread: dict[str, UserError]) -> bool:
    """Whether `task` can be measured on `ref`; data that it cannot read may be another task's."""
    try:
        return task.accepts(task.open(ref))
    except UserError as error:
        unread.setdefault(ref, error)
        return False
