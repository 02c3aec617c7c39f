"""The laboratory's results as tables: rates beside what was published, local slopes, first steps, laws of a gap."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from gaprun.tables import Heading, Table
from gaprun.tables.numbers import bracketed, fixed, signed, significant

if TYPE_CHECKING:
    from gaprun.theory.overlay import Overlay
    from gaprun.theory.rates import Rate
    from gaprun.theory.reduced import Flow
    from gaprun.theory.start import StartOutcome


def flow_tables(found: Flow) -> list[Table]:
    """One trajectory: its rates with where it began and ended above, and its local slopes where it has any."""
    from gaprun.theory.rates import flow_rates, windows

    first, last = found.rows()[0], found.rows()[-1]
    title = (
        f"{found.rule.name}: Δ {significant(first['delta'], 3)} at t = 0, {significant(last['delta'], 3)} at "
        f"t = {last['t']:.3g} (ln γ {significant(last['ln_gamma'], 6)}, β {significant(last['beta'])}); relative error "
        f"{found.error:.1e} by {found.error_kind}"
    )
    legend = [f"ended early: {found.stopped}"] if found.stopped else []
    for level, t in found.crossings.items():
        legend.append(f"γ = {level:g} " + ("is not crossed" if t is None else f"at t = {t:.6g}"))
    tables = [rates_table([(None, rate) for rate in flow_rates(found).values()], title, legend)]
    if slopes := windows(found):
        heads = [Heading(name, right=True) for name in ("t from", "to", "d ln γ / d ln ln t", "± 95 %")]
        rows = [
            (
                f"{one.window[0]:.0e}",
                f"{one.window[1]:.0e}",
                significant(one.value),
                significant(one.high - one.value, 2),
            )
            for one in slopes
        ]
        records = [one.row() for one in slopes]
        tables.append(Table.of("local slopes", heads, rows, records, "Local slopes against log log t"))
    return tables


def rates_table(
    rates: Iterable[tuple[str | None, Rate]], title: str = "", legend: Iterable[str] = ()
) -> Table:
    """Measured rates with half of their 95 % intervals beside the published ones; each with its rule, or None."""
    found = list(rates)
    numbers = [Heading(name, right=True) for name in ("measured", "± 95 %", "expected")]
    heads: list[Heading | str] = [
        Heading("rate", wrap=True),
        *numbers,
        Heading("source", wrap=True),
        "verdict",
    ]
    rows = []
    for rule, rate in found:
        expected = "" if rate.expected is None else significant(rate.expected, 6)
        half = significant(rate.high - rate.value, 2)
        cells = [rate.name, significant(rate.value, 6), half, expected, rate.source or "", rate.verdict or ""]
        rows.append([rule, *cells] if rule is not None else cells)
    if any(rule is not None for rule, _ in found):
        heads = ["rule", *heads]
    records = [{**({"rule": rule} if rule is not None else {}), **rate.row()} for rule, rate in found]
    return Table.of("rates", heads, rows, records, title, legend)


def start_table(outcomes: Mapping[str, Mapping[str, StartOutcome]], title: str = "") -> Table:
    """A row a kind of features and of start: in how many of its inits the gap grew, with the exact 95 % interval."""
    numbers = ("grew", "share", "95 % interval", "gap before", "change")
    heads: list[Heading | str] = [
        "features",
        Heading("start", wrap=True),
        *(Heading(name, right=True) for name in numbers),
    ]
    rows, records = [], []
    for features, by_start in outcomes.items():
        for start, one in by_start.items():
            grew = f"{one.increases}/{len(one.changes)}"
            before, change = float(one.before.mean()), float(one.changes.mean())
            rows.append(
                (
                    features,
                    start,
                    grew,
                    f"{one.share:.2f}",
                    bracketed(one.interval, 3),
                    f"{before:.4f}",
                    signed(change, 4),
                )
            )
            records.append({"features": features, "start": start} | one.row())
    return Table.of("first steps", heads, rows, records, title)


def laws_table(found: Overlay) -> Table:
    """The laws fitted to a run's gap, with the verdict above."""
    names = ("floor", "scale", "shape", "95 %", "RMSE", "held out", "AICc")
    rows = []
    for fit in found.verdict.fits:
        shape = "" if fit.shape is None else significant(fit.shape, 3)
        low_high = (
            ""
            if fit.shape_interval is None
            else "[{}, {}]".format(*(significant(end, 3) for end in fit.shape_interval))
        )
        numbers = (
            significant(fit.rmse, 2),
            significant(fit.held_out, 2),
            fixed(fit.aicc, 1),
        )
        rows.append(
            (fit.text, significant(fit.floor, 3), significant(fit.scale, 3), shape, low_high, *numbers)
        )
    title = f"{found.run}: {found.verdict.law}. {found.verdict.reason}"
    heads: list[Heading | str] = ["law", *(Heading(name, right=True) for name in names)]
    return Table.of("laws", heads, rows, found.row()["fits"], title)
