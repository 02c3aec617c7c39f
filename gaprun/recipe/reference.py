"""docs/recipes.md from the schema: every key, its type, its default and what it means."""

from __future__ import annotations

import inspect
import types
import typing
from typing import Any

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from gaprun.recipe.schema import Recipe
from gaprun.registry import models_in

INTRODUCTION = """# Recipe reference

Generated from the schema by `make docs`; do not edit by hand.

A recipe is a YAML mapping. Beside the keys below it may hold `extends` (one parent file, relative to this one),
`seeds` (a list) and `grid` (dotted keys, each with a list of values; all combinations become jobs). A sweep file
instead holds `recipes` (a list of files, each optionally with `set`), `base` (the parent that takes the place of
each recipe's own), `set` (changes for all), `seeds` and `description`. On the command line `--set a.b=value` changes
a key and `--set extends=FILE` replaces the parent.
"""


def reference() -> str:
    """The whole document as Markdown."""
    lines = [INTRODUCTION]
    _section(Recipe, "", lines)
    return "\n".join(lines)


def _section(model: type[BaseModel], path: str, lines: list[str]) -> None:
    title = f"`{path}`" if path else "Top level"
    lines += [
        f"\n## {title}\n",
        inspect.cleandoc(model.__doc__ or "").split("\n\n")[0].replace("\n", " "),
        "",
    ]
    lines += ["| key | type | default | meaning |", "|---|---|---|---|"]
    inner: list[tuple[type[BaseModel], str]] = []
    for name, field in model.model_fields.items():
        models = models_in(field)
        tagged = len(models) > 1
        for choice in models:
            where = f"{path.split(':')[0]}.{name}" if path else name
            inner.append((choice, f"{where}: {_tag(choice)}" if tagged else where))
        several = "a list, each " if typing.get_origin(field.annotation) is list else ""
        kind = f"{several}one of " + ", ".join(_tag(m) for m in models) if tagged else _type(field.annotation)
        lines.append(f"| `{name}` | {kind} | {_default(field)} | {_meaning(name, field)} |")
    for choice, where in inner:
        title = f"\n## `{where}`\n"
        if title not in lines:  # a term's section is the same under each loss
            _section(choice, where, lines)


def _tag(model: type[BaseModel]) -> str:
    for key in ("rule", "name", "task"):
        if key in model.model_fields:
            return str(model.model_fields[key].default)
    return model.__name__


def _meaning(name: str, field: Any) -> str:
    """A tag (rule, name, task) has no description of its own: it is what chooses the section."""
    return field.description or f"The value of `{name}` that chooses this section."


def _default(field: Any) -> str:
    if field.is_required():
        return "required"
    if field.default is PydanticUndefined:
        return "`[]`" if field.default_factory is list else "see below"
    return f"`{'null' if field.default is None else field.default}`"


def _type(annotation: Any) -> str:
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if annotation is type(None):
        return "null"
    if origin is typing.Literal:
        return ", ".join(f"`{value}`" for value in arguments)
    if origin is typing.Annotated:
        return _type(arguments[0])
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_type(part) for part in arguments)
    if origin in (list, tuple):
        return f"list of {' or '.join(sorted({_type(part) for part in arguments}))}"
    names = {int: "whole number", float: "number", str: "text", bool: "true or false"}
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "section"
    return names.get(annotation, getattr(annotation, "__name__", str(annotation)))


if __name__ == "__main__":
    print(reference(), end="")
