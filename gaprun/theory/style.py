"""How the laboratory's figures look: the palette's colours alone, so that the page can show them on dark paper too."""

from __future__ import annotations

import plotly.graph_objects as go

from gaprun import palette

_AXIS = {
    "gridcolor": palette.GRID,
    "linecolor": palette.SOFT,
    "zerolinecolor": palette.SOFT,
    "color": palette.INK,
}
_SPACE = _AXIS | {"backgroundcolor": palette.PAPER, "showbackground": True}
# Every colour is one of the palette's, so that the page's script finds its twin on a dark page.
TEMPLATE = {
    "layout": {
        "font": {"color": palette.INK, "family": "system-ui, sans-serif"},
        "title": {"font": {"size": 16}, "x": 0, "xref": "container", "xanchor": "left"},
        "paper_bgcolor": palette.PAPER,
        "plot_bgcolor": palette.PAPER,
        "hoverlabel": {"bgcolor": palette.PAPER, "font": {"color": palette.INK}},
        "legend": {"orientation": "h", "x": 0, "y": 0, "yref": "container", "yanchor": "bottom"},
        "xaxis": _AXIS | {"automargin": True},
        "yaxis": _AXIS | {"automargin": True},
        "scene": {axis: _SPACE for axis in ("xaxis", "yaxis", "zaxis")},
    }
}


def columns_of(figure: go.Figure) -> int:
    """How many panels stand side by side."""
    across = {tuple(axis.domain or ()) for axis in figure.select_xaxes()}
    return max(1, len(across), len({tuple(scene.domain.x or ()) for scene in figure.select_scenes()}))


def styled(figure: go.Figure) -> go.Figure:
    """The figure in the look of the page."""
    figure.layout.template = TEMPLATE  # in place of plotly's, with which an update would mix it
    figure.update_layout(
        colorway=palette.COLOURS,
        height=440,
        margin={"l": 60, "r": 20, "t": 50, "b": 90},
        hovermode="closest",
    )
    return figure
