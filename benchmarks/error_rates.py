"""Error rates, coverage and power of the tests that `compare` makes of a family of recipes, by simulation.

Recipes and seeds have effects, the rest is normal. `family` is the corrected p-value of `compare --family metric`,
`Holm` that of the recipes' own paired tests alone. For each spread: how often a family without any difference has one
below 5 %, how often the 95 % interval of a difference holds it, and how often a difference of 4 (at three seeds) or 3
(at five) standard deviations of one run is found.

    python benchmarks/error_rates.py [--json] [--small] [--recipes 6] [--draws 4000]
"""

from __future__ import annotations

import argparse
import json

import numpy as np

from gaprun.comparison.dunnett import family_p
from gaprun.comparison.statistics import holm, paired_t


def spreads(recipes: int) -> dict[str, np.ndarray]:
    """Standard deviations of the baseline's and the recipes' runs."""
    alike = np.ones(recipes + 1)
    one, base, precise = alike.copy(), alike.copy(), alike.copy()
    one[1], base[0], precise[0] = 3, 3, 0.3
    return {
        "all alike": alike,
        "one recipe three times": one,
        "from a half to three times": np.geomspace(0.5, 3, recipes + 1),
        "from three times to a half": np.geomspace(3, 0.5, recipes + 1),
        "baseline three times": base,
        "baseline a third": precise,
    }


def simulate(spread: np.ndarray, seeds: int, effect: float, draws: int) -> dict[str, float]:
    """Shares of `draws` families."""
    random = np.random.default_rng([seeds, draws])
    wrong = wrong_holm = found = found_holm = covered = 0
    for _ in range(draws):
        table = random.standard_normal((len(spread), seeds)) * spread[:, None] + random.standard_normal(seeds)
        wrong_now, wrong_holm_now, covered_now = tests(table)
        wrong += min(wrong_now) < 0.05
        wrong_holm += min(wrong_holm_now) < 0.05
        covered += covered_now
        table[1] += effect
        now, holm_now, _ = tests(table)
        found += now[0] < 0.05
        found_holm += holm_now[0] < 0.05
    counts = {"error": wrong, "error_holm": wrong_holm, "power": found, "power_holm": found_holm}
    shares = {name: round(count / draws, 4) for name, count in counts.items()}
    return shares | {"coverage": round(covered / draws / (len(spread) - 1), 4)}


def tests(table: np.ndarray) -> tuple[list[float], list[float], int]:
    """The family's p-values, Holm's, and how many intervals hold a difference of 0; row 0 is the baseline."""
    seeds = range(table.shape[1])
    own = {index: paired_t(list(row - table[0])) for index, row in enumerate(table) if index}
    p = {index: float(found.p_value or 0) for index, found in own.items()}
    values = {index: dict(zip(seeds, table[index], strict=True)) for index in own}
    together = family_p(p, values, dict(zip(seeds, table[0], strict=True)))
    held = sum(one.ci95[0] <= 0 <= one.ci95[1] for one in own.values() if one.ci95)
    return list(together.values()), [float(q or 0) for q in holm(list(p.values()))], held


def main() -> None:
    """Print a Markdown table, a spread and a number of seeds a row."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="end with one JSON object on one line")
    parser.add_argument("--small", action="store_true", help="few draws, within 40 s")
    parser.add_argument("--recipes", type=int, default=6, help="recipes beside the baseline")
    parser.add_argument("--draws", type=int, help="families per row; default 4000, with --small 100")
    options = parser.parse_args()
    draws = options.draws or (100 if options.small else 4000)
    print("| spread | seeds | family errs | Holm errs | intervals hold | family finds | Holm finds |")
    print("|---|---|---|---|---|---|---|")
    answer = {}
    for name, spread in spreads(options.recipes).items():
        for seeds, effect in ((3, 4.0), (5, 3.0)):
            shares = simulate(spread, seeds, effect, draws)
            answer[f"{name}, {seeds}"] = shares
            cells = (shares[key] for key in ("error", "error_holm", "coverage", "power", "power_holm"))
            print(
                f"| {name} | {seeds} | " + " | ".join(f"{100 * cell:.1f} %" for cell in cells) + " |",
                flush=True,
            )
    if options.json:
        print(json.dumps(answer))


if __name__ == "__main__":
    main()
