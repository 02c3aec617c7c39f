"""What is learned between features and loss (nu, the loss's own parameters, the terms'), and the whole loss."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from gaprun.errors import UserError
from gaprun.model.loss import Loss
from gaprun.model.temperature import TemperatureRule
from gaprun.model.terms import StepInputs, Term
from gaprun.model.towers import embedding_size
from gaprun.recipe.schema import Recipe

START_STREAM = 103
Clouds = tuple[Tensor, Tensor]


class Head(nn.Module):
    """nu of the temperature rule, the loss's parameters by their names, and `terms.I.NAME` of the I-th term.

    nu and the loss's parameters share the temperature's learning rate; the terms' are trained at the towers' rate.
    """

    def __init__(self, rule: TemperatureRule, loss: Loss, size: int = 0, seed: int = 0) -> None:
        """`size`: the embeddings' dimension; `seed`: of the parameters that start at random."""
        super().__init__()
        self.loss = loss
        self.contrastive: tuple[Tensor, int] | None = None  # of the last `addend`, and its pairs
        nu = rule.initial_nu()
        self.nu = None if nu is None else nn.Parameter(torch.tensor(nu, dtype=torch.float32))
        self._check_rule(rule)
        self._own = tuple(loss.parameters(size, _random(seed, 0)).items())
        for name, start in self._own:
            self.register_parameter(name, _parameter(start))
        starts = [term.parameters(size, _random(seed, 1 + k)) for k, term in enumerate(loss.terms)]
        self.terms = nn.ModuleList(
            nn.ParameterDict({name: _parameter(start) for name, start in found.items()}) for found in starts
        )

    @torch.no_grad()
    def _check_rule(self, rule: TemperatureRule) -> None:
        """Raise UserError for a rule that gives no inverse temperature at the first, the middle or the last step."""
        name = f"the temperature rule {type(rule).model_fields['rule'].default} ({type(rule).__name__}.beta)"
        for progress in (0.0, 0.5, 1.0):
            try:
                found = rule.beta(self.nu, progress)
            except Exception as error:
                learns = "" if self.nu is not None else "; nu is None where `initial_nu` gives no start"
                raise UserError(f"{name}: {type(error).__name__}: {error}{learns}") from error
            if np.ndim(found) or found is None or not 0 < float(found) < math.inf:
                raise UserError(
                    f"{name} gives {found} at progress {progress:g}: it must be one finite number above 0"
                )

    @classmethod
    def of(cls, recipe: Recipe, seed: int) -> Head:
        """The head that a run of `recipe` starts with."""
        return cls(recipe.temperature, recipe.loss, embedding_size(recipe.model), seed)

    def beside_temperature(self) -> list[nn.Parameter]:
        """nu and the loss's own parameters, in the order that earlier runs' optimisers kept them."""
        found = [self.nu, *(getattr(self, name) for name, _ in self._own)]
        return [parameter for parameter in found if parameter is not None]

    def addend(
        self,
        plain: Clouds,
        swapped: Clouds,
        rows: slice,
        beta: Tensor | float,
        random: Callable[[int], np.random.Generator],
        teacher: Clouds | None,
    ) -> Tensor:
        """What pairs `rows` add to the whole loss, 0-d: of the contrastive loss on `swapped`, of terms on `plain`.

        plain, swapped: unit image and text features (n, d) of the whole batch before and after the swap; random:
        numbers of this step for the I-th term; teacher: features by the towers before training, if a term needs them.
        """
        own: Mapping[str, Tensor] = {name: getattr(self, name) for name, _ in self._own}
        total = _one_number(self.loss.addend(*swapped, rows, beta, own), "loss", self.loss, swapped)
        self.contrastive = total.detach(), len(swapped[0])
        if self.loss.weight != 1:
            total = total * self.loss.weight
        for k, (term, learned) in enumerate(zip(self.loss.terms, self.terms, strict=True)):
            parameters = dict(learned.named_parameters())
            found = term.addend(*plain, rows, beta, parameters, StepInputs(random(k), teacher))
            total = total + term.weight * _one_number(found, "loss term", term, plain)
        return total


def _one_number(found: Any, kind: str, part: Loss | Term, clouds: Clouds) -> Tensor:
    """`found`, what a part of the loss gave. Raises UserError where it is not one number with a gradient."""
    if not isinstance(found, Tensor):
        odd = f"{type(found).__name__}, not one number (a tensor without dimensions)"
    elif found.ndim:
        odd = f"a tensor of shape {tuple(found.shape)}, not one number (a tensor without dimensions)"
    elif any(cloud.requires_grad for cloud in clouds) and not found.requires_grad:
        odd = "a number without a gradient, which would train nothing"
    else:
        return found
    raise UserError(
        f"the {kind} {type(part).model_fields['name'].default} ({type(part).__name__}.addend) gives {odd}"
    )


def _random(seed: int, part: int) -> np.random.Generator:
    return np.random.default_rng([seed, START_STREAM, part])


def _parameter(start: Any) -> nn.Parameter:
    return nn.Parameter(torch.as_tensor(np.asarray(start), dtype=torch.float32))
