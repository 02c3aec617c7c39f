"""Whether gaprun can work here: every check gives findings, each ok, a warning or a failure with what to do."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from gaprun.doctor.result import CheckResult
from gaprun.errors import UserError


def examine(db: str | None, of_recipe: Path | None = None) -> Iterator[CheckResult]:
    """All findings, in the order in which trouble is best solved, and those of a recipe where one is given.

    A check that breaks is a finding itself.
    """
    from gaprun.doctor import machine, places, recipe, versions

    checks: dict[str, Callable[[], Iterator[CheckResult]]] = {
        "python": versions.python,
        "packages": versions.packages,
        "extras": versions.extras,
        "device": machine.device_and_decoder,
        "shared memory": machine.shared_memory,
        "data": places.data,
        "database": lambda: places.database(db),
        "disk": lambda: places.disk(db),
        "slurm": places.cluster,
    }
    if of_recipe is not None:
        checks["recipe"] = lambda: recipe.needs(of_recipe, db)
    for name, check in checks.items():
        try:
            yield from check()
        except UserError as error:
            yield CheckResult(name, "fail", str(error))
        except Exception as error:
            yield CheckResult(name, "fail", f"{type(error).__name__}: {error}", "please report this")
