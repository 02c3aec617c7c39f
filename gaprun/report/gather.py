"""What a report is made of, read from the store once: comparison, recorded paths, study, claims, health."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from gaprun.comparison import select, table
from gaprun.comparison.health import Finding, flagged
from gaprun.comparison.places import place_of, usual_places
from gaprun.comparison.values import Comparison
from gaprun.errors import UserError
from gaprun.paper.claims import Verdict, judge_claims
from gaprun.paper.settings import MethodSetting, SetupResults, load_study, setting_of

if TYPE_CHECKING:
    from gaprun.comparison.margins import Margin
    from gaprun.store import Store

METRICS = (
    "gap",
    "image_recall@1",
    "text_recall@1",
    "image_recall@5",
    "text_recall@5",
    "zeroshot_top1",
    "probe_top1",
    "uniformity_w2_joint",
    "uniformity_joint",
    "alignment",
    "rmg",
    "distribution_gap",
    "separability",
    "mismatched_share",
    "temperature",
)
MOST_PATHS = 1000  # runs whose curves are drawn and judged; whole rows, so that a mean is of all its seeds
ALONG = ("gap", "image_recall@1", "text_recall@1", "zeroshot_top1", "probe_top1")  # drawn along training
Path = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Course:
    """What `eval_every` measured of one metric: where, and (step, value) by run."""

    place: str
    paths: dict[str, list[tuple[int, float]]]


@dataclass
class Material:
    """Everything but pictures. `paths`, `health`, `groups` are by run; `groups` maps a run to its comparison row.
    `measured` is by metric.

    `setups` is by row: equal in rows that differ in temperature rule, swap and loss only (`recipes.setup_of`);
    the comparison's names have its words.
    """

    comparison: Comparison
    groups: dict[str, str]
    seeds: dict[str, int | None]
    rows: list[dict[str, Any]]
    paths: dict[str, Path]
    health: dict[str, list[Finding]]
    settings: dict[str, MethodSetting | None]
    setups: dict[str, str]
    study: SetupResults | None
    measured: dict[str, Course] = field(default_factory=dict)
    recipes: dict[str, dict[str, Any]] = field(default_factory=dict)
    verdicts: list[Verdict] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def labels(self) -> list[str]:
        """The comparison's rows, in its order."""
        return self.comparison.groups

    @property
    def main(self) -> list[str]:
        """The rows of the set-up that claims are judged in; all rows where there is none."""
        if self.study is None:
            return self.labels
        judged = {self.groups[r.run] for r in self.study.results if r.run in self.groups}
        chosen = next((self.setups[label] for label in self.labels if label in judged), None)
        return [label for label in self.labels if self.setups[label] == chosen]

    def runs_of(self, label: str) -> list[str]:
        """The runs behind one row, by seed."""
        runs = [run for run, group in self.groups.items() if group == label]
        return sorted(runs, key=lambda run: (self.seeds[run] is None, self.seeds[run] or 0, run))


def gather(
    store: Store, where: Sequence[str] = (), at: str | None = None, margin: Margin | None = None
) -> Material:
    """The material of a report over the finished runs that meet `where`, with values of the moment `at`, compared with
    `margin`; claims are of the end of training, as their rules are. Raises UserError when there is none, and for a
    margin of another metric.
    """
    notes: list[str] = []
    names = [name for name in METRICS if name in set(store.metric_names())]
    if not names:
        raise UserError(f"nothing to report: {select.held(store)}")
    columns, found_notes = select.load(store, names, "recipe", where, separate=True, setups=True, at=at)
    # A transform of the embeddings is another experiment, for which `gaprun compare` is there.
    columns = columns.kept([not transform for transform in columns["transform"]])
    if not columns:
        raise UserError("nothing to report: only transformed embeddings were measured; see `gaprun compare`")
    comparison = table.build(columns, "recipe", None, names, None, found_notes, margin=margin)
    groups: dict[str, str] = dict(columns.entries("id", "group"))
    seeds: dict[str, int | None] = dict(columns.entries("id", "seed"))
    drawn = whole_rows(groups, MOST_PATHS)
    if len(drawn) < len(groups):
        notes.append(f"Curves and health are of {len(drawn)} of {len(groups)} runs; --where chooses others.")
    recipes = store.resolved_recipes(list(groups))
    try:
        study: SetupResults | None = load_study(store, where, at)
        ends = study if at is None else load_study(store, where)
    except UserError:
        study = ends = None
    return Material(
        comparison=comparison,
        groups=groups,
        seeds=seeds,
        rows=columns.rows(),
        paths={run: path for run, path in store.trajectories(drawn).items() if path},
        health=flagged(store, drawn),
        settings={run: setting_of(recipe) for run, recipe in recipes.items()},
        setups=dict(columns.distinct("group", "setup")),
        study=study,
        measured=_measured(store.metric_rows(ALONG, select.finished(where), run_ids=drawn, every_step=True)),
        verdicts=judge_claims(store, ends) if ends else [],
        recipes=recipes,
        notes=notes,
    )


def whole_rows(groups: Mapping[str, str], most: int) -> list[str]:
    """The runs of the first rows (by run: its row) that have at most `most` runs together, and at least of one row."""
    members: dict[str, list[str]] = {}
    for run, group in groups.items():
        members.setdefault(group, []).append(run)
    found: list[str] = []
    for runs in members.values():
        if found and len(found) + len(runs) > most:
            break
        found += runs
    return found


def _measured(rows: list[dict[str, Any]]) -> dict[str, Course]:
    """By metric: what was measured at several steps, in one place for all runs."""
    rows = [row for row in rows if not row["transform"]]
    steps: dict[tuple[str, str], set[int]] = {}
    for row in rows:
        steps.setdefault((row["id"], row["metric"]), set()).add(row["step"])
    rows = [row for row in rows if len(steps[row["id"], row["metric"]]) > 1]
    places = usual_places(rows)
    found: dict[str, Course] = {}
    for name in sorted(places, key=ALONG.index):
        dataset, split, protocol, *_ = places[name]
        own = [
            r for r in rows if r["metric"] == name and r["value"] is not None and place_of(r) == places[name]
        ]
        paths: dict[str, list[tuple[int, float]]] = {}
        for row in sorted(own, key=lambda row: row["step"]):
            paths.setdefault(row["id"], []).append((row["step"], row["value"]))
        found[name] = Course(f"{dataset}/{split}, {protocol}", paths)
    return found
