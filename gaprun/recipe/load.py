"""Reading recipes: YAML with `extends` and `--set`, sweeps, and errors that name file, key and way out."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from gaprun.errors import UserError
from gaprun.recipe import packaged
from gaprun.recipe.schema import Recipe
from gaprun.recipe.text import parse_yaml
from gaprun.registry import PLUGINS, models_in

# A mapping that carries one of these chooses a class: another choice replaces the parent's options whole,
# because options of one rule (init of exp) mean nothing to another (fixed).
TAGS = ("rule", "name", "task")
JOB_KEYS = ("seeds", "grid")
MAX_PARENTS = 20
# What pydantic says of these is about its own insides.
EXPECTED = dict.fromkeys(
    ("model_type", "model_attributes_type", "dict_type"), "keys with values, {key: value}"
) | {
    "string_type": "text: in quotes where YAML reads a number, a date or true and false",
    "list_type": "a list, [a, b]",
    "tuple_type": "a list, [a, b]",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
}


def read_mapping(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file. Raises UserError naming the file when it is missing, unreadable or no mapping."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        near = difflib.get_close_matches(path.name, [p.name for p in path.parent.glob("*.yaml")], 1)
        name = str(path.parent / near[0]) if near else packaged.nearest(path.name)
        hint = f"; did you mean {name}?" if name else "; `gaprun init DIR` writes those that come with gaprun"
        raise UserError(f"{path}: no such recipe file{hint}") from None
    except IsADirectoryError:
        raise UserError(f"{path}: is a folder; name one recipe file in it") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read as text ({error})") from None
    value = parse_yaml(text, str(path))
    if not isinstance(value, dict):
        raise UserError(f"{path}: a recipe is a mapping of keys to values, this file holds {_kind(value)}")
    _check_keys(value, str(path))
    return value


def merge(parent: Mapping[str, Any], child: Mapping[str, Any]) -> dict[str, Any]:
    """`child` over `parent`, mappings merged key by key, lists and scalars replaced.

    A mapping over a list changes entries by their place, from 0: `--set loss.terms.0.weight=2`. Raises UserError for
    a place that the list does not have.
    """
    result = dict(parent)
    for key, value in child.items():
        old = result.get(key)
        if isinstance(old, list) and isinstance(value, Mapping):
            changes = {str(place): change for place, change in value.items()}
            by_place = merge({str(place): entry for place, entry in enumerate(old)}, changes)
            if len(by_place) > len(old):
                wrong = list(by_place)[len(old)]
                has = f"entries 0 to {len(old) - 1}" if old else "no entries"
                raise UserError(
                    f"{key}.{wrong}: the list {key} has {has}; give the whole list to change its length"
                )
            result[key] = list(by_place.values())
            continue
        if isinstance(old, Mapping) and isinstance(value, Mapping) and not _other_choice(old, value):
            result[key] = merge(old, value)
        else:
            result[key] = value
    return result


def _other_choice(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    return any(tag in new and new[tag] != old.get(tag) for tag in TAGS)


def with_parents(path: Path, extends: Path | None = None, seen: tuple[Path, ...] = ()) -> dict[str, Any]:
    """The file's mapping over its `extends` chain; `extends` (if given) takes the place of the file's own parent."""
    if path.resolve() in seen:
        raise UserError(
            f"{path}: extends itself through {' -> '.join(p.name for p in seen)}; break the circle"
        )
    if len(seen) > MAX_PARENTS:
        raise UserError(f"{seen[0]}: extends: a chain of more than {MAX_PARENTS} files")
    mapping = read_mapping(path)
    own = mapping.pop("extends", None)
    if own is not None and not isinstance(own, str):
        raise UserError(f"{path}: extends: expected the path of one recipe file, got {_kind(own)}")
    parent = extends or (beside(path, own) if own else None)
    if parent is None:
        return mapping
    if own and not extends and not parent.exists():
        raise UserError(f"{path}: extends: no such file {parent}")
    return merge(with_parents(parent, None, (*seen, path.resolve())), mapping)


def beside(path: Path, name: str) -> Path:
    """The recipe file that `path` calls `name`: relative to it, or else one of gaprun's own."""
    own = path.parent / name
    if own.is_file() or not (ours := packaged.found(Path(name))).is_file():
        return own
    return ours


def parse_assignments(items: list[str], option: str = "--set") -> dict[str, Any]:
    """`["a.b=1", ...]` as a flat mapping from dotted key to YAML-parsed value."""
    result: dict[str, Any] = {}
    for item in items:
        key, sep, text = item.partition("=")
        if not sep or not re.fullmatch(r"[A-Za-z_]\w*(\.\w+)*", key.strip()):
            raise UserError(f"{option} {item}: expected key.path=value, e.g. {option} optimizer.lr=1e-3")
        result[key.strip()] = parse_yaml(text, f"{option} {item}")
    return result


def _check_keys(mapping: Mapping[Any, Any], source: str) -> None:
    wrong = [key for key in mapping if not isinstance(key, str)]
    if wrong:
        raise UserError(f"{source}: {wrong[0]!r} is no name of a key")


def nested(assignments: Mapping[str, Any], source: str = "--set") -> dict[str, Any]:
    """`{"a.b": 1}` as `{"a": {"b": 1}}`; `source` names it in errors.

    Raises UserError when one key is both a value and a section, and for a key that is no text.
    """
    _check_keys(assignments, source)
    result: dict[str, Any] = {}
    for key, value in assignments.items():
        node = result
        *sections, last = key.split(".")
        for section in sections:
            node = node.setdefault(section, {})
            if not isinstance(node, dict):
                raise UserError(f"{source}: {key}: {section} was set to a value already")
        node[last] = value
    return result


def validate(mapping: Mapping[str, Any], source: str) -> Recipe:
    """`mapping` as a Recipe; raises UserError naming source, key path, what was expected and the nearest name."""
    empty = [key for key in ("temperature", "swap", "loss") if key in mapping and mapping[key] is None]
    if empty:
        usual = Recipe.model_fields[empty[0]].get_default(call_default_factory=True)
        tag = next(tag for tag in TAGS if hasattr(usual, tag))
        raise UserError(
            f"{source}: {empty[0]}: null says nothing; leave the key out, or write {{{tag}: {getattr(usual, tag)}}}"
        )
    try:
        recipe = Recipe.model_validate(mapping)
        _check_numbers(recipe.model_dump(mode="python"), mapping, source)
        return recipe
    except ValidationError as error:
        lines = [_explain(dict(item), mapping) for item in error.errors()[:3]]
        more = error.error_count() - len(lines)
        raise UserError(
            f"{source}: {'; '.join(lines)}" + (f"; and {more} more" if more > 0 else "")
        ) from None


def _check_numbers(value: Any, given: Any, source: str, place: str = "") -> None:
    """Raise UserError, naming the key, for a number that is infinite, none or of more than 64 bits, or given as yes."""
    if isinstance(value, float) and not math.isfinite(value):
        raise UserError(f"{source}: {place}: {value} is not a finite number")
    if isinstance(value, int) and abs(value) >= 2**63:
        raise UserError(f"{source}: {place}: {value} is too large for a whole number")
    if isinstance(given, bool) and not isinstance(value, bool):
        raise UserError(
            f"{source}: {place}: expected a number, got {str(given).lower()} (YAML reads yes, no, on, off as such too)"
        )
    beside = dict(_items(given))
    for key, item in _items(value):
        _check_numbers(item, beside.get(key), source, f"{place}.{key}" if place else str(key))


def _items(value: Any) -> list[tuple[Any, Any]]:
    """What a mapping or list holds, by key or place; of anything else nothing."""
    if isinstance(value, Mapping):
        return list(value.items())
    return list(enumerate(value)) if isinstance(value, list | tuple) else []


def _explain(error: dict[str, Any], mapping: Mapping[str, Any]) -> str:
    location = [part for part in error["loc"]]
    path, valid, rivals = _walk(location, mapping)
    where = ".".join(str(part) for part in path) or "recipe"
    kind, message = error["type"], error["msg"].removeprefix("Value error, ")
    if kind == "extra_forbidden":
        near = difflib.get_close_matches(str(path[-1]), valid, 1, 0.5)
        hint = f"did you mean {near[0]}?" if near else f"valid here: {', '.join(sorted(valid))}"
        owners = [f"{tag}: {name}" for tag, name, keys in rivals if path[-1] in keys]
        if owners:
            hint = f"it goes with {' or '.join(owners)}; {hint}"
        return f"{where}: unknown key; {hint}"
    if kind == "missing":
        return f"{where}: this key is required"
    if kind == "union_tag_not_found":
        tag = str(error.get("ctx", {}).get("discriminator", "")).strip("'")
        return f"{where}: it needs the key {tag}, which says what it is"
    if kind in ("union_tag_invalid", "literal_error"):
        context = error.get("ctx", {})
        expected = context.get("expected_tags") or context.get("expected") or context.get("discriminator", "")
        choices = re.findall(r"'([^']+)'", str(expected))
        given = str(context.get("tag", error.get("input")))
        near = difflib.get_close_matches(given, choices, 1, 0.5)
        tag = str(context.get("discriminator", "")).strip("'")
        where = f"{where}.{tag}" if tag and kind.startswith("union") else where
        hint = f"; did you mean {near[0]}?" if near else ""
        if kind == "union_tag_invalid" and not near:
            hint = f"; a class of your own is found where {PLUGINS} names its module"
        return f"{where}: expected one of {', '.join(choices) or expected}, got {given!r}{hint}"
    given = (
        _kind(error.get("input")) if isinstance(error.get("input"), dict | list) else repr(error.get("input"))
    )
    if kind in EXPECTED:
        return f"{where}: expected {EXPECTED[kind]}; got {given}"
    if kind == "string_pattern_mismatch" and path[-1] == "name":
        return f"{where}: expected letters, digits and . _ + = , - with a letter or digit first; got {given}"
    return f"{where}: {message[:1].lower()}{message[1:]}" + (
        "" if kind == "value_error" else f", got {given}"
    )


def _walk(location: list[Any], mapping: Any) -> tuple[list[Any], list[str], list[tuple[str, str, list[str]]]]:
    """Drop union tags from a pydantic location, and name the fields that are valid beside its last part; then the tag,
    name and fields of each other choice there."""
    path: list[Any] = []
    model: Any = Recipe
    valid: list[str] = []
    rivals: list[type[BaseModel]] = []
    choices: list[type[BaseModel]] = []
    for part in location:
        fields = model.model_fields if isinstance(model, type) and issubclass(model, BaseModel) else None
        if fields is not None:
            valid = list(fields) + (["extends", *JOB_KEYS] if model is Recipe else [])
            choices = rivals
            rivals = []
            path.append(part)
            model = fields.get(part)
            models = models_in(model) if model is not None else []
            model = models[0] if len(models) == 1 else model
        elif isinstance(part, int):
            path.append(part)
        else:
            chosen = _choice(model, part)
            rivals = [one for one in models_in(model) if one is not chosen]
            model = chosen if chosen is not None else model
    others = [
        (tag, one.model_fields[tag].default, [*one.model_fields]) for one in choices for tag in _tags(one)
    ]
    return path, valid, others


def _tags(model: type[BaseModel]) -> list[str]:
    return [tag for tag in TAGS if tag in model.model_fields]


def _choice(annotation: Any, tag: str) -> type[BaseModel] | None:
    for candidate in models_in(annotation):
        tags = [candidate.model_fields[tag].default for tag in _tags(candidate)]
        if tag in tags or candidate.__name__ == tag:
            return candidate
    return None


def _kind(value: Any) -> str:
    names = {dict: "a mapping", list: "a list", str: "text", bool: "true/false", type(None): "nothing"}
    return names.get(type(value), f"a {type(value).__name__}")
