"""Exponential moving average of the weights (`optimizer.ema`): what is then measured and kept as the run's model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

Weights = dict[str, dict[str, Tensor]]


class WeightAverage:
    """`a <- decay a + (1 - decay) w` after each step, from `a = w` after the first (as torch's AveragedModel).

    Counters and the running statistics of batch normalisation are the newest ones, not averaged.
    """

    def __init__(self, decay: float, modules: Mapping[str, nn.Module]) -> None:
        """`modules`: by the names under which their weights are kept."""
        self.decay, self.modules = decay, modules
        self.weights: Weights | None = None

    @torch.no_grad()
    def update(self) -> None:
        """Take in the weights as they are after a step."""
        if self.weights is None:
            self.weights = {k: _copied(m.state_dict()) for k, m in self.modules.items()}
            return
        for key, module in self.modules.items():
            parameters = dict(module.named_parameters(remove_duplicate=False))  # shared ones go by two names
            for name, now in module.state_dict().items():
                average = self.weights[key][name]
                if name in parameters and average.is_floating_point():
                    average.lerp_(now, 1 - self.decay)
                else:
                    average.copy_(now)

    def trained(self) -> Weights:
        """The weights that the optimiser moves."""
        return {key: module.state_dict() for key, module in self.modules.items()}

    def load(self, average: Weights, trained: Weights) -> None:
        """Go on from the average and the trained weights of a checkpoint."""
        for key, module in self.modules.items():
            module.load_state_dict(trained[key])
        self.weights = {
            key: {name: average[key][name].to(now, copy=True) for name, now in module.state_dict().items()}
            for key, module in self.modules.items()
        }

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Inside the block the modules carry the average, afterwards again what is trained."""
        if self.weights is None:
            yield
            return
        trained = {key: _copied(weights) for key, weights in self.trained().items()}
        self.put_in_place()
        try:
            yield
        finally:
            for key, module in self.modules.items():
                module.load_state_dict(trained[key])

    def put_in_place(self) -> None:
        """Let the modules carry the average: they are measured from now on and trained no more."""
        assert self.weights is not None
        for key, module in self.modules.items():
            module.load_state_dict(self.weights[key])


def _copied(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in weights.items()}
