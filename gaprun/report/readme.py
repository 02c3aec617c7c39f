"""README's figure, on light and on dark paper: `python -m gaprun.report.readme [DATABASE [FOLDER]]`.

Gap against retrieval and classification, a row of panels a set-up, a large mark a recipe, small ones its runs; with its
numbers as CSV.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from gaprun.report.figure import Figure
from gaprun.report.gather import gather
from gaprun.report.on_paper import as_csv, draw, save
from gaprun.report.overview import scatter
from gaprun.report.setups import WORDS, setups_of
from gaprun.store import open_store

ROWS = 4  # set-ups that are shown, those with most rows first
WIDTH = 8.5  # inches


def readme_figure(database: str) -> Figure:
    """The figure of a database's set-ups, of those that have all its panels."""
    found = setups_of(gather(open_store(database, create=False)))
    drawn = [(s, one) for s in found if isinstance(one := scatter(s), Figure)]
    columns = max(len(figure.panels) for _, figure in drawn)
    drawn = [(s, one) for s, one in drawn if len(one.panels) == columns][:ROWS]
    panels = []
    for setup, figure in drawn:
        titles = [setup.words, *[""] * len(figure.panels)]
        for panel, title in zip(figure.panels, titles, strict=False):
            panels.append(replace(panel, title=title))
    alt = f"{', '.join(list(WORDS.values())[1:4])} against the gap, a mark a recipe, a row a set-up."
    return replace(drawn[0][1], name="answer", alt=alt, panels=panels, columns=columns, shared=(), height=235)


def write(database: str, folder: Path) -> list[Path]:
    """answer-light.svg, answer-dark.svg and answer.csv in `folder`; returns their paths."""
    figure = readme_figure(database)
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=folder) as beside:
        made = [Path(beside) / f"{figure.name}{ending}" for ending in ("-light.svg", "-dark.svg", ".csv")]
        save(draw(figure, "light", WIDTH), made[0], "light")
        save(draw(figure, "dark", WIDTH), made[1], "dark")
        made[2].write_text(as_csv(figure), encoding="utf-8")
        return [path.replace(folder / path.name) for path in made]


if __name__ == "__main__":
    given = sys.argv[1:]
    made = write(
        given[0] if given else "results.db.example", Path(given[1] if len(given) > 1 else "docs/figures")
    )
    print(*made, sep="\n")
