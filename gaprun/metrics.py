"""What a metric is, as a value: everything that tables, reports, tests and the documentation need to know about it.

A metric is declared once, in the file of the task that gives it (`gaprun/evaluation/tasks`), and found by name through
`gaprun.evaluation.catalogue`. Bottom layer: standard library only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from numpy.typing import NDArray

Direction = Literal["up", "down", "none"]
UP: Direction = "up"
DOWN: Direction = "down"
NONE: Direction = "none"
ARROWS: dict[Direction, str] = {UP: " ↑", DOWN: " ↓", NONE: ""}
PERCENT = "%"


@dataclass(frozen=True)
class Outcomes:
    """What became of each query of one evaluation: `right` (Q,) bool, `queries` (Q,) their places in the split.

    `owner` (Q,): the image that each belongs to, where several queries share one.
    """

    right: NDArray[Any]
    queries: NDArray[Any]
    owner: NDArray[Any] | None = None


@dataclass(frozen=True)
class Metric:
    """One number that a task gives.

    direction: which way is better, `none` for a description; words: what it is, for headings and charts; unit: `%` or
    "" (a number without one); places: decimals in tables, None for four digits of whatever power of ten; short: a name
    that it shares with its like (`recall@5`); outcome: right or wrong for each query, from the arrays that its
    evaluation keeps, None where it is no share of right queries.
    """

    name: str
    direction: Direction
    words: str
    unit: str = ""
    places: int | None = 3
    short: str = ""
    outcome: Callable[[Mapping[str, Any]], Outcomes | None] | None = None

    @property
    def arrow(self) -> str:
        """` ↑`, ` ↓` or nothing, for the head of a column."""
        return ARROWS[self.direction]

    @property
    def title(self) -> str:
        """Words and unit, for an axis: `zero-shot top-1 (%)`."""
        return f"{self.words} ({self.unit})" if self.unit else self.words


def percentage(
    name: str,
    words: str,
    *,
    direction: Direction = UP,
    short: str = "",
    outcome: Callable[[Mapping[str, Any]], Outcomes | None] | None = None,
) -> Metric:
    """A metric in percent, one decimal; up is better unless said otherwise."""
    return Metric(name, direction, words, PERCENT, 1, short, outcome)
