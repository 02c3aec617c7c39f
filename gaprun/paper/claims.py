"""Verdicts on the paper's claims C1 to C8 and one of our own (C9), from the store, by the rules of docs/claims.md."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from gaprun.paper.evidence import BASELINE, NOT_SUPPORTED, SUPPORTED, UNDECIDED
from gaprun.paper.rules import CLAIMS, Paths
from gaprun.paper.settings import MethodSetting, SetupResults
from gaprun.tables import Cell, Heading, Style, Table

if TYPE_CHECKING:
    from gaprun.store import Store


@dataclass(frozen=True)
class Verdict:
    """One claim judged: `evidence` in words with its numbers, the `rule` that decided, the `runs` behind it."""

    claim: str
    statement: str
    verdict: str
    evidence: str
    rule: str
    runs: tuple[str, ...]

    def record(self) -> dict[str, Any]:
        return asdict(self) | {"runs": list(self.runs)}


def judge_claims(store: Store, study: SetupResults) -> list[Verdict]:
    """Every claim in order, from `study` and the recorded paths of its baseline and softplus runs."""
    wanted = [r.run for r in study.results if r.setting in (BASELINE, MethodSetting("TR"))]
    return judge_study(study, store.trajectories(wanted))


def judge_study(study: SetupResults, paths: Paths) -> list[Verdict]:
    """The same from values alone."""
    verdicts = []
    for claim in CLAIMS:
        verdict, evidence, runs = claim.judge(study, paths)
        verdicts.append(Verdict(claim.name, claim.statement, verdict, evidence, claim.rule, tuple(runs)))
    return verdicts


def claims_table(verdicts: Sequence[Verdict], study: SetupResults, sized: bool = False) -> Table:
    """A row a claim: the verdict, and in one column statement, evidence, rule, runs; `sized` records say the size."""
    styles: dict[str, Style] = {SUPPORTED: "good", NOT_SUPPORTED: "bad", UNDECIDED: "warn"}
    rows = []
    for one in verdicts:
        texts = (one.statement, one.evidence, f"rule: {one.rule}", f"runs: {_named(one.runs)}")
        rows.append((Cell((one.claim,), "strong"), Cell((one.verdict,), styles[one.verdict]), Cell(texts)))
    heads = ("claim", "verdict", Heading("what is claimed", ("", "evidence", "rule", "runs"), wrap=True))
    size = ", ".join(f"{name} {value}" for name, value in study.size().items())
    legend = [f"{line[0].upper()}{line[1:]}." for line in study.left_out]
    hints: tuple[str, ...] = ()
    if study.chosen and not sized:
        legend.append(f"{study.chosen[0].upper()}{study.chosen[1:]}.")
        hints = ("--where chooses, --every-size judges all.",)
    title = f"Judged at this size: {size}."
    records = [one.record() | ({"size": study.size()} if sized else {}) for one in verdicts]
    return replace(Table.of("claims", heads, rows, records, title, legend), hints=hints)


def _named(runs: Sequence[str]) -> str:
    distinct = list(dict.fromkeys(runs))
    more = ", ..." if len(distinct) > 4 else ""
    return f"{len(distinct)}: {', '.join(distinct[:4])}{more}" if distinct else "none"
