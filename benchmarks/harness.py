"""What the benchmarks share: one measured run in a process of its own, its time and peak memory, and the
output.

A benchmark script calls itself with `--child NAME`; the child measures, prints one JSON line and ends, so
that neither imports nor leftovers of one contender weigh on another. Contenders take turns, round after
round, because a machine's speed drifts; the best round of each counts.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def arguments(description: str | None) -> argparse.ArgumentParser:
    """The options that every benchmark has."""
    parser = argparse.ArgumentParser(description=(description or "").split("\n\n")[0])
    parser.add_argument("--json", action="store_true", help="end with one JSON object on one line")
    parser.add_argument("--small", action="store_true", help="a size that ends within 40 s on two cores")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--size", type=json.loads, default={}, help=argparse.SUPPRESS)
    return parser


def peak_mb() -> float:
    """This process's peak resident memory in MiB. From /proc where it exists: getrusage would count what
    the parent held before this program replaced it."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 1024
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 1024


@contextmanager
def timed(
    result: dict[str, Any], key: str = "seconds", clock: Callable[[], float] = time.perf_counter
) -> Iterator[None]:
    """Put the wall seconds of the block (or those of another `clock`) into result[key]."""
    start = clock()
    yield
    result[key] = clock() - start


def child(script: str, name: str, size: dict[str, Any]) -> dict[str, Any]:
    """Run contender `name` of `script` in a new process and return what it printed as its last line."""
    command = [sys.executable, script, "--child", name, "--size", json.dumps(size)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{name} failed:\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def rounds(script: str, names: list[str], size: dict[str, Any], count: int) -> dict[str, dict[str, Any]]:
    """`count` rounds in alternation; per contender its fastest run, with the lowest peak memory of all
    runs."""
    best: dict[str, dict[str, Any]] = {}
    for number in range(count):
        for name in names:
            print(f"round {number + 1} of {count}: {name}", file=sys.stderr, flush=True)
            run = child(script, name, size)
            if name in best:
                run["peak_mb"] = min(run["peak_mb"], best[name]["peak_mb"])
                run = min(run, {**best[name], "peak_mb": run["peak_mb"]}, key=lambda one: one["seconds"])
            best[name] = run
    return best


def answer(contender: Callable[[], dict[str, Any]]) -> None:
    """In a child: run, add the peak memory, print."""
    result = contender()
    result["peak_mb"] = peak_mb()
    print(json.dumps(result))


def report(lines: list[str], result: dict[str, Any], as_json: bool) -> None:
    """The table for people, then, where asked for, the JSON line for machines."""
    print("\n".join(lines))
    if as_json:
        print(json.dumps(result))
