"""Modality swapping: exchange coordinates of matched image and text features before the loss (paper, Sec. 4).

`H_X`, `H_Y` are (n, d) unit rows, row i of both belonging to pair i; a swap step keeps every pair in its row.
"Fraction p of training" is read as: each step is a swap step with probability p [inferred]. Whether rows are
renormalised after mixing is not known from the paper, so it is an option. Adding a swap: one class decorated with
`SWAPS.register`, here or in a module that GAPRUN_PLUGINS names. The classes are read with the recipe, so this module
must not import torch.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from gaprun.model.drawn import beside
from gaprun.registry import Registry
from gaprun.section import Section

if TYPE_CHECKING:
    from torch import Generator, Tensor


class Swap(Section):
    """What every swap offers: the features that the contrastive loss sees in place of the towers'."""

    @property
    def keeps_unit_rows(self) -> bool:
        """Whether unit rows come out as unit rows."""
        return True

    @abstractmethod
    def apply(self, x: Tensor, y: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
        """What becomes of `x` and `y` (both (n, d)) in this step, row by row.

        `generator` is a CPU generator seeded for this step alone, so a resumed run draws the same numbers.
        """


SWAPS: Registry[Swap] = Registry("swap", "rule")
AnySwap = Annotated[Swap, SWAPS]


@SWAPS.register
class NoSwap(Swap):
    """The features reach the loss as they are (baseline)."""

    rule: Literal["none"] = "none"

    def apply(self, x: Tensor, y: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
        """Return `(x, y)` unchanged and leave the generator untouched."""
        return x, y


class MixingSwap(Swap):
    """A swap with probability p a step; `weights` says which part of `x[i, j]` stays in place."""

    probability: float = Field(ge=0.0, le=1.0, description="p: the share of steps that swap.")
    renormalise: bool = Field(True, description="Bring rows back to unit length after mixing [inferred].")

    @property
    def keeps_unit_rows(self) -> bool:
        return self.renormalise

    @abstractmethod
    def weights(self, x: Tensor, generator: Generator) -> Tensor:
        """(n, d) numbers in [0, 1] on x's device: 1 keeps the entry, 0 takes the other modality's."""

    def apply(self, x: Tensor, y: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
        """Mix `x` and `y` on a swap step: `x' = w x + (1-w) y` and `y' = w y + (1-w) x`."""
        import torch
        from torch.nn.functional import normalize

        if torch.rand((), generator=generator).item() >= self.probability:
            return x, y
        w = self.weights(x, generator)
        mixed_x, mixed_y = w * x + (1 - w) * y, w * y + (1 - w) * x
        if self.renormalise:
            mixed_x, mixed_y = normalize(mixed_x, dim=-1), normalize(mixed_y, dim=-1)
        return mixed_x, mixed_y


@SWAPS.register
class HardSwap(MixingSwap):
    """HS: on a swap step, exchange `H_X[i,j] <-> H_Y[i,j]` for each entry with probability 0.5."""

    rule: Literal["hard"] = "hard"
    probability: float = Field(1e-3, ge=0.0, le=1.0, description="p: the share of steps that swap.")

    def weights(self, x: Tensor, generator: Generator) -> Tensor:
        import torch

        return beside(torch.rand(x.shape, generator=generator) < 0.5, x)


@SWAPS.register
class SoftSwap(MixingSwap):
    """SS: on a swap step, `H_X[i,j] <- l H_X[i,j] + (1-l) H_Y[i,j]` and mirrored, `l ~ U[0,1]` per entry."""

    rule: Literal["soft"] = "soft"
    probability: float = Field(5e-2, ge=0.0, le=1.0, description="p: the share of steps that swap.")

    def weights(self, x: Tensor, generator: Generator) -> Tensor:
        import torch

        return beside(torch.rand(x.shape, generator=generator), x)
