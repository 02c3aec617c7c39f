"""Python and the installed packages against the bounds that gaprun's own metadata states."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from importlib import metadata

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from gaprun.doctor.result import CheckResult

DEVELOPMENT = "dev"  # the extra for working on gaprun itself; nobody else misses it


def python() -> Iterator[CheckResult]:
    """This interpreter."""
    wanted = metadata.metadata("gaprun")["Requires-Python"] or ">=3.11"
    here = platform.python_version()
    if SpecifierSet(wanted).contains(here, prereleases=True):
        yield CheckResult("python", "ok", f"{here} ({wanted})")
    else:
        yield CheckResult(
            "python", "fail", f"{here} is outside {wanted}", f"make an environment with Python {wanted}"
        )


def packages() -> Iterator[CheckResult]:
    """Every required package; one line when all are well."""
    needed = [item for item in _requirements() if item.marker is None]
    wrong = [finding for item in needed if (finding := _judge(item)) is not None]
    yield from wrong
    if not wrong:
        yield CheckResult("packages", "ok", f"all {len(needed)} are within gaprun's bounds")


def extras() -> Iterator[CheckResult]:
    """The optional extras: what each brings, and what of it is missing or out of bounds."""
    for extra in metadata.metadata("gaprun").get_all("Provides-Extra") or []:
        if extra == DEVELOPMENT:
            continue
        items = [i for i in _requirements() if i.marker is not None and i.marker.evaluate({"extra": extra})]
        names = ", ".join(item.name for item in items)
        missing = [item.name for item in items if _version(item.name) is None]
        if missing:
            yield CheckResult(
                f"extra {extra}",
                "ok",
                f"not installed ({', '.join(missing)})",
                f"if wanted: pip install 'gaprun[{extra}]'",
            )
            continue
        wrong = [finding for item in items if (finding := _judge(item, "warn")) is not None]
        yield from wrong or [CheckResult(f"extra {extra}", "ok", names)]


def _requirements() -> list[Requirement]:
    return [Requirement(text) for text in metadata.requires("gaprun") or []]


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _judge(item: Requirement, state: str = "fail") -> CheckResult | None:
    here = _version(item.name)
    advice = f"pip install '{item.name}{item.specifier}'"
    if here is None:
        return CheckResult(item.name, "fail", "not installed", advice)
    if not item.specifier.contains(here, prereleases=True):
        return CheckResult(
            item.name, "warn" if state == "warn" else "fail", f"{here} is outside {item.specifier}", advice
        )
    return None
