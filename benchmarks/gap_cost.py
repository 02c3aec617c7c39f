"""What measuring costs: time and memory of the gap suite, and of retrieval, against the number of pairs.

    python benchmarks/gap_cost.py [--json] [--small] [--write FOLDER]

The gap suite (d = 512) and retrieval (one caption an image, d = 16) from 10^3 to 10^6 pairs, the last about
half an hour; `--small` stops at 10^5 pairs of d = 128 and 10^4. Time is the processor time of one
thread, which other work on the machine moves little. Input rows repeat a block of 8,192, so that they take no
memory and the peak is the measuring's own. An exponent is the slope of log time against log pairs over all
sizes of a curve. `--write` leaves cost.md and cost.svg in a folder.
"""

from __future__ import annotations

import math
import os
from pathlib import Path
from time import process_time
from typing import Any

import numpy as np
from harness import answer, arguments, child, peak_mb, report, timed

FULL = {"gap": (512, [10**3, 10**4, 10**5, 10**6]), "retrieval": (16, [10**3, 10**4, 10**5, 10**6])}
SMALL = {"gap": (128, [10**3, 10**4, 10**5]), "retrieval": (16, [10**3, 10**4])}
BLOCK = 8192


class Repeated:
    """N unit rows (N, D) that repeat a block: what `measure_geometry` and `ranks` ask of an array, and no
    memory."""

    ndim = 2

    def __init__(self, count: int, dim: int, seed: int) -> None:
        block = np.random.default_rng(seed).standard_normal((BLOCK, dim), dtype=np.float32)
        self.block = block / np.linalg.norm(block, axis=1, keepdims=True)
        self.shape = (count, dim)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: slice | np.ndarray) -> np.ndarray:
        rows = np.arange(*key.indices(len(self))) if isinstance(key, slice) else key
        return self.block[rows % BLOCK]

    def __array__(self, dtype: type | None = None, copy: bool | None = None) -> np.ndarray:
        return self[:].astype(dtype or np.float32)


def gap(size: dict) -> dict:
    from gaprun.evaluation.geometry import measure_geometry
    from gaprun.evaluation.moments import pair_moments

    images, texts = (Repeated(size["pairs"], size["dim"], seed) for seed in (0, 1))
    before = peak_mb()
    result: dict[str, Any] = {}
    with timed(result, clock=process_time):
        measure_geometry(images, texts)  # type: ignore[arg-type]
    with timed(result, "moments", process_time):
        pair_moments(images, texts)  # type: ignore[arg-type]
    return result | {"before_mb": before}


def retrieval(size: dict) -> dict:
    from gaprun.evaluation.retrieval import ranks

    images, texts = (Repeated(size["pairs"], size["dim"], seed) for seed in (0, 1))
    before = peak_mb()
    result: dict[str, Any] = {}
    with timed(result, clock=process_time):
        ranks(images, texts, np.arange(size["pairs"]))  # type: ignore[arg-type]
    return result | {"before_mb": before}


def exponent(rows: list[dict], key: str = "seconds") -> float:
    """Slope of log time against log pairs over all sizes of a curve."""
    x, y = ([math.log(row[name]) for row in rows] for name in ("pairs", key))
    return float(np.polyfit(x, y, 1)[0])


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--write", type=Path, help="folder for cost.md and cost.svg")
    options = parser.parse_args()
    os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}  # for the children
    if options.child:
        contender = {"gap": gap, "retrieval": retrieval}[options.child]
        contender({"pairs": 64, "dim": 8})  # loads libraries, untimed
        answer(lambda: contender(options.size))
        return
    curves: dict[str, list[dict]] = {}
    for name, (dim, sizes) in (SMALL if options.small else FULL).items():
        curves[name] = [
            {"pairs": pairs, "dim": dim, **child(__file__, name, {"pairs": pairs, "dim": dim})}
            for pairs in sizes
        ]
    result = {
        "exponent_time": exponent(curves["gap"]),
        "exponent_time_moments": exponent(curves["gap"], "moments"),
        "peak_mb": {str(row["pairs"]): row["peak_mb"] for row in curves["gap"]},
        "exponent_time_retrieval": exponent(curves["retrieval"]),
        "peak_mb_retrieval": {str(row["pairs"]): row["peak_mb"] for row in curves["retrieval"]},
    }
    lines = table(curves, result)
    if options.write:
        from cost_plot import plot

        options.write.mkdir(parents=True, exist_ok=True)
        (options.write / "cost.svg").write_text(plot(curves))
        (options.write / "cost.md").write_text(page(lines))
    report(lines, result, options.json)


def table(curves: dict[str, list[dict]], result: dict) -> list[str]:
    """The curves as a markdown table, with the fitted exponents."""
    titles = {"gap": "gap suite", "retrieval": "retrieval, both directions"}
    lines = [
        "| measure | d | pairs | processor time (s) | peak memory (MiB) | of which before measuring |",
        "|---|---|---|---|---|---|",
    ]
    for name, rows in curves.items():
        lines += [
            f"| {titles[name]} | {row['dim']} | {row['pairs']:,} | {row['seconds']:.2f} | {row['peak_mb']:.0f} "
            f"| {row['before_mb']:.0f} |"
            for row in rows
        ]
    lines.append("")
    lines.append(
        f"Fitted exponent of time in pairs: gap suite {result['exponent_time']:.2f} (its pass over all pairs "
    )
    lines[-1] += f"{result['exponent_time_moments']:.2f}), "
    lines[-1] += f"retrieval {result['exponent_time_retrieval']:.2f}."
    return lines


def page(lines: list[str]) -> str:
    """docs/cost.md."""
    return "\n".join(
        [
            "# What measuring costs",
            "",
            "Written by `python benchmarks/gap_cost.py --write docs`. Times are the processor time of one thread.",
            "",
            *lines,
            "",
            "![Time against pairs](cost.svg)",
            "",
            "The gap suite takes means and covariances in one float64 pass, which is linear in the number of pairs;",
            "uniformity, mismatched_share and separability compare rows and stop growing at 10,000 pairs, past which",
            "they use a seeded subsample. Retrieval compares every caption with every image, so its time is quadratic;",
            "its memory is bounded by `memory_mb` and does not grow with the gallery beyond the two result arrays.",
            "",
        ]
    )


if __name__ == "__main__":
    main()
