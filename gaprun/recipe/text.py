"""A recipe's text as values: YAML, safely, of a bounded size, and numbers as people write them."""

from __future__ import annotations

import re
from typing import Any

import yaml

from gaprun.errors import UserError

MAX_NODES = 200_000  # values of one file with its aliases written out; a sweep of 10,000 jobs needs fewer
MAX_DEPTH = 50
WAYS_OUT = {  # by what PyYAML says
    "'\\t'": "indent with spaces, not tabs",
    "mapping values are not allowed": "does the line above lack its colon, or begin further left?",
    "could not find expected ':'": "each key needs a colon and a space behind it",
    "found another document": "a recipe is one document: leave out ---",
    "unexpected end of stream": "a quote or bracket is not closed",
}


class _Loader(yaml.SafeLoader):
    """Safe YAML in which numbers are what they look like and a repeated key is an error.

    YAML 1.1 reads 1e-3 as text, 1:30 as 90 and 017 as 15; here they are 0.001 and texts.
    """


_INT, _FLOAT, _MERGE = (f"tag:yaml.org,2002:{name}" for name in ("int", "float", "merge"))
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in found if tag not in (_INT, _FLOAT)]
    for first, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    _INT, re.compile(r"^[-+]?(?:0|[1-9][\d_]*|0x[\da-fA-F_]+|0b[01_]+)$"), list("-+0123456789")
)
_Loader.add_implicit_resolver(
    _FLOAT,
    re.compile(
        r"^(?:[-+]?(?:\d[\d_]*\.[\d_]*(?:[eE][-+]?\d+)?|\.\d[\d_]*(?:[eE][-+]?\d+)?|\d[\d_]*[eE][-+]?\d+"
        r"|\.(?:inf|Inf|INF))|\.(?:nan|NaN|NAN))$"
    ),
    list("-+0123456789."),
)


def _unique_mapping(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    seen: set[Any] = set()
    for key_node, _ in node.value:
        key = "<<" if key_node.tag == _MERGE else loader.construct_object(key_node, deep=True)
        if key in seen:
            raise yaml.constructor.ConstructorError(
                None, None, f"key {key!r} appears twice", key_node.start_mark
            )
        seen.add(key)
    return loader.construct_mapping(node, deep=True)


_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _unique_mapping)


def parse_yaml(text: str, source: str) -> Any:
    """Parse YAML safely; `source` names it in errors. Raises UserError with the line at fault."""
    try:
        loader = _Loader(text)
    except yaml.YAMLError as error:  # a character that YAML does not have
        raise UserError(f"{source}: not valid YAML: {str(error).splitlines()[0]}") from None
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        if (size := _size(node, {}, ())) > MAX_NODES:
            raise UserError(
                f"{source}: holds {size:,} values with its aliases written out, more than {MAX_NODES:,}"
            )
        return loader.construct_document(node)
    except RecursionError:
        raise UserError(f"{source}: nested deeper than {MAX_DEPTH} levels") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        way_out = next((f" ({told})" for said, told in WAYS_OUT.items() if said in problem), "")
        raise UserError(f"{source}{where}: not valid YAML: {problem}{way_out}") from None
    except (TypeError, ValueError) as error:
        raise UserError(f"{source}: not valid YAML: {error}") from None
    finally:
        loader.dispose()


def _size(node: yaml.Node, known: dict[int, int], above: tuple[int, ...]) -> int:
    """Values in `node` with every alias written out. Raises RecursionError for deep nesting and an alias of itself."""
    if id(node) in above or len(above) > MAX_DEPTH:
        raise RecursionError
    if id(node) not in known:
        inside = [*above, id(node)]
        parts: list[yaml.Node] = []
        if isinstance(node, yaml.SequenceNode):
            parts = node.value
        elif isinstance(node, yaml.MappingNode):
            parts = [part for pair in node.value for part in pair]
        known[id(node)] = 1 + sum(_size(part, known, tuple(inside)) for part in parts)
    return known[id(node)]
