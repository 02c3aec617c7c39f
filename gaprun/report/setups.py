"""The set-ups of a database as the report shows them: each one's rows, compared with its own baseline."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from gaprun.comparison import table
from gaprun.comparison.margins import ALIKE, DIFFERENT, OPEN
from gaprun.comparison.places import place_of, usual_places
from gaprun.comparison.recipes import RowName
from gaprun.comparison.shown import SURE
from gaprun.comparison.values import Column, Comparison, Reached
from gaprun.comparison.views import mean_point
from gaprun.paper.settings import METHODS, MethodSetting
from gaprun.report.gather import METRICS, Material
from gaprun.store.columns import ValueColumns

RETRIEVAL = "retrieval"
MEASURES = ("gap", RETRIEVAL, "zeroshot_top1", "probe_top1")
WORDS = {
    "gap": "gap",
    RETRIEVAL: "recall@1",
    "zeroshot_top1": "zero-shot top-1",
    "probe_top1": "linear probe top-1",
    "uniformity_w2_joint": "uniformity (-W2)",
}
SHORT = {"gap": "gap", RETRIEVAL: "recall@1", "zeroshot_top1": "zero-shot", "probe_top1": "probe"}
GIVES = MEASURES[1:]
BOTH = ("image_recall@1", "text_recall@1")
TOLD = {ALIKE: "with no difference so large", DIFFERENT: "different", OPEN: "undecided"}
NOT_DRAWN = ("image_recall@5", "text_recall@5")
Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class SetupRows:
    """One set-up: `labels` are its rows by method and value, the baseline first, without what all of them share.

    comparison: of each metric in one place, `retrieval` being the mean of both recall@1; places: which one; runs: of
    each row, by seed; values: of each run. words: what tells the set-up from others, "" where there is one.
    """

    words: str
    labels: list[str]
    settings: Mapping[str, MethodSetting | None]
    comparison: Comparison
    places: Mapping[str, str]
    runs: Mapping[str, Sequence[str]]
    values: Mapping[str, Mapping[str, float]]

    @property
    def baseline(self) -> str | None:
        """The row that the others are compared with."""
        return next(iter(self.comparison.baselines.values()), None)

    @property
    def methods(self) -> list[str]:
        """The rows but the baseline."""
        return [label for label in self.labels if label != self.baseline]

    @property
    def measures(self) -> list[str]:
        """Those of MEASURES that were measured."""
        return [m for m in MEASURES if any(c.metric == m for c in self.comparison.columns)]

    def short(self, measure: str) -> str:
        """A panel's title; the gap with its split, since that of the training batch is another number."""
        return f"gap ({self.split})" if measure == "gap" and self.split else SHORT[measure]

    @property
    def split(self) -> str:
        """The split whose gap is meant, mostly `test`; "" where none was measured."""
        return self.data("gap").rpartition("/")[2]

    def data(self, measure: str) -> str:
        """The data set and split of a measure; "" where it was not measured."""
        return self.places.get(measure, "").partition(",")[0]

    @property
    def spoken(self) -> Comparison:
        """What sentences are made of: of retrieval recall@1, as in the figures, where it was measured."""
        columns = self.comparison.columns
        if any(c.metric == RETRIEVAL for c in columns):
            columns = [c for c in columns if c.metric not in NOT_DRAWN]
        return replace(self.comparison, columns=columns)

    def verdicts(self) -> str:
        """For each measure with a margin how many rows are shown to stay below it, to differ, neither; "" without."""
        margins = self.comparison.margins
        drawn = {*MEASURES, *(BOTH if RETRIEVAL in margins else ())}
        parts = []
        for measure in [*self.measures, *(metric for metric in margins if metric not in drawn)]:
            cells = [self.cell(label, measure) for label in self.labels]
            counts = Counter(cell.verdict for cell in cells if cell and cell.verdict)
            told = ", ".join(f"{counts[one]} {words}" for one, words in TOLD.items() if counts[one])
            if told:
                parts.append(f"{WORDS.get(measure, measure)} ({margins[measure]:g}): {told}")
        return f"Rows by margin: {'; '.join(parts)}." if parts else ""

    def cell(self, label: str, measure: str) -> Reached | None:
        """What a row reached in a measure."""
        column = self._column(measure)
        return self.comparison.cells.get((label, column)) if column else None

    def point(self, label: str, x: str, y: str) -> tuple[float, float] | None:
        """A row's means of two measures, as correlations take them."""
        one, other = self._column(x), self._column(y)
        return mean_point(self.comparison, label, one, other) if one and other else None

    def _column(self, measure: str) -> Column | None:
        return next((c for c in self.comparison.columns if c.metric == measure), None)


def setups_of(material: Material) -> list[SetupRows]:
    """Every set-up that has a baseline, the one that claims are judged in first, then those with most rows.

    Where no row has a baseline, one without differences over all rows.
    """
    with_baseline: dict[str, list[str]] = {}
    for label in material.labels:
        if label in material.comparison.baselines:
            with_baseline.setdefault(material.setups[label], []).append(label)
    groups = [labels for labels in with_baseline.values() if len(labels) > 1]
    main = set(material.main) if material.study else set()
    groups.sort(key=lambda labels: (not main & set(labels), -len(labels)))
    groups = groups or [material.labels]
    return [_rows_of(material, labels) for labels in groups]


def values_of(material: Material, labels: Iterable[str]) -> tuple[Rows, dict[str, tuple[Any, ...]]]:
    """The rows of these labels' runs, of each metric in the place where most runs were measured, and those places.

    Both recall@1, where they were measured in one place, have their mean beside them as `retrieval`.
    """
    wanted = set(labels)
    rows = [row for row in material.rows if material.groups[row["id"]] in wanted and row["value"] is not None]
    places = usual_places(rows)
    kept = [row for row in rows if place_of(row) == places[row["metric"]]]
    pairs: dict[str, dict[str, dict[str, Any]]] = {}
    for row in kept:
        if row["metric"] in BOTH:
            pairs.setdefault(row["id"], {})[row["metric"]] = row
    first, second = (places.get(name) for name in BOTH)
    if first and first == second:
        places[RETRIEVAL] = first
        for pair in pairs.values():
            if len(pair) == len(BOTH):
                mean = sum(row["value"] for row in pair.values()) / len(BOTH)
                kept.append(pair[BOTH[0]] | {"metric": RETRIEVAL, "value": mean})
    return kept, places


def plain_protocol(protocol: str) -> str:
    """A protocol without what tells columns of several data or options apart."""
    return protocol.partition(", ")[0]


def by_run(rows: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """The values of such rows by run and metric."""
    found: dict[str, dict[str, float]] = {}
    for row in rows:
        found.setdefault(row["id"], {})[row["metric"]] = row["value"]
    return found


def sure(cell: Reached | None) -> bool:
    """Whether a difference is surely one (corrected p below 5 %)."""
    return cell is not None and cell.p_shown is not None and cell.p_shown < SURE


def _rows_of(material: Material, labels: list[str]) -> SetupRows:
    rows, places = values_of(material, labels)
    whole = {label: material.comparison.names[label] for label in labels}
    alone = len({name.setup for name in whole.values()}) == 1  # else rows without a baseline, of any set-up
    names = {label: name.short if alone else label for label, name in whole.items()}
    settings = {names[label]: material.settings.get(material.runs_of(label)[0]) for label in labels}
    renamed = [
        row
        | {"group": (name := names[row["group"]]), "name": RowName(name, name)}
        | {"protocol": plain_protocol(row["protocol"])}  # one place a metric needs no more words
        for row in rows
    ]
    margins = {m: size for m, size in material.comparison.margins.items() if m in places}
    both = {margins.get(name) for name in BOTH}
    if RETRIEVAL in places and len(both) == 1 and (size := both.pop()):
        margins[RETRIEVAL] = size  # of a mean of two, each of which must not differ by so much
    columns = ValueColumns.of_rows(renamed)
    comparison = table.build(columns, "recipe", None, (*METRICS, RETRIEVAL), margin=margins or None)
    baselines = set(comparison.baselines.values())

    def place(label: str) -> tuple[Any, ...]:
        setting = settings[label]
        rank = METHODS.index(setting.method) if setting else 0
        value = (setting.value or 0.0, setting.variant) if setting else (0.0, "")
        return (label not in baselines, setting is None, rank, value, table.natural(label))

    return SetupRows(
        whole[labels[0]].setup if alone else "",
        sorted(names.values(), key=place),
        settings,
        comparison,
        {metric: f"{p[0]}/{p[1]}, {plain_protocol(p[2])}" for metric, p in places.items()},
        {names[label]: material.runs_of(label) for label in labels},
        by_run(rows),
    )
