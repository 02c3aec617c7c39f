"""What the pages are put together from: templates, scripts and styles that lie beside this file."""

from __future__ import annotations

from pathlib import Path

from markupsafe import Markup

from gaprun.report.figure import Figure, as_json
from gaprun.tables import html

ASSETS = Path(__file__).parent / "assets"


def filled(name: str, **values: object) -> Markup:
    """One of the report's templates with these values."""
    return html.filled("gaprun.report", name, **values)


def asset(name: str) -> Markup:
    """A script or style as it is."""
    return Markup((ASSETS / name).read_text(encoding="utf-8"))


def drawn(figure: Figure) -> Markup:
    """A figure with its title, switches and buttons, and the numbers that `figures.js` draws it from."""
    return filled("figure.html", figure=figure, data=Markup(as_json(figure)))
