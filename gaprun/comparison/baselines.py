"""Which baseline each row of a comparison has, and what is said of rows without one."""

from __future__ import annotations

from collections.abc import Mapping

from gaprun.comparison.recipes import RowName
from gaprun.errors import UserError
from gaprun.store.queries import nearest
from gaprun.tables.numbers import counted

BASELINE = "baseline"


def baselines_of(
    wanted: str | None, setups: dict[str, str], names: Mapping[str, RowName], by: str, across: bool
) -> dict[str, str]:
    """Each group's baseline: of the groups called so the one of its own set-up; the only one for all if `across`."""
    name = wanted if wanted is not None else BASELINE
    if wanted is None and by != "recipe":
        return {}
    called = _called(name, setups, names)
    if wanted is not None and not called:
        close = nearest(wanted, list(setups)) or list(setups)[:8]
        raise UserError(f"--baseline {wanted!r} is none of the groups compared; there are {', '.join(close)}")
    if across and wanted is not None and len(called) == 1:
        return dict.fromkeys(setups, name)
    of_setup: dict[str, list[str]] = {}
    for group in called:
        of_setup.setdefault(setups[group], []).append(group)
    if wanted is not None and all(len(several) > 1 for several in of_setup.values()):
        raise UserError(
            f"--baseline {wanted!r} is several groups of one set-up: {', '.join(called)}; name one"
        )
    return {group: of_setup[s][0] for group, s in setups.items() if len(of_setup.get(s, ())) == 1}


def _called(name: str, setups: Mapping[str, str], names: Mapping[str, RowName]) -> list[str]:
    return [name] if name in setups else [g for g in setups if name in (names[g].called, names[g].short)]


def about_baselines(
    wanted: str | None, baselines: dict[str, str], setups: dict[str, str], names: dict[str, RowName], by: str
) -> list[str]:
    """What a reader must know of rows without a baseline, and of baselines of another set-up."""
    asked = wanted is not None or by == "recipe"
    called = _called(BASELINE if wanted is None else wanted, setups, names) if asked else []
    unclear = [group for group in called if group not in baselines]
    without = {setups[group] for group in unclear}
    alone = sum(group not in baselines and setup not in without for group, setup in setups.items())
    foreign = sum(setups[group] != setups[one] for group, one in baselines.items())
    notes = []
    if unclear:
        notes.append(
            f"no difference is shown where several rows are called {names[unclear[0]].called}: "
            f"{', '.join(unclear)}; --baseline names one"
        )
    if baselines and alone:
        notes.append(
            f"no difference is shown of {counted(alone, 'row')} of another set-up than "
            f"{' or '.join(dict.fromkeys(names[one].called for one in baselines.values()))}"
        )
    if foreign:
        notes.append(
            f"mixed on request (--allow-mixed): {counted(foreign, 'row')} compared with a baseline of another set-up"
        )
    return notes
