"""Numbers as people read them: one sign for minus, one form of an interval, one form of a p-value."""

from __future__ import annotations

import math

MINUS = "−"
MOST_PLACES = 6
SURE = 0.05  # a p-value below it is taken for proof


def fixed(value: float, places: int | None) -> str:
    """`value` with so many decimals (None: to four digits, `1e+05`) and a true minus sign; never a negative zero."""
    if places is None:
        return significant(value)
    text = f"{value:.{places}f}"
    text = text.lstrip("-") if not text.strip("-0.") else text
    return text.replace("-", MINUS)


def signed(value: float, places: int | None) -> str:
    """A difference: with its own sign, also where it rounds to zero."""
    return (MINUS if value < 0 else "+") + fixed(abs(value), places)


def bracketed(interval: tuple[float, float] | None, places: int | None, sign: bool = False) -> str:
    """`[low, high]`, "" for None; `sign`: of a difference."""
    shown = signed if sign else fixed
    return f"[{shown(interval[0], places)}, {shown(interval[1], places)}]" if interval else ""


def p_value(value: float | None) -> str:
    """`p=.012`, `p<.001`; "" for None. What is below .05 never reads as .050: it has as many decimals as that takes."""
    if value is None:
        return ""
    places = next((n for n in range(3, 12) if not value < SURE <= float(f"{value:.{n}f}")), 12)
    return "p<.001" if value < 0.001 else f"p={value:.{places}f}".replace("=0.", "=.")


def significant(value: float | None, digits: int = 4) -> str:
    """`value` to so many significant digits; n/a where it is not defined."""
    if value is None or not math.isfinite(value):
        return "n/a"
    return f"{value:.{digits}g}".replace("-", MINUS)


def places_for(places: int | None, largest: float) -> int | None:
    """Decimals of a column whose largest absolute value is `largest`: `places`, or more so that two digits show; None
    (four digits of whatever power of ten) where that would take more than MOST_PLACES.
    """
    if places is None or not 0 < largest < 1:
        return places
    needed = 1 - math.floor(math.log10(largest))
    return max(places, needed) if needed <= MOST_PLACES else None


def counted(number: int, noun: str) -> str:
    """`1 run`, `2,000 runs`: a number of things whose plural ends in s."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
