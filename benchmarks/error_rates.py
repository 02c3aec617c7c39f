"""Error rates, coverage and power of the tests that `compare` makes of a family of recipes, by simulation.

Recipes and seeds have effects, the rest is normal. `family` is the corrected p-value of `compare --family metric`,
`Holm` that of the recipes' own paired tests alone. For each spread: how often a family without any difference has one
below 5 %, how often the 95 % interval of a difference holds it, and how often a difference of 4 (at three seeds) or 3
(at five) standard deviations of one run is found.

`--part uneven` asks the same where recipes have other numbers of seeds than the baseline, or others.

`--part queries` asks the same of the tests over queries (`compare --queries`): captions of an image share its
difficulty and each model's luck with it; in families without any difference, and in those where the first recipe
answers 10 points more right.

    python benchmarks/error_rates.py [--part seeds|uneven|queries] [--json] [--small] [--recipes 6] [--draws 4000]
"""

from __future__ import annotations

import argparse
import json

import numpy as np
from scipy.special import ndtri

from gaprun.comparison.dunnett import family_p
from gaprun.comparison.perquery import compare_queries
from gaprun.comparison.statistics import difference, holm, paired_t


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


UNEVEN = {  # seeds of the baseline, then of each recipe
    "one recipe has 2 of 5": [range(5)] * 5 + [range(2)],
    "half the recipes have 3 of 5": [range(5)] * 4 + [range(3)] * 3,
    "half the recipes have 3 others": [range(5)] * 4 + [range(5, 8)] * 3,
    "recipes have 2 of 5": [range(5)] + [range(2)] * 5,
    "baseline has 2 others": [range(5, 7)] + [range(5)] * 5,
}


def simulate_uneven(seeds: list[range], spread: np.ndarray, draws: int) -> dict[str, float]:
    """The same where not all have the same seeds; the first recipe's difference is 3."""
    random = np.random.default_rng([len(seeds), draws])
    wrong = wrong_holm = found = found_holm = covered = held = 0
    for _ in range(draws):
        shared = random.standard_normal(10)
        drawn = [
            {seed: sd * random.standard_normal() + shared[seed] for seed in own}
            for own, sd in zip(seeds, spread, strict=True)
        ]
        for effect in (0.0, 3.0):
            values = {
                n: {s: v + effect * (n == 1) for s, v in own.items()} for n, own in enumerate(drawn) if n
            }
            base = {seed: [value] for seed, value in drawn[0].items()}
            tests = {n: difference({s: [v] for s, v in own.items()}, base) for n, own in values.items()}
            p = {n: float(one.p_value or 0) for n, one in tests.items()}
            family = family_p(p, values, drawn[0])
            alone = dict(zip(p, holm(list(p.values())), strict=True))
            if effect:
                found += family[1] < 0.05
                found_holm += float(alone[1] or 0) < 0.05
                continue
            wrong += min(family.values()) < 0.05
            wrong_holm += min(float(q or 0) for q in alone.values()) < 0.05
            covered += len(p)
            held += sum(one.ci95[0] <= 0 <= one.ci95[1] for one in tests.values() if one.ci95)
    counts = {"error": wrong, "error_holm": wrong_holm, "power": found, "power_holm": found_holm}
    return {name: round(count / draws, 4) for name, count in counts.items()} | {
        "coverage": round(held / covered, 4)
    }


def captions(kind: str, images: int, random: np.random.Generator) -> np.ndarray:
    """(images,) how many captions each has."""
    if kind == "1 to 10":
        return random.integers(1, 11, images)
    if kind == "5, few with 45":
        return np.where(random.random(images) < 0.05, 45, 5)
    return np.full(images, int(kind))


def simulate_queries(
    kind: str, images: int, seeds: int, right: float, recipes: int, draws: int
) -> dict[str, float]:
    """Shares of `draws` families; `right`: the share of queries that the baseline answers."""
    random = np.random.default_rng([images, seeds, draws])
    wrong = found = covered = 0
    better = ndtri(right + 0.1) - ndtri(right)
    for _ in range(draws):
        sizes = captions(kind, images, random)
        owner = np.repeat(np.arange(images), sizes)
        image = random.standard_normal(images)
        runs = [
            [
                (0.7 * image + 0.5 * own + 0.2 * random.standard_normal(images))[owner]
                + np.sqrt(0.22) * random.standard_normal(len(owner))
                for _ in range(seeds)
            ]
            for own in random.standard_normal((recipes + 1, images))
        ]
        answers = [[run < ndtri(right) for run in recipe] for recipe in runs]
        tests = [compare_queries(one, answers[0], owner) for one in answers[1:]]
        p = [float(test.p_value or 0) for test in tests]
        wrong += min(float(q or 0) for q in holm(p)) < 0.05
        covered += sum(test.ci95[0] <= 0 <= test.ci95[1] for test in tests if test.ci95)
        first = compare_queries([run < ndtri(right) + better for run in runs[1]], answers[0], owner)
        found += float(holm([first.p_value, *p[1:]])[0] or 0) < 0.05
    shares = {"error": wrong, "coverage": covered / recipes, "power": found}
    return {name: round(count / draws, 4) for name, count in shares.items()}


def print_queries(recipes: int, draws: int) -> dict[str, dict[str, float]]:
    """Print a Markdown table and return its numbers."""
    print("| captions an image | images | seeds | right | family errs | intervals hold | 10 points found |")
    print("|---|---|---|---|---|---|---|")
    answer = {}
    for kind in ("1", "5", "1 to 10", "5, few with 45"):
        for images, seeds, right in ((40, 1, 0.5), (200, 1, 0.1), (200, 3, 0.5)):
            shares = simulate_queries(kind, images, seeds, right, recipes, draws)
            answer[f"{kind}, {images}, {seeds}, {right:g}"] = shares
            cells = " | ".join(f"{100 * shares[key]:.1f} %" for key in ("error", "coverage", "power"))
            print(f"| {kind} | {images} | {seeds} | {100 * right:.0f} % | {cells} |", flush=True)
    return answer


def print_seeds(recipes: int, draws: int) -> dict[str, dict[str, float]]:
    """Print a Markdown table, a spread and a number of seeds a row, and return its numbers."""
    print("| spread | seeds | family errs | Holm errs | intervals hold | family finds | Holm finds |")
    print("|---|---|---|---|---|---|---|")
    answer = {}
    for name, spread in spreads(recipes).items():
        for seeds, effect in ((3, 4.0), (5, 3.0)):
            shares = simulate(spread, seeds, effect, draws)
            answer[f"{name}, {seeds}"] = shares
            cells = (shares[key] for key in ("error", "error_holm", "coverage", "power", "power_holm"))
            print(
                f"| {name} | {seeds} | " + " | ".join(f"{100 * cell:.1f} %" for cell in cells) + " |",
                flush=True,
            )
    return answer


def print_uneven(recipes: int, draws: int) -> dict[str, dict[str, float]]:
    """Print a Markdown table and return its numbers; how many recipes there are is the case's own."""
    print("| seeds | spread | family errs | Holm errs | intervals hold | family finds | Holm finds |")
    print("|---|---|---|---|---|---|---|")
    answer = {}
    for name, seeds in UNEVEN.items():
        last, base = np.ones(len(seeds)), np.ones(len(seeds))
        last[-(len(seeds) // 2) :], base[0] = 4, 3
        for words, spread in (
            ("all alike", np.ones(len(seeds))),
            ("last half four times", last),
            ("baseline three times", base),
        ):
            shares = simulate_uneven(seeds, spread, draws)
            answer[f"{name}, {words}"] = shares
            cells = (shares[key] for key in ("error", "error_holm", "coverage", "power", "power_holm"))
            print(
                f"| {name} | {words} | " + " | ".join(f"{100 * one:.1f} %" for one in cells) + " |",
                flush=True,
            )
    return answer


PARTS = {"seeds": print_seeds, "uneven": print_uneven, "queries": print_queries}


def main() -> None:
    """Print what was asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="end with one JSON object on one line")
    parser.add_argument("--small", action="store_true", help="few draws, within 40 s")
    parser.add_argument("--part", choices=PARTS, default="seeds", help="which tests")
    parser.add_argument("--recipes", type=int, default=6, help="recipes beside the baseline")
    parser.add_argument("--draws", type=int, help="families per row; default 4000, with --small 100")
    options = parser.parse_args()
    answer = PARTS[options.part](options.recipes, options.draws or (100 if options.small else 4000))
    if options.json:
        print(json.dumps(answer))


if __name__ == "__main__":
    main()
