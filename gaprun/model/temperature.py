"""Temperature rules: how the inverse temperature `beta = 1/tau` comes about at each step (paper, Sec. 4).

Each rule is one class: its recipe options as fields, its formula as `beta`. A rule with a learned parameter
starts it at `initial_nu()`; the optimiser moves it. Adding a rule: one class decorated with `RULES.register`, here or
in a module that GAPRUN_PLUGINS names. The classes are read with the recipe, so this module must not import torch.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from gaprun.registry import Registry
from gaprun.section import Section

if TYPE_CHECKING:
    from torch import Tensor

Tau = Annotated[float, Field(gt=1e-4, le=100.0)]


class TemperatureRule(Section):
    """What every rule offers; `nu` is a 0-d tensor, None for rules that learn nothing."""

    def initial_nu(self) -> float | None:
        """Start of the learned parameter, or None."""
        return None

    @abstractmethod
    def beta(self, nu: Tensor | None, progress: float) -> Tensor | float:
        """Inverse temperature; `progress` runs from 0 at the first step to 1 at the last."""

    def nu_for(self, beta: float) -> float | None:
        """The parameter value at which the rule gives `beta` (for the clamp), or None."""
        return None


RULES: Registry[TemperatureRule] = Registry("temperature rule", "rule", usual="exp")
AnyTemperature = Annotated[TemperatureRule, RULES]


class Learned(TemperatureRule):
    """Options shared by the rules that learn nu."""

    init: Tau = Field(0.07, description="Starting temperature tau; CLIP's is 0.07.")
    lr_factor: float = Field(
        1.0, ge=0.0, le=1000.0, description="Factor on nu's learning rate; SLRT of the paper is 0.1."
    )
    max_beta: float | None = Field(
        100.0, gt=0, description="Clamp of the logit scale beta after each step (CLIP: 100); null for none."
    )

    rising_only: bool = Field(
        False, description="tau may rise but never falls: a step that would lower it leaves nu where it was."
    )

    def initial_nu(self) -> float:
        return self.nu_for(1.0 / self.init)

    @abstractmethod
    def nu_for(self, beta: float) -> float:
        """The parameter value at which the rule gives `beta`."""


@RULES.register
class Exponential(Learned):
    """CLIP's rule: `beta = exp(nu)` (baseline; with lr_factor 0.1, SLRT)."""

    rule: Literal["exp"] = "exp"

    def beta(self, nu: Tensor | None, progress: float) -> Tensor | float:
        assert nu is not None
        return nu.exp()

    def nu_for(self, beta: float) -> float:
        return math.log(beta)


@RULES.register
class ScaledExponential(Learned):
    """Temperature reparameterisation: `beta = exp(nu / scale)`, scale > 1."""

    rule: Literal["scaled-exp"] = "scaled-exp"
    scale: float = Field(2.0, gt=0, le=1000, description="The s of exp(nu/s); the paper takes s > 1.")

    def beta(self, nu: Tensor | None, progress: float) -> Tensor | float:
        assert nu is not None
        return (nu / self.scale).exp()

    def nu_for(self, beta: float) -> float:
        return self.scale * math.log(beta)


@RULES.register
class Softplus(Learned):
    """Temperature reparameterisation (TR): `beta = log(1 + e^nu)`."""

    rule: Literal["softplus"] = "softplus"

    def beta(self, nu: Tensor | None, progress: float) -> Tensor | float:
        from torch.nn.functional import softplus

        assert nu is not None
        return softplus(nu)

    def nu_for(self, beta: float) -> float:
        return beta + math.log(-math.expm1(-beta))


@RULES.register
class Fixed(TemperatureRule):
    """Fixed large temperature (FLT): tau never moves; the paper's choice is 0.04."""

    rule: Literal["fixed"] = "fixed"
    tau: Tau = Field(0.04, description="The temperature of every step.")

    def beta(self, nu: Tensor | None, progress: float) -> Tensor | float:
        return 1.0 / self.tau


@RULES.register
class Scheduled(TemperatureRule):
    """Temperature scheduling (TS): tau rises linearly, `tau = start + (end - start) * progress`."""

    rule: Literal["schedule"] = "schedule"
    start: Tau = Field(1e-2, description="tau at the first step (paper: 1e-2).")
    end: Tau = Field(5e-2, description="tau at the last step (paper S0..S3: 2e-2, 3e-2, 4e-2, 5e-2).")

    def beta(self, nu: Tensor | None, progress: float) -> Tensor | float:
        return 1.0 / (self.start + (self.end - self.start) * progress)
