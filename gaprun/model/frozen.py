"""Parts of the towers that training leaves as they are (`model.freeze`): their parameters, and their layers' mode."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from typing import Literal

import torch
from torch import nn

from gaprun.errors import UserError
from gaprun.model.openclip import build
from gaprun.model.spec import Model
from gaprun.model.towers import model_config

Tower = Literal["image", "text"]
_IMAGE = "visual."
_SCALARS = ("logit_scale", "logit_bias")  # of neither tower: our head has its own


def freeze(clip: nn.Module, what: str | Sequence[str] | None) -> None:
    """Let the parameters that `what` (the recipe's `model.freeze`) names take no gradient.

    Raises UserError for a name that no part of `clip` has, and where nothing would be left to train.
    """
    for entry in [what] if isinstance(what, str) else what or ():
        found = [parameter for name, parameter in _named(clip) if _is_of(name, entry)]
        if not found:
            raise UserError(f"model.freeze: the model has no part {entry}{_hint(clip, entry)}")
        for parameter in found:
            parameter.requires_grad_(False)
    if what is not None and not any(parameter.requires_grad for _, parameter in _named(clip)):
        raise UserError("model.freeze: nothing of the towers is left to train; freeze one of them, or parts")


def training_mode(clip: nn.Module, what: str | Sequence[str] | None) -> None:
    """`clip.train()`, but every layer whose parameters are all frozen stays in evaluation mode with all in it.

    So running statistics of batch normalisation do not move there, and nothing is dropped. Call it after `freeze`.
    """
    clip.train()
    for module in clip.modules() if what is not None else ():
        own = list(module.parameters())
        if own and not any(parameter.requires_grad for parameter in own):
            module.eval()


def is_frozen(clip: nn.Module, tower: Tower) -> bool:
    """Whether every parameter of the tower is frozen, so that it makes the same of the same input in every step."""
    return not any(p.requires_grad for name, p in _named(clip) if _is_of(name, tower))


def tower_state(clip: nn.Module, tower: Tower) -> dict[str, torch.Tensor]:
    """The tower's part of `clip.state_dict()`."""
    return {name: value for name, value in clip.state_dict().items() if _is_of(name, tower)}


def trained_parameters(model: Model) -> int:
    """Parameters that a recipe's model leaves to train, counted without memory or a network. Raises UserError for what
    `model.freeze` names and the model has not."""
    with torch.device("meta"):
        clip = build(model_config(model), {})
    freeze(clip, model.freeze)
    return sum(parameter.numel() for parameter in clip.parameters() if parameter.requires_grad)


def _named(clip: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    """The towers' parameters, one that both share under each of its names."""
    for name, parameter in clip.named_parameters(remove_duplicate=False):
        if name not in _SCALARS:
            yield name, parameter


def _is_of(name: str, entry: str) -> bool:
    """Whether parameter or buffer `name` belongs to `entry`: a tower, or a dotted name with all below it."""
    if entry in ("image", "text"):
        return name not in _SCALARS and name.startswith(_IMAGE) == (entry == "image")
    return name == entry or name.startswith(f"{entry}.")


def _hint(clip: nn.Module, entry: str) -> str:
    parts = dict.fromkeys(
        ".".join(name.split(".")[: k + 1]) for name, _ in _named(clip) for k in range(name.count(".") + 1)
    )
    near = difflib.get_close_matches(entry, parts, 1, 0.5)
    return f"; did you mean {near[0]}?" if near else "; name image, text, or parts such as visual.conv1"
