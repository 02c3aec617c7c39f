"""What every loss term offers, and how it is divided over processes.

A term sees the unit features of the whole batch, before any swap, on every process. It answers for this process's
`rows`: the answers of all rows sum up to the term, and so do their gradients. A term that is no sum over rows (the
logarithm of a mean, say) is computed whole on every process, each of which answers with its rows' `share` of it.

Adding a term: one class decorated with `TERMS.register`, here or in a module that GAPRUN_PLUGINS names. Read with
the recipe: no torch at import time.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field

from gaprun.registry import Registry
from gaprun.section import Section

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor


@dataclass(frozen=True)
class StepInputs:
    """What some terms need beside the features.

    `random`: numbers of this step and term, the same on every process and after resuming. `teacher`: unit features
    (n, d) of the batch by the towers as they were before training, for terms that say `needs_teacher`.
    """

    random: np.random.Generator
    teacher: tuple[Tensor, Tensor] | None = None


class Term(Section):
    """A term of the loss; the whole loss is the contrastive loss plus each term times its weight."""

    needs_teacher: ClassVar[bool] = False

    weight: float = Field(1.0, allow_inf_nan=False, description="Factor on this term.")

    def parameters(self, size: int, random: np.random.Generator) -> dict[str, Any]:
        """Start values (arrays or numbers) of what the term learns, by name; `size` is the embeddings' dimension.

        They are trained at the learning rate of the towers without weight decay, and kept in checkpoints.
        """
        return {}

    @abstractmethod
    def addend(
        self,
        x: Tensor,
        y: Tensor,
        rows: slice,
        beta: Tensor | float,
        parameters: Mapping[str, Tensor],
        step: StepInputs,
    ) -> Tensor:
        """What pairs `rows` add to the term (without its weight), 0-d.

        x, y: unit image and text features (n, d); beta: the inverse temperature; parameters: what `parameters`
        declared, as it stands.
        """


TERMS: Registry[Term] = Registry("loss term", "name")
AnyTerm = Annotated[Term, TERMS]


def share(rows: slice, x: Tensor) -> float:
    """The part of the whole that `rows` of `x` are."""
    return (rows.stop - rows.start) / len(x)


def cross_entropy_sum(logits: Tensor, first: int) -> Tensor:
    """Sum over rows of the cross-entropy whose target is column `first` + row, 0-d; `logits`: (rows, n)."""
    return (logits.logsumexp(1) - logits.diagonal(first)).sum()
