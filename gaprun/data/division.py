"""How many samples go into each split of a set that has no splits of its own."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from gaprun.errors import UserError


@dataclass(frozen=True)
class Division:
    """Either shares of 1 by split name, or a number of test samples with the rest in `rest`."""

    shares: dict[str, float] = field(default_factory=dict)
    test: int | None = None
    rest: str = "train"

    @classmethod
    def parse(cls, fractions: str | None, test: int | None, rest: str = "train") -> Division:
        """From `--split-fractions train=0.8,test=0.2` or `--test N`; neither puts all into `rest`.

        Raises UserError on both at once, on no positive numbers, or on shares that do not sum to 1.
        """
        check_split_name(rest)
        if fractions is not None and test is not None:
            raise UserError("--split-fractions and --test exclude each other")
        if test is not None and test < 1:
            raise UserError(f"--test {test}: give at least 1 picture")
        if test is not None and rest == "test":
            raise UserError("--split test and --test exclude each other: name the other pictures' split")
        if fractions is None:
            return cls(test=test, rest=rest)
        shares: dict[str, float] = {}
        for item in fractions.split(","):
            name, _, value = (part.strip() for part in item.partition("="))
            check_split_name(name)
            try:
                shares[name] = float(value)
            except ValueError:
                raise UserError(f"--split-fractions '{fractions}': expected train=0.8,test=0.2") from None
            if not 0 < shares[name] < 1:
                raise UserError(f"--split-fractions: '{item}' is not a share between 0 and 1")
        if abs(sum(shares.values()) - 1) > 1e-6:
            raise UserError(f"--split-fractions '{fractions}' sum to {sum(shares.values()):g}, not 1")
        return cls(shares=shares)

    @property
    def divides(self) -> bool:
        """Whether the person asked for more than one split."""
        return bool(self.shares) or self.test is not None

    def counts(self, n: int) -> dict[str, int]:
        """Sizes by split for `n` samples, summing to `n`. Raises UserError where a split would be empty."""
        if n == 0:
            return {}
        if self.test is not None:
            sizes = {"test": self.test, self.rest: n - self.test}
        elif self.shares:
            ends, total = [0], 0.0
            for share in self.shares.values():
                total += share
                ends.append(round(total * n))
            sizes = {name: ends[k + 1] - ends[k] for k, name in enumerate(self.shares)}
        else:
            return {self.rest: n}
        for name, size in sizes.items():
            if size < 1:
                raise UserError(
                    f"{n} pictures divided as asked leave the split '{name}' without any; ask for smaller parts"
                )
        return sizes


SPLIT_WORDS = {
    "train": ("train", "training", "trainset"),
    "val": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing", "testset"),
}


def split_word(word: str) -> str | None:
    """The split that a word names (`training`: train; `validation`: val), None for any other word."""
    return next((split for split, words in SPLIT_WORDS.items() if word.lower() in words), None)


def own_split(word: str, where: str) -> str | None:
    """The split that a set's own file says in `word`, restval being part of train; None where it says nothing.

    Raises UserError that begins with `where` for a word that names none.
    """
    found = "train" if word.strip().lower() == "restval" else split_word(word.strip())
    if word.strip() and found is None:
        raise UserError(
            f"{where}: split '{word.strip()[:40]}' is none of train, val and test: put one there, or "
            "give it another name where it means something else"
        )
    return found


def check_split_name(name: str) -> None:
    """Raise UserError unless `name` can be a split's folder name: letters, digits, `-` and `_`."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,39}", name):
        raise UserError(f"'{name}' cannot be a split's name: use letters, digits, - and _")
