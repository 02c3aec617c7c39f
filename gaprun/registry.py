"""What a recipe chooses by name, open to classes from outside the package.

A `Registry` holds the classes of one kind (losses, loss terms, temperature rules, swaps) under the value of their tag
field. `Annotated[Base, REGISTRY]` as the type of a recipe's key accepts every class registered so far; registering
another one later rebuilds the schemas that use it. A module of one's own registers its classes when it is imported,
and GAPRUN_PLUGINS names such modules. Read with the recipe: no torch at import time.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import os
import re
import sys
import typing
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any, Generic, TypeVar

from pydantic import BaseModel, GetCoreSchemaHandler
from pydantic.fields import FieldInfo
from pydantic_core import CoreSchema, core_schema

from gaprun.errors import UserError
from gaprun.files import expanded

T = TypeVar("T", bound=BaseModel)
PLUGINS = "GAPRUN_PLUGINS"
FILE = "gaprun_plugin_"  # how the module of a plugin's file is called, before a hash of its path
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
ALL: list[Registry[Any]] = []  # every registry that there is


class Registry(Generic[T]):
    """Classes of one kind by name; `tag` is the field whose (only) value is a class's name.

    `usual`: the name that is meant where a recipe gives options without one.
    """

    def __init__(self, kind: str, tag: str, usual: str | None = None) -> None:
        self.kind, self.tag, self.usual = kind, tag, usual
        ALL.append(self)
        self._choices: dict[str, type[T]] = {}
        self._code: dict[type[BaseModel], str] = {}
        self._users: list[type[BaseModel] | Registry[Any]] = []

    def register(self, choice: type[T]) -> type[T]:
        """Add a class (use as a decorator).

        Raises UserError for a class of another kind, without a name (or a usable one), whose name is taken, or that
        lacks a method which every one of the kind must have.
        """
        if not (isinstance(choice, type) and issubclass(choice, BaseModel)):
            raise UserError(
                f"{_place(choice)}: a {self.kind} derives from the class that the others derive from"
            )
        field = choice.model_fields.get(self.tag)
        name = "" if field is None else str(field.default)
        if field is None or typing.get_args(field.annotation) != (name,) or not NAME.fullmatch(name):
            raise UserError(
                f"{_place(choice)}: a {self.kind} needs a name (letters, figures, - and _) in its field `{self.tag}`: "
                f'{self.tag}: Literal["my-name"] = "my-name"'
            )
        if missing := sorted(getattr(choice, "__abstractmethods__", ())):
            raise UserError(
                f"{_place(choice)}: the {self.kind} {name} needs the method {' and '.join(missing)}"
            )
        if name in self._choices:
            raise UserError(
                f"{_place(choice)}: the {self.kind} {name} is {_place(self._choices[name])}; choose another name"
            )
        self._code[choice] = _code_of(choice)
        self._choices[name] = choice
        self._rebuild_users()
        return choice

    def used_by(self, user: type[BaseModel] | Registry[Any]) -> None:
        """Note a model whose schema holds these choices, or a registry whose classes do."""
        self._users.append(user)

    def _rebuild_users(self) -> None:
        for user in self._users:
            for model in user if isinstance(user, Registry) else (user,):
                model.model_rebuild(force=True)
            if isinstance(user, Registry):
                user._rebuild_users()

    def __iter__(self) -> Iterator[type[T]]:
        return iter(self._choices.values())

    def get(self, name: str) -> type[T] | None:
        """The class of that name, None where there is none."""
        return self._choices.get(name)

    def code_of(self, choice: type[BaseModel]) -> dict[str, str]:
        """`{kind name: sha256}` of the file that a class from outside the package came from, as it was when the class
        was registered; empty for the package's own and for what is not registered here."""
        code = self._code.get(choice)
        return {f"{self.kind} {choice.model_fields[self.tag].default}": code} if code else {}

    def names(self) -> list[str]:
        """The names in the order of registration."""
        return list(self._choices)

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """What pydantic asks of a type's annotation: a union told apart by the tag."""
        choices = {name: handler.generate_schema(choice) for name, choice in self._choices.items()}
        union = core_schema.tagged_union_schema(choices, discriminator=self.tag)
        return core_schema.no_info_before_validator_function(self._with_usual_name, union)

    def _with_usual_name(self, value: Any) -> Any:
        if self.usual is not None and isinstance(value, dict):
            return {self.tag: self.usual, **value}
        return value


def models_in(annotation: Any) -> list[type[BaseModel]]:
    """Every model that a type annotation, or a model's field, admits; a registry's choices among them."""
    if isinstance(annotation, FieldInfo):
        found = [model for extra in annotation.metadata for model in models_in(extra)]
        return found or models_in(annotation.annotation)
    if isinstance(annotation, Registry):
        return list(annotation)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if typing.get_origin(annotation) is Annotated:
        first, *extras = typing.get_args(annotation)
        return [model for extra in extras for model in models_in(extra)] or models_in(first)
    return [model for part in typing.get_args(annotation) for model in models_in(part)]


def registries_of(model: type[BaseModel]) -> list[Registry[Any]]:
    """Every registry that a field of `model`, or of a model in it, chooses from; not those behind a registry."""
    found: list[Registry[Any]] = []
    for field in model.model_fields.values():
        found += _registries_in([*field.metadata, field.annotation])
    return list(dict.fromkeys(found))


def _registries_in(parts: Iterable[Any]) -> list[Registry[Any]]:
    parts = list(parts)
    own = [part for part in parts if isinstance(part, Registry)]
    if own:
        return own
    found = []
    for part in parts:
        if isinstance(part, type) and issubclass(part, BaseModel):
            found += registries_of(part)
        else:
            found += _registries_in(typing.get_args(part))
    return found


def _place(choice: type[Any]) -> str:
    """Where a class stands: its module, or the file of one's own, and its name."""
    module = choice.__module__
    file = getattr(sys.modules.get(module), "__file__", None)
    return f"{file if module.startswith(FILE) and file else module}.{choice.__qualname__}"


def outside_code(part: BaseModel) -> dict[str, str]:
    """The code from outside the package that `part` of a recipe, or a part of it, comes from: `{kind name: sha256}`."""
    found: dict[str, str] = {}
    for registry in ALL:
        found |= registry.code_of(type(part))
    for name in type(part).model_fields:
        value = getattr(part, name)
        for inner in value if isinstance(value, list) else [value]:
            found |= outside_code(inner) if isinstance(inner, BaseModel) else {}
    return found


def _code_of(choice: type[BaseModel]) -> str:
    """sha256 of the file that `choice` stands in (of all such hashes, where it derives from what stands in others), ""
    where all is the package's.

    Raises UserError for a class without a file: nothing could say later by what a run was trained.
    """
    modules = dict.fromkeys(
        one.__module__ for one in choice.__mro__ if issubclass(one, BaseModel) and one is not BaseModel
    )
    found, outside = list[str](), [name for name in modules if name.partition(".")[0] != "gaprun"]
    for name in outside:
        file = getattr(sys.modules[name], "__file__", None)
        if file is None or not Path(file).is_file():
            raise UserError(
                f"{name}.{choice.__qualname__}: write it into a file that {PLUGINS} names, so that a run can say by "
                "what code it was made"
            )
        found.append(hashlib.sha256(Path(file).read_bytes()).hexdigest())
    return hashlib.sha256("".join(found).encode()).hexdigest() if len(found) > 1 else "".join(found)


def plugin_names() -> list[str]:
    """What GAPRUN_PLUGINS names: modules (my_package.terms) or files (./my_terms.py), parted by commas."""
    return [name.strip() for name in os.environ.get(PLUGINS, "").split(",") if name.strip()]


def load_plugins() -> None:
    """Import each module that GAPRUN_PLUGINS names, once. Raises UserError for one that cannot be imported."""
    for name in plugin_names():
        try:
            _imported(name)
        except UserError:
            raise
        except Exception as error:
            raise UserError(f"{PLUGINS}: {name}: {type(error).__name__}: {error}") from None


def plugin_hashes() -> dict[str, str]:
    """sha256 of each plugin's file: part of what a run was made with."""
    found = {}
    for name in plugin_names():
        file = _imported(name).__file__
        found[name] = hashlib.sha256(Path(file).read_bytes()).hexdigest() if file else "?"
    return found


def _imported(name: str) -> ModuleType:
    if not name.endswith(".py"):
        return importlib.import_module(name)
    path = expanded(name).resolve()
    if not path.is_file():
        raise UserError(f"{PLUGINS}: {name}: no such file")
    module_name = f"{FILE}{hashlib.sha256(str(path).encode()).hexdigest()[:12]}"
    if module_name not in sys.modules:
        spec = importlib.util.spec_from_file_location(module_name, path)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[module_name] = module
        try:
            spec.loader.exec_module(module)
        except BaseException:
            del sys.modules[module_name]
            raise
    return sys.modules[module_name]
