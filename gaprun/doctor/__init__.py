"""Whether gaprun can work here: every check gives findings, each ok, a warning or a failure with what to do."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from gaprun.doctor.result import CheckResult


def examine(db: str | None) -> Iterator[CheckResult]:
    """All findings, in the order in which trouble is best solved. A check that breaks is a finding itself."""
    from gaprun.doctor import machine, places, versions

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
    for name, check in checks.items():
        try:
            yield from check()
        except Exception as error:
            yield CheckResult(name, "fail", f"{type(error).__name__}: {error}", "please report this")
