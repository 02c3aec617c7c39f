"""How runs are shown: the list as a table, one run with its metrics and curves, and both as plain data."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Any

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from gaprun.comparison.health import CLEAR, FLAGGED, NOT_RECORDED, SIGNS, Finding
from gaprun.comparison.sparkline import chart, resample

if TYPE_CHECKING:
    from gaprun.comparison.subsets import Subset
    from gaprun.store.models import Run

COLOURS = {"finished": "green", "running": "cyan", "queued": "blue", "failed": "red", "interrupted": "yellow"}
CURVES = ("gap", "temperature", "loss")
WIDTH, HEIGHT = 60, 3


def summary(run: Run) -> dict[str, Any]:
    """What `runs list --json` prints of a run: id, recipe, seed, status, started, finished and progress."""
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
    }


def detail(
    run: Run,
    metrics: Sequence[dict[str, Any]],
    health: Sequence[Finding] = (),
    subsets: Sequence[Subset] = (),
) -> dict[str, Any]:
    """What `runs show --json` prints: summary, metrics, checkpoint, resolved recipe, environment and health."""
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
        }
        | ({"subsets": [asdict(subset) for subset in subsets]} if subsets else {})
    )


def list_table(runs: Sequence[Run]) -> Table:
    """A row a run; the recipe stands in a column of its own unless every id begins with it."""
    named = all(run.id.startswith(run.recipe) for run in runs)
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("id", overflow="fold")
    if not named:
        table.add_column("recipe", overflow="fold")
    for name in ("seed", "status", "progress", "started", "took"):
        table.add_column(name, no_wrap=True, justify="left" if name in ("status", "started") else "right")
    for run in runs:
        table.add_row(
            escape(run.id),
            *([] if named else [escape(run.recipe)]),
            "-" if run.seed is None else str(run.seed),
            _status(run.status),
            _progress(run),
            _minute(run.started),
            _took(run),
        )
    return table


def show(
    run: Run,
    metrics: Sequence[dict[str, Any]],
    trajectory: Sequence[dict[str, Any]],
    health: Sequence[Finding] = (),
    subsets: Sequence[Subset] = (),
    recipe: bool = False,
) -> RenderableType:
    """One run for the terminal: facts, curves of training, metrics with their origin, the recipe if asked."""
    facts = Table(box=None, show_header=False, pad_edge=False)
    facts.add_column(style="bold")
    facts.add_column(overflow="fold")
    for name, value in _facts(run):
        facts.add_row(name, value if isinstance(value, Text) else escape(str(value)))
    parts: list[RenderableType] = [facts]
    for name in CURVES:
        if (curve := curve_text(trajectory, name)) is not None:
            parts += ["", curve]
    if health:
        parts.append(health_text(health))
    if subsets:
        parts += ["", subsets_table(subsets)]
    parts.append(metrics_text(metrics) if metrics else Text("\nno metrics: not evaluated yet", style="dim"))
    if recipe:
        import yaml

        parts += ["", Text(yaml.safe_dump(run.resolved_recipe, sort_keys=False).rstrip())]
    return Group(*parts)


def curve_text(trajectory: Sequence[dict[str, Any]], name: str) -> Text | None:
    """One column of the trajectory as a chart over training steps; None where nothing was recorded."""
    points = [(row["step"], row[name]) for row in trajectory if row.get(name) is not None]
    if not points:
        return None
    steps, values = [p[0] for p in points], [p[1] for p in points]
    lines = chart(resample(steps, values, min(WIDTH, max(len(points), 8))), HEIGHT)
    extremes = f"(min {number(min(values))}, max {number(max(values))})"
    head = f"{name}  {number(values[0])} → {number(values[-1])}  {extremes}"
    text = Text(head + "\n", style="bold")
    text.append("\n".join(lines), style="not bold cyan")
    text.append(f"\nstep {steps[0]} … {steps[-1]}", style="not bold dim")
    return text


def health_text(findings: Sequence[Finding]) -> Text:
    """The failure signatures, one a line, those found first."""
    styles = {FLAGGED: "yellow", CLEAR: "green", NOT_RECORDED: "dim"}
    text = Text("\nhealth  (rules: docs/health.md)", style="bold")
    for finding in sorted(findings, key=lambda f: list(styles).index(f.status)):
        text.append(f"\n  {finding.status:13}", style=f"not bold {styles[finding.status]}")
        text.append(f"{SIGNS[finding.sign]}: {finding.text}", style="not bold")
    return text


def subsets_table(subsets: Sequence[Subset]) -> Table:
    """Alignment by data set, caption length and class, with 95 % intervals over pairs."""
    table = Table(box=None, pad_edge=False, header_style="bold", title_justify="left")
    for name in ("measured on", "by", "group", "pairs", "alignment", "95 % interval"):
        table.add_column(name, justify="right" if name in ("pairs", "alignment") else "left")
    for s in subsets:
        interval = f"[{number(s.ci95[0])}, {number(s.ci95[1])}]" if s.ci95 else "-"
        table.add_row(escape(s.place), s.by, escape(s.group), str(s.n), number(s.alignment), interval)
    return table


def metrics_text(metrics: Sequence[dict[str, Any]]) -> Text:
    """The metrics by evaluation: data, protocol, size, step, checkpoint and fingerprint, then values."""
    text = Text()
    head = None
    for row in sorted(metrics, key=_place):
        if _place(row)[:-2] != head:
            head = _place(row)[:-2]
            text.append(f"\n{row['dataset']}/{row['split']}, protocol {row['protocol']}", style="bold")
            size = "?" if row["n"] is None else row["n"]
            origin = f"checkpoint {row['checkpoint_hash'][:8]}, data {row['data_fingerprint'][:8]}"
            text.append(f"  (n {size}, step {row['step']}, {origin})\n", style="dim")
        text.append(f"  {row['metric']:24}{number(row['value']):>10}\n")
    text.rstrip()
    return text


def _place(row: dict[str, Any]) -> tuple[Any, ...]:
    stem, _, k = row["metric"].partition("@")
    origin = (row["step"], row["checkpoint_hash"], row["data_fingerprint"], row["n"] or 0)
    return (row["dataset"], row["split"], row["protocol"], *origin, stem, int(k) if k.isdigit() else 0)


def number(value: float | None) -> str:
    """A value to four significant digits, or n/a where it is not defined."""
    return "n/a" if value is None or not math.isfinite(value) else f"{value:.4g}"


def _facts(run: Run) -> list[tuple[str, Any]]:
    facts: list[tuple[str, Any]] = [
        ("run", run.id),
        ("recipe", f"{run.recipe} ({run.recipe_hash[:8]})"),
        ("seed", "-" if run.seed is None else run.seed),
        ("status", Text.from_markup(_status(run.status))),
    ]
    if run.error:
        facts.append(("error", run.error))
    facts += [
        ("progress", _progress(run)),
        ("started", f"{_minute(run.started)} on {run.host or '-'}"),
        ("took", _took(run)),
        ("code", run.code_version),
        ("folder", run.folder),
        ("checkpoint", f"{run.checkpoint} ({(run.checkpoint_hash or '?')[:8]})" if run.checkpoint else "-"),
    ]
    facts += [(name.replace("_", " "), _note(value)) for name, value in (run.notes or {}).items()]
    return facts


def _note(value: Any) -> Any:
    """A verdict such as the gap's law as one sentence, other notes as they are."""
    if isinstance(value, dict) and {"law", "reason"} <= set(value):
        return f"{value['law']}: {value['reason']}"
    return value


def _status(status: str) -> str:
    return f"[{COLOURS.get(status, 'white')}]{status}[/]"


def _progress(run: Run) -> str:
    return f"{run.step}/{run.total_steps}" if run.total_steps else str(run.step)


def _iso(moment: datetime | None) -> str | None:
    return moment.isoformat(timespec="seconds") if moment else None


def _minute(moment: datetime | None) -> str:
    return moment.astimezone().strftime("%Y-%m-%d %H:%M") if moment else "-"


def _took(run: Run) -> str:
    end = run.finished or run.heartbeat
    if run.started is None or end is None:
        return "-"
    minutes, seconds = divmod(int((end - run.started).total_seconds()), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}"
