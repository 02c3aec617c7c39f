"""Terms that a recipe adds to its loss (`loss.terms`): one class each, its formula and source in its docstring."""

from gaprun.model.terms import (  # noqa: F401 - importing registers
    adversary,
    consistency,
    gap,
    mixup,
    refine,
    separation,
    uniformity,
)
from gaprun.model.terms.base import TERMS, AnyTerm, StepInputs, Term

__all__ = ["TERMS", "AnyTerm", "StepInputs", "Term"]
