"""The house: no circle of files, and no class name twice. The layers are import-linter's (pyproject.toml)."""

from __future__ import annotations

import ast
from collections import defaultdict
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import gaprun

PACKAGE = Path(gaprun.__file__).parent
TREES = {path: ast.parse(path.read_text(encoding="utf-8")) for path in sorted(PACKAGE.rglob("*.py"))}


def module_of(path: Path) -> str:
    """`gaprun.store.engine` for its file, `gaprun.store` for the package's `__init__`."""
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(path) for path in TREES}


def imports_of(tree: ast.AST) -> set[str]:
    """The package's modules that a file names in any import, also within functions and for types alone."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports here are absolute"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                found.add(inner if inner in MODULES else str(node.module))
    return found & MODULES


def circle_in(graph: dict[str, set[str]]) -> list[str] | None:
    """One circle of `graph`, its first name repeated at its end, or None."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return None


def test_no_circle_of_files() -> None:
    circle = circle_in(
        {module_of(path): imports_of(tree) - {module_of(path)} for path, tree in TREES.items()}
    )
    assert circle is None, " <- ".join(circle)


def test_a_circle_would_be_found() -> None:
    tree = ast.parse("def f():\n    from gaprun.store import engine\n    import gaprun.errors")
    assert imports_of(tree) == {"gaprun.store.engine", "gaprun.errors"}
    assert circle_in({"a": {"b"}, "b": {"c"}, "c": {"a"}}) is not None
    assert circle_in({"a": {"b", "c"}, "b": {"c"}}) is None


def test_no_class_name_twice() -> None:
    places = defaultdict(list)
    for path, tree in TREES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                places[node.name].append(module_of(path))
    assert {name: found for name, found in places.items() if len(found) > 1} == {}


def test_no_name_of_a_test_file_stands_twice() -> None:
    """pytest imports files of folders without `__init__.py` by their names alone, and leaves the second one out."""
    tests = Path(__file__).parent
    alone = [p for p in tests.rglob("test_*.py") if not (p.parent / "__init__.py").exists()]
    twice = sorted(str(p.relative_to(tests)) for p in alone if [q.name for q in alone].count(p.name) > 1)
    assert not twice
