"""Text as TeX takes it, in the packages that every LaTeX has, and how wide it will stand."""

from __future__ import annotations

import re
import unicodedata
from functools import cache

GREEK = "alpha beta gamma delta tau nu mu sigma lambda pi"
SIGNS = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "`": r"\textasciigrave{}",
    **{sign: "\\" + sign for sign in "_%&#${}"},
    "|": r"\textbar{}",
    "−": "$-$",
    "±": r"$\pm$",
    "×": r"$\times$",
    "·": r"$\cdot$",
    "≈": r"$\approx$",
    "≤": r"$\le$",
    "≥": r"$\ge$",
    "<": "$<$",
    ">": "$>$",
    "∞": r"$\infty$",
    "↑": r"$\uparrow$",
    "↓": r"$\downarrow$",
    "→": r"$\to$",
    "†": r"$\dagger$",
    "◂": r"$\triangleleft$",
    "½": r"$\frac{1}{2}$",
    "√": r"$\sqrt{}$",
    "‖": r"$\|$",
    "Δ": r"$\Delta$",
    **{letter: f"$\\{name}$" for letter, name in zip("αβγδτνμσλπ", GREEK.split(), strict=True)},
    "…": r"\dots{}",
    "–": r"\textendash{}",
    "—": r"\textemdash{}",
    "‘": "`",
    "’": "'",
    "“": "``",
    "”": "''",
    "\n": " ",
}
PLAIN = "ßæœøłåÆŒØŁÅ§°©"  # beside ASCII in the fonts of a fresh document
ACCENTS = dict(
    zip(
        "\u0300\u0301\u0302\u0303\u0304\u0306\u0307\u0308\u030a\u030b\u030c\u0327",
        "`'^~=u.\"rHvc",
        strict=True,
    )
)
BREAKS = re.compile(
    r"(?<=[=/_:@+])(?=\S)|(?<=[.,])(?=[^\s\d])"
)  # where a long name may end a line, beside its hyphens
LONG, PIECE = 130.0, 60.0  # points of a word that is broken for want of such signs, and of its pieces
# Widths of Computer Modern's letters in thousandths of the size, those of a class together, rounded up.
WIDTHS = {
    sign: width
    for width, signs in (
        (306, "ijlf.,:;'`!|[]"),
        (400, "rstI()- _"),
        (500, "acegoz0123456789*?/↑↓τ"),
        (560, "bdhknpquvxy"),
        (681, "EFJLPSTw"),
        (778, "ABCDGHKNOQRUVXYZ=+−±<>≈≤≥@#&Δ"),
        (917, "mM%"),
        (1030, "W—"),
    )
    for sign in signs
}
OTHER = 780
BOLD = 1.15


def escape(text: str, breaks: bool = False) -> str:
    """`text` with TeX's signs escaped and the tables' own symbols as maths.

    A letter that a fresh document has no font for (Chinese, a smiley) stands as its code point, `U+4E2D`. breaks: a
    line may end after the signs that join words, as in `temperature.rule=fixed`.
    """
    pieces = _pieces(text) if breaks else [text]
    text = r"\allowbreak{}".join("".join(map(_sign, piece)) for piece in pieces)
    return re.sub("-(?=-)", "-{}", text)  # two would be one longer dash


def width(text: str, bold: bool = False) -> float:
    """About how wide `text` stands at 10 points, in points; never less than it does."""
    return (BOLD if bold else 1.0) * sum(map(_width, text))


def longest_word(text: str) -> float:
    """The width of the longest part of `text` that a line cannot end within (`breaks`)."""
    return max(
        (width(part) for piece in _pieces(text) for part in piece.replace("-", "- ").split()), default=0.0
    )


def _pieces(text: str) -> list[str]:
    """`text` cut where a line may end, but for its blanks and hyphens, at which TeX ends lines by itself."""
    found = []
    for piece in BREAKS.split(text):
        found.append("")
        for word in re.split(r"(?<=[\s-])", piece):
            long, used = width(word) > LONG, 0.0
            for sign in word:
                used += _width(sign)
                if long and used > PIECE:
                    found.append("")
                    used = _width(sign)
                found[-1] += sign
    return found


@cache
def _width(sign: str) -> float:
    known = WIDTHS.get(sign)
    if known is None:
        known = (
            sum(WIDTHS.get(one, OTHER) for one in code) if (code := _sign(sign)).startswith("U+") else OTHER
        )
    return known / 100


def _sign(sign: str) -> str:
    if sign in SIGNS:
        return SIGNS[sign]
    if " " <= sign <= "~" or sign in PLAIN:
        return sign
    if sign.isspace():
        return " "
    letter, *marks = list(unicodedata.normalize("NFD", sign))
    if len(marks) == 1 and letter.isascii() and letter.isalpha() and marks[0] in ACCENTS:
        return rf"\{ACCENTS[marks[0]]}{{{letter}}}"
    kind, _, codes = unicodedata.decomposition(sign).rpartition("> ")
    raised = "".join(chr(int(code, 16)) for code in codes.split()).replace("−", "-")
    if kind in ("<super", "<sub") and raised.isascii() and (raised.isalnum() or raised in "+-"):
        return f"${'^' if kind == '<super' else '_'}{{{raised}}}$"
    return f"U+{ord(sign):04X}"
