"""Weights as files hold them: read without running code, their names freed of what wrappers put before them, and put
into a model only where each of them has its place."""

from __future__ import annotations

import argparse
import re
import zipfile
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from open_clip.convert import convert_state_dict
from open_clip.model import convert_to_custom_text_state_dict
from open_clip.transformer import QuickGELU
from safetensors.torch import load_file
from torch import Tensor, nn

from gaprun.errors import UserError
from gaprun.files import beginning

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
_PLACES = ("state_dict", "model_state_dict", "model", "module")  # the last is DeepSpeed's
_TOWER = re.compile(r"((?:[^.]+\.)*?)visual\.")  # every open_clip model has an image tower of this name
_OPENAI = {
    "input_resolution",
    "context_length",
    "vocab_size",
}  # numbers beside the weights that OpenAI published


def read_tensors(path: Path) -> dict[str, Any]:
    """A dictionary saved by torch or safetensors, loaded on the CPU without running code from the file.

    Raises UserError when it is missing, damaged or holds something else.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such checkpoint file")
    _refuse_other_kinds(path)
    try:
        if path.suffix == ".safetensors":
            return dict(load_file(path))
        with torch.serialization.safe_globals(_SAFE):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        code = re.search(r"GLOBAL ([\w.]+)", str(error))
        inside = f": it holds a {code[1]}; save the model's state_dict() alone" if code else ""
        raise UserError(f"{path}: damaged, or not a checkpoint that can be loaded safely{inside}") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: not a checkpoint: it holds {type(content).__name__}, not named tensors")
    return content


def _refuse_other_kinds(path: Path) -> None:
    if beginning(path).startswith(b"version https://git-lfs"):
        raise UserError(f"{path}: a Git LFS pointer and not the weights: fetch them with `git lfs pull`")
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            script = any(name.endswith("/constants.pkl") for name in archive.namelist())
        if script:
            raise UserError(
                f"{path}: a TorchScript archive, whose code is not run: save its state_dict() with torch.save; "
                "OpenAI's models are --ckpt ViT-B-32/openai and the like"
            )


def model_state(
    content: Mapping[str, Any], path: Path, remarks: list[str] | None = None
) -> dict[str, Tensor]:
    """The model's tensors in a checkpoint of another program, or in bare weights, by the model's own names.

    What else could have been meant, or was left out (an average, a teacher, a loss), is said in `remarks`. Raises
    UserError where there are none, two have one name, or several models are in one.
    """
    remarks = [] if remarks is None else remarks
    sets = {name: value for name, value in content.items() if _is_state(value)}
    place = next((name for name in _PLACES if name in sets), None)
    if place is None and not _is_state(content):
        held = f"; it holds weights under {', '.join(sets)}: save one of them alone" if sets else ""
        raise UserError(f"{path}: neither a gaprun checkpoint nor weights of an open_clip model{held}")
    found: dict[str, Tensor] = {}
    for name, value in (content if place is None else sets[place]).items():
        own = plain_tensor_name(name)
        if own in found:
            raise UserError(f"{path}: holds {own} twice, once as {name}: which is meant cannot be known")
        found[own] = value
    others = [name for name in sets if name != place and {*map(plain_tensor_name, sets[name])} & found.keys()]
    if others:
        remarks.append(
            f"{path}: those under {place} are taken; it holds weights under {', '.join(others)} too"
        )
    return _unwrapped(found, path, remarks)


def _is_state(value: Any) -> bool:
    return (
        isinstance(value, Mapping)
        and bool(value)
        and all(isinstance(name, str) and isinstance(one, Tensor) for name, one in value.items())
    )


def _unwrapped(state: dict[str, Tensor], path: Path, remarks: list[str]) -> dict[str, Tensor]:
    """`state` without the name that a module around the model (Lightning's `model.`) put before all of the model's."""
    fronts = {match[1] for name in state if (match := _TOWER.match(name))}
    if not fronts or "" in fronts:
        return state
    if len(fronts) > 1:
        named = ", ".join(sorted(front.rstrip(".") for front in fronts))
        raise UserError(f"{path}: holds several models ({named}): save the state_dict of one of them alone")
    front = fronts.pop()
    left = [name for name in state if not name.startswith(front)]
    more = f" and {len(left) - 1} more" if len(left) > 1 else ""
    beside = f"; left out beside it: {left[0]}{more}" if left else ""
    remarks.append(f"{path}: the model is what stands under {front.rstrip('.')}{beside}")
    return {name.removeprefix(front): value for name, value in state.items() if name.startswith(front)}


def plain_tensor_name(name: str) -> str:
    """`name` without the prefixes of torch.compile, DistributedDataParallel and the like, in any combination."""
    before = None
    while before != name:
        before, name = name, _IN_FRONT.sub("", _ANYWHERE.sub("", name))
    return name


def has_custom_text(state: Mapping[str, Tensor]) -> bool:
    """Whether these weights are of open_clip's CustomTextCLIP, which keeps the text tower under `text.`."""
    return any(name.startswith("text.") for name in state)


def are_openai(state: Mapping[str, Tensor]) -> bool:
    """Whether these are OpenAI's own weights, which were trained with QuickGELU."""
    return state.keys() >= _OPENAI


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
    if are_openai(state):
        if not any(isinstance(part, QuickGELU) for part in clip.modules()):
            raise UserError(
                f"{complaint} (they are OpenAI's, trained with QuickGELU: name an architecture with it)"
            )
        for name in _OPENAI:
            del state[name]
    for name, value in state.items():
        if name in known and known[name].is_floating_point() and not value.is_floating_point():
            raise UserError(f"{complaint} ({name} is {value.dtype}: quantised weights are not loaded)")
    if misfits := _misfits(known, state):
        raise UserError(f"{complaint} ({misfits})")
    clip.load_state_dict(state)


def _misfits(known: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> str:
    """What does not fit by name and shape, the first of each kind by name; "" where all does."""
    found = {
        "missing": [name for name in known if name not in state],
        "unknown": [name for name in state if name not in known],
        "of another shape": [n for n in known if n in state and state[n].shape != known[n].shape],
    }
    return "; ".join(f"{kind}: {_first(names)}" for kind, names in found.items() if names)


def _first(names: Sequence[str]) -> str:
    return names[0] + (f" and {len(names) - 1} more" if len(names) > 1 else "")
