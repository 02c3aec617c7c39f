"""Weights as files hold them: read without running code, their names freed of what wrappers put before them, and put
into a model only where each of them has its place."""

from __future__ import annotations

import argparse
import re
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from open_clip.convert import convert_state_dict
from open_clip.model import convert_to_custom_text_state_dict
from safetensors.torch import load_file
from torch import Tensor, nn

from gaprun.errors import UserError

# Put before names by torch.compile, FullyShardedDataParallel and activation checkpointing, at any level; by
# DataParallel and DistributedDataParallel at the front only (`module` may be a name of its own further on).
_ANYWHERE = re.compile(r"(?:^|(?<=\.))(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
_IN_FRONT = re.compile(r"^(?:module\.)+")
# Numbers and plain settings that training loops save beside the tensors; none of these runs code when it is loaded.
_SAFE: list[Any] = [
    argparse.Namespace,
    np.dtype,
    np.ndarray,
    *(getattr(np.dtypes, name) for name in np.dtypes.__all__),
    *(
        (value, f"{module}.{name}")
        for name, value in (
            ("scalar", np._core.multiarray.scalar),  # type: ignore[attr-defined]
            ("_reconstruct", np._core.multiarray._reconstruct),  # type: ignore[attr-defined]
        )
        for module in ("numpy._core.multiarray", "numpy.core.multiarray")
    ),
]
_PLACES = ("state_dict", "model_state_dict", "model")


def read_tensors(path: Path) -> dict[str, Any]:
    """A dictionary saved by torch or safetensors, loaded on the CPU without running code from the file.

    Raises UserError when it is missing, damaged or holds something else.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such checkpoint file")
    try:
        if path.suffix == ".safetensors":
            return dict(load_file(path))
        with torch.serialization.safe_globals(_SAFE):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception:
        raise UserError(f"{path}: damaged, or not a checkpoint that can be loaded safely") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: not a checkpoint: it holds {type(content).__name__}, not named tensors")
    return content


def model_state(content: Mapping[str, Any], path: Path) -> dict[str, Tensor]:
    """The model's tensors in a checkpoint of another program, or in bare weights, by the model's own names.

    Raises UserError where there are none, or two have one name.
    """
    state: Any = next((content[name] for name in _PLACES if isinstance(content.get(name), dict)), content)
    if not state or not all(isinstance(name, str) and isinstance(v, Tensor) for name, v in state.items()):
        raise UserError(f"{path}: neither a gaprun checkpoint nor weights of an open_clip model")
    found: dict[str, Tensor] = {}
    for name, value in state.items():
        own = plain_tensor_name(name)
        if own in found:
            raise UserError(f"{path}: holds {own} twice, once as {name}: which is meant cannot be known")
        found[own] = value
    return found


def plain_tensor_name(name: str) -> str:
    """`name` without the prefixes of torch.compile, DistributedDataParallel and the like, in any combination."""
    before = None
    while before != name:
        before, name = name, _IN_FRONT.sub("", _ANYWHERE.sub("", name))
    return name


def has_custom_text(state: Mapping[str, Tensor]) -> bool:
    """Whether these weights are of open_clip's CustomTextCLIP, which keeps the text tower under `text.`."""
    return any(name.startswith("text.") for name in state)


def load_weights(clip: nn.Module, state: Mapping[str, Tensor], complaint: str) -> None:
    """Put `state` into `clip`; every name and shape must fit, as nothing is resized or left out in silence.

    Names of known other releases (OpenAI's, SigLIP's, MobileCLIP's) are translated as open_clip does it. A scalar may
    be stored as one number in a list. Raises UserError with `complaint` and the first that does not fit.
    """
    state = OrderedDict(convert_state_dict(clip, dict(state)))
    if "positional_embedding" in state and not hasattr(clip, "positional_embedding"):
        state = OrderedDict(convert_to_custom_text_state_dict(state))
    known = clip.state_dict()
    for name in ("logit_scale", "logit_bias"):
        if name in state and name in known and state[name].numel() == 1:
            state[name] = state[name].reshape(known[name].shape)
    if "logit_bias" in known and "logit_bias" not in state:  # not part of any embedding; open_clip's own rule
        state["logit_bias"] = torch.zeros_like(known["logit_bias"])
    stale = "text.transformer.embeddings.position_ids"  # a buffer that older transformers saved
    if stale in state and stale not in known:
        del state[stale]
    try:
        clip.load_state_dict(state)
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).splitlines()[1:]]
        raise UserError(f"{complaint} ({(lines or ['?'])[0][:160]})") from None
