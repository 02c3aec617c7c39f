"""How a run is shown, with its metrics and curves, and as plain data; lists of them are in `runlist`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from rich.text import Text

from gaprun.comparison.health import CLEAR, FLAGGED, NOT_RECORDED, SIGNS, Finding
from gaprun.comparison.sparkline import chart, resample
from gaprun.evaluation.catalogue import in_order, metric, value_text
from gaprun.metrics import NONE, UP
from gaprun.tables import Cell, Heading, Style, Table
from gaprun.tables.numbers import bracketed, counted, fixed, significant

if TYPE_CHECKING:
    from gaprun.comparison.subsets import Subset
    from gaprun.store.models import Run

STYLES: dict[str, Style] = {"finished": "good", "running": "strong", "failed": "bad", "interrupted": "warn"}
CURVES = ("gap", "temperature", "loss")
WIDTH, HEIGHT = 60, 3


def summary(run: Run) -> dict[str, Any]:
    """What `runs list --json` prints of a run: id, recipe, seed, status, started, finished, progress, tags and note."""
    return {
        "id": run.id,
        "recipe": run.recipe,
        "seed": run.seed,
        "status": run.status,
        "started": _iso(run.started),
        "finished": _iso(run.finished),
        "kind": run.kind,
        "step": run.step,
        "total_steps": run.total_steps,
        "error": run.error,
        "tags": run.tag,
        "note": run.note,
    }


def detail(
    run: Run,
    metrics: Sequence[dict[str, Any]],
    health: Sequence[Finding] = (),
    subsets: Sequence[Subset] = (),
    along: Sequence[dict[str, Any]] = (),
) -> dict[str, Any]:
    """What `runs show --json` prints: summary, metrics, checkpoint, resolved recipe, environment, health, and
    what was measured along training."""
    return (
        summary(run)
        | {
            "metrics": list(metrics),
            "checkpoint": run.checkpoint,
            "checkpoint_hash": run.checkpoint_hash,
            "resolved_recipe": run.resolved_recipe,
            "recipe_hash": run.recipe_hash,
            "environment": run.environment,
            "code_version": run.code_version,
            "folder": run.folder,
            "host": run.host,
            "pid": run.pid,
            "created": _iso(run.created),
            "heartbeat": _iso(run.heartbeat),
            "notes": run.notes,
            "health": [asdict(finding) for finding in health],
            "along": list(along),
        }
        | ({"subsets": [asdict(subset) for subset in subsets]} if subsets else {})
    )


def facts_table(run: Run) -> Table:
    """What is known of one run, a fact a row."""
    rows = [(Cell((name,), "strong"), cell) for name, cell in _facts(run)]
    return Table.of("run", ("", Heading("", wrap=True)), rows, [summary(run)])


def curves(trajectory: Sequence[dict[str, Any]]) -> list[Text]:
    """The curves of training that were recorded, for the terminal."""
    return [curve for name in CURVES if (curve := curve_text(trajectory, name)) is not None]


def curve_text(trajectory: Sequence[dict[str, Any]], name: str) -> Text | None:
    """One column of the trajectory as a chart over training steps; None where nothing was recorded."""
    points = [(row["step"], row[name]) for row in trajectory if row.get(name) is not None]
    if not points:
        return None
    steps, values = [p[0] for p in points], [p[1] for p in points]
    lines = chart(resample(steps, values, min(WIDTH, max(len(points), 8))), HEIGHT)
    extremes = f"(min {significant(min(values))}, max {significant(max(values))})"
    head = f"{name}  {significant(values[0])} → {significant(values[-1])}  {extremes}"
    text = Text(head + "\n", style="bold")
    text.append("\n".join(lines), style="not bold cyan")
    text.append(f"\nstep {steps[0]} … {steps[-1]}", style="not bold dim")
    return text


def health_table(findings: Sequence[Finding]) -> Table:
    """The failure signatures, one a row, those found first."""
    styles: dict[str, Style] = {FLAGGED: "warn", CLEAR: "good", NOT_RECORDED: "faint"}
    rows = [
        (Cell((finding.status,), styles[finding.status]), f"{SIGNS[finding.sign]}: {finding.text}")
        for finding in sorted(findings, key=lambda f: list(styles).index(f.status))
    ]
    heads = ("status", Heading("signature and numbers", wrap=True))
    records = [asdict(finding) for finding in findings]
    return Table.of("health", heads, rows, records, "health (rules: docs/health.md)")


def subsets_table(subsets: Sequence[Subset]) -> Table:
    """Alignment by data set, caption length and class, with 95 % intervals over pairs."""
    right = Heading("pairs", right=True), Heading("alignment", right=True)
    heads = ("measured on", "by", "group", *right, "95 % interval")
    places = metric("alignment").places
    rows = [
        (s.place, s.by, s.group, str(s.n), fixed(s.alignment, places), bracketed(s.ci95, places) or "-")
        for s in subsets
    ]
    return Table.of("subsets", heads, rows, [asdict(subset) for subset in subsets])


def along_training(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """What was measured at several steps, from a run's rows of every step: metric, place, `steps` and `values`.

    A split that was written anew in between is another place: its values are not of the same data.
    """
    names = ("metric", "dataset", "split", "protocol", "data_fingerprint")
    paths: dict[tuple[str, ...], list[tuple[int, float | None]]] = {}
    for row in sorted(rows, key=lambda row: row["step"]):
        key = tuple(row[name] or "" for name in names)
        paths.setdefault(key, []).append((row["step"], row["value"]))
    place = {name: index for index, name in enumerate(in_order({key[0] for key in paths}))}
    return [
        dict(zip(names, key, strict=True))
        | {"steps": [step for step, _ in path], "values": [value for _, value in path]}
        for key, path in sorted(paths.items(), key=lambda item: (item[0][1:], place[item[0][0]]))
        if len(path) > 1
    ]


def along_table(along: Sequence[dict[str, Any]]) -> Table:
    """Of each metric measured along training its first, best and last value and its curve; a split's content beside its
    name where more than one was measured."""
    rows = []
    contents = {(one["dataset"], one["split"], one["data_fingerprint"]) for one in along}
    for one in along:
        data = f"{one['dataset']}/{one['split']}"
        if sum(content[:2] == (one["dataset"], one["split"]) for content in contents) > 1:
            data += f" ({one['data_fingerprint'][:8]})"
        found = [(s, v) for s, v in zip(one["steps"], one["values"], strict=True) if v is not None]
        if not found:
            continue
        name, about = one["metric"], metric(one["metric"])
        best = "-"
        if about.direction != NONE:
            sign = 1 if about.direction == UP else -1
            step, value = min(found, key=lambda point: (-sign * point[1], point[0]))
            best = f"{value_text(name, value)} at {step}"
        steps, values = [step for step, _ in found], [value for _, value in found]
        (curve,) = chart(resample(steps, values, min(20, len(found))), 1)
        ends = (value_text(name, one["values"][0]), best, value_text(name, one["values"][-1]))
        rows.append((data, one["protocol"], name, *ends, curve))
    right = (Heading(head, right=True) for head in ("first", "best", "last"))
    title = (
        f"along training (steps {', '.join(map(str, sorted({s for one in along for s in one['steps']})))})"
    )
    return Table.of("along", ("data", "protocol", "metric", *right, "curve"), rows, list(along), title)


def metric_tables(metrics: Sequence[dict[str, Any]]) -> list[Table]:
    """The metrics by evaluation: data, protocol, size, step, checkpoint and fingerprint above, then the values."""
    order = {name: place for place, name in enumerate(in_order({row["metric"] for row in metrics}))}
    parts: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for row in sorted(metrics, key=lambda row: (_place(row), order[row["metric"]])):
        parts.setdefault(_place(row), []).append(row)
    found = []
    for rows in parts.values():
        first = rows[0]
        size = "number of items unknown" if first["n"] is None else counted(first["n"], "item")
        data = f", data {first['data_fingerprint'][:8]}" if first["data_fingerprint"] else ""
        origin = f"checkpoint {first['checkpoint_hash'][:8]}{data}"
        where = f"{first['dataset']}/{first['split']}, protocol {first['protocol']}"
        values = [(row["metric"], value_text(row["metric"], row["value"])) for row in rows]
        title = f"{where} ({size}, step {first['step']}, {origin})"
        heads = ("metric", Heading("value", right=True))
        found.append(Table.of(f"metrics {where}", heads, values, rows, title))
    return found


def metrics_table(metrics: Sequence[dict[str, Any]]) -> Table:
    """All of them in one table, a row a value: what CSV prints of a run."""
    return Table("metrics", (), (), tuple(metrics))


def _place(row: dict[str, Any]) -> tuple[Any, ...]:
    origin = (row["step"], row["checkpoint_hash"], row["data_fingerprint"], row["n"] or 0)
    return (row["dataset"], row["split"], row["protocol"], *origin)


def _facts(run: Run) -> list[tuple[str, Cell]]:
    facts = [
        ("run", run.id),
        ("recipe", f"{run.recipe} ({run.recipe_hash[:8]})"),
        ("seed", "-" if run.seed is None else str(run.seed)),
        ("status", run.status),
        *([("error", run.error)] if run.error else []),
        *([("tags", ", ".join(run.tag))] if run.tags else []),
        *([("note", run.note)] if run.note else []),
        ("progress", progress(run)),
        ("started", f"{minute(run.started)} on {run.host or '-'}"),
        ("took", took(run)),
        ("code", run.code_version),
        ("folder", run.folder),
        ("checkpoint", f"{run.checkpoint} ({(run.checkpoint_hash or '?')[:8]})" if run.checkpoint else "-"),
        *((name.replace("_", " "), str(_note(value))) for name, value in (run.notes or {}).items()),
    ]
    return [(name, Cell((text,), STYLES.get(text, "") if name == "status" else "")) for name, text in facts]


def _note(value: Any) -> Any:
    """A verdict such as the gap's law as one sentence, the last pace in words, other notes as they are."""
    if isinstance(value, dict) and "steps_per_second" in value:
        if value["steps_per_second"] is None:
            return "-"
        speed = f"{significant(value['steps_per_second'], 3)} steps a second"
        return (
            f"{speed}, {100 * value['waiting']:.0f} % of the time waiting for data (at step {value['step']})"
        )
    if isinstance(value, dict) and {"law", "reason"} <= set(value):
        return f"{value['law']}: {value['reason']}"
    return value


def progress(run: Run) -> str:
    """`600/6000`, in steps."""
    return f"{run.step}/{run.total_steps}" if run.total_steps else str(run.step)


def _iso(moment: datetime | None) -> str | None:
    return moment.isoformat(timespec="seconds") if moment else None


def minute(moment: datetime | None) -> str:
    """A moment to the minute, in local time."""
    return moment.astimezone().strftime("%Y-%m-%d %H:%M") if moment else "-"


def duration(run: Run) -> timedelta | None:
    """From its start to its end or last heartbeat; None where it has none, or (clocks that differ) ends before."""
    end = run.finished or run.heartbeat
    return end - run.started if run.started and end and end >= run.started else None


def took(run: Run) -> str:
    """`1:02:03`: its duration."""
    if (found := duration(run)) is None:
        return "-"
    minutes, seconds = divmod(int(found.total_seconds()), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}"
