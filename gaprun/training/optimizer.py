"""AdamW's parameter groups and the learning rate as a pure function of the step, so that resuming is exact."""

from __future__ import annotations

import math

import torch
from torch import nn

from gaprun.recipe.schema import Optimizer
from gaprun.training.head import Head


def parameter_groups(
    clip: nn.Module, head: Head, settings: Optimizer, lr_factor: float
) -> list[dict[str, object]]:
    """Up to four groups: `matrices` (decayed), `vectors` (biases, gains), `temperature` and `terms`, not decayed.

    `temperature` is nu and the loss's own parameters; its rate is lr x temperature_lr_factor x `lr_factor` (the
    method's own, SLRT). `terms` is what the loss's terms learn. `settings.decay: all` decays every group.
    """
    trained = [p for p in clip.parameters() if p.requires_grad]
    factor = settings.temperature_lr_factor * lr_factor
    elsewhere = settings.weight_decay if settings.decay == "all" else 0.0
    groups: list[dict[str, object]] = [
        {
            "name": "matrices",
            "params": [p for p in trained if p.ndim >= 2],
            "weight_decay": settings.weight_decay,
            "factor": 1.0,
        },
        {
            "name": "vectors",
            "params": [p for p in trained if p.ndim < 2],
            "weight_decay": elsewhere,
            "factor": 1.0,
        },
        {
            "name": "temperature",
            "params": head.beside_temperature(),
            "weight_decay": elsewhere,
            "factor": factor,
        },
        {
            "name": "terms",
            "params": list(head.terms.parameters()),
            "weight_decay": elsewhere,
            "factor": 1.0,
        },
    ]
    return [group for group in groups if group["params"]]


def build_optimizer(clip: nn.Module, head: Head, settings: Optimizer, lr_factor: float) -> torch.optim.AdamW:
    """AdamW over `parameter_groups`, each update in one fused pass over the memory."""
    return torch.optim.AdamW(
        parameter_groups(clip, head, settings, lr_factor),
        lr=settings.lr,
        betas=settings.betas,
        eps=settings.eps,
        fused=True,
    )


def learning_rate(step: int, total: int, warmup: int, peak: float, shape: str = "cosine") -> float:
    """`peak * (step+1)/warmup` while warming up; then, by `shape`, half a cosine from peak towards 0, a line, or peak.

    The first is open_clip's `cosine`, the last its `const`.
    """
    if step < warmup:
        return peak * (step + 1) / warmup
    progress = (step - warmup) / max(total - warmup, 1)
    if shape == "constant":
        return peak
    return peak * (1 - progress) if shape == "linear" else 0.5 * peak * (1 + math.cos(math.pi * progress))


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set every group's rate to `rate` times the group's factor."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["factor"]
