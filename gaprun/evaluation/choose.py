"""Which tasks `--tasks` and `--data` mean. No torch here, so that a mistyped name is answered at once."""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field
from typing import Any

from pydantic import TypeAdapter, ValidationError

from gaprun.errors import UserError
from gaprun.evaluation.task import Task
from gaprun.evaluation.tasks import DEFAULT_TASKS, TASKS
from gaprun.evaluation.transforms import TRANSFORMS, AnyTransform, Identity, Transform
from gaprun.registry import load_plugins


@dataclass
class Chosen:
    """Tasks with the data that each can be measured on, and the data that could not be opened, with the reason."""

    tasks: list[Task] = field(default_factory=list)
    failures: list[tuple[str, Exception]] = field(default_factory=list)


def task_names(names: str) -> list[str]:
    """The tasks that a comma-separated list names, each once. Raises UserError for one that does not exist, with the
    nearest that does."""
    load_plugins()
    wanted = list(dict.fromkeys(name.strip() for name in names.split(",")))
    for name in wanted:
        if TASKS.get(name) is None:
            raise UserError(f"--tasks {name}: unknown task; {_hint(name, TASKS.names())}")
    return wanted


def _hint(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, 1)
    return f"did you mean {near[0]}?" if near else f"choose from {', '.join(known)}"


def transform_of(text: str) -> Transform:
    """The transform that `--transform` means: `centre`, or with options `shift,fraction=0.5`. Raises UserError."""
    load_plugins()
    name, *options = (part.strip() for part in text.split(","))
    if TRANSFORMS.get(name) is None:
        raise UserError(f"--transform {name}: unknown transform; {_hint(name, TRANSFORMS.names())}")
    given: dict[str, str] = {"name": name}
    for option in options:
        key, sign, value = option.partition("=")
        if not sign:
            raise UserError(f"--transform {text}: expected NAME,key=value,..., such as shift,fraction=0.5")
        given[key.strip()] = value.strip()
    try:
        return TypeAdapter(AnyTransform).validate_python(given)
    except ValidationError as error:
        first = error.errors()[0]
        raise UserError(f"--transform {text}: {first['loc'][-1]}: {first['msg']}") from None


def chosen_tasks(
    names: str | None, data: list[str] | None, transforms: list[str] | None = None, fit: str | None = None
) -> Chosen:
    """Tasks for `--tasks` and `--data`; data that cannot be read are listed beside what can be measured on the others.

    Each is measured on the embeddings as they are and after each of `transforms`, fitted on the split `fit`. Raises
    UserError for an unknown task, one that no data set allows, and where no data can be read at all.
    """
    wanted = task_names(names) if names is not None else list(DEFAULT_TASKS)
    if not data:
        raise UserError("name the data to measure on: --data coco/test (repeatable)")
    data = list(dict.fromkeys(data))
    how = transformed(transforms, fit)
    chosen, unread, taken = Chosen(), dict[str, UserError](), set[str]()
    for name in wanted:
        kind = TASKS.get(name)
        assert kind is not None
        probing = kind(task=name, data=data)
        fitting = [ref for ref in data if _fits(probing, ref, unread)]
        taken.update(fitting)
        if fitting:
            chosen.tasks.append(kind(task=name, data=fitting, **how))
        elif names and not unread:
            raise UserError(f"--tasks {name}: needs {kind.needs}, which no --data has")
    for ref in data:
        if ref not in taken:
            nothing = UserError(f"no task of {', '.join(wanted)} can be measured on it")
            chosen.failures.append((ref, unread.get(ref, nothing)))
    if not chosen.tasks:
        raise chosen.failures[0][1]
    return chosen


def transformed(transforms: list[str] | None, fit: str | None) -> dict[str, Any]:
    """A task's `transforms` and `fit` for `--transform` and `--fit`, none where neither is given. Raises UserError."""
    if fit is not None and not transforms:
        raise UserError(
            "--fit says what --transform is fitted on: name a transform too, such as --transform centre"
        )
    if not transforms:
        return {}
    return {"transforms": list(dict.fromkeys([Identity(), *map(transform_of, transforms)])), "fit": fit}


def _fits(task: Task, ref: str, unread: dict[str, UserError]) -> bool:
    """Whether `task` can be measured on `ref`; data that it cannot read may be another task's."""
    try:
        return task.accepts(task.open(ref))
    except UserError as error:
        unread.setdefault(ref, error)
        return False
