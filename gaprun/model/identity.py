"""What a measured model is: one value that everything asks which keeps, finds or skips a number of it.

Two models are the same when their weights, architecture (activation, sizes, pooling: open_clip's whole
configuration), picture settings, tokenizer and vocabulary are, and they ran in the same precision on the same kind of
device. The weights' hash alone does not tell: the same weights under another activation give other numbers.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch

from gaprun.files import content_hash

if TYPE_CHECKING:
    from gaprun.model.towers import Towers

PRECISIONS = {torch.float32: "fp32", torch.float16: "fp16", torch.bfloat16: "bf16", torch.float64: "fp64"}


@dataclass(frozen=True)
class ModelIdentity:
    """All that decides a model's embeddings of given pictures and texts; plain values only.

    weights: sha256 of all tensors by name. architecture: `openclip.canonical`. preprocessing: open_clip's settings.
    tokenizer: `tokenizer_identity`, with the vocabulary's hash. device: kind, such as `cuda`. precision: of the
    arithmetic, such as `fp32`.
    """

    weights: str
    architecture: Mapping[str, Any]
    preprocessing: Mapping[str, Any]
    tokenizer: Mapping[str, Any]
    device: str = "cpu"
    precision: str = "fp32"

    @cached_property
    def model_hash(self) -> str:
        """sha256 of everything: what an embedding or an evaluation belongs to."""
        return content_hash(json.loads(json.dumps(asdict(self))))

    @cached_property
    def model(self) -> dict[str, Any]:
        """The model wherever it runs: everything but device and precision, as plain values."""
        found = json.loads(json.dumps(asdict(self)))
        return {name: found[name] for name in ("weights", "architecture", "preprocessing", "tokenizer")}

    @property
    def model_id(self) -> str:
        """The first eight digits of `model`'s hash, for names."""
        return content_hash(self.model)[:8]

    @property
    def ran_on(self) -> str:
        """Device and precision in words, `cpu fp32`."""
        return f"{self.device} {self.precision}"


def identity_of(towers: Towers, weights: str, device: torch.device | str = "cpu") -> ModelIdentity:
    """The identity of `towers` whose weights have the hash `weights`, measured on `device`."""
    device = torch.device(device)
    vocabulary = towers.vocabulary
    kept = None if vocabulary is None else content_hash([vocabulary.full_size, vocabulary.ids])
    tokenizer = tokenizer_identity(towers.tokenizer, towers.context_length) | {"vocabulary": kept}
    return ModelIdentity(
        weights=weights,
        architecture=towers.architecture,
        preprocessing=towers.preprocessing,
        tokenizer=tokenizer,
        device=device.type,
        precision=precision_of(towers, device),
    )


def precision_of(towers: Towers, device: torch.device) -> str:
    """The weights' type, with `-tf32` where a GPU may round products of fp32; what measuring was told to run in."""
    kind = next(towers.clip.parameters()).dtype
    rounded = device.type == "cuda" and (
        torch.backends.cudnn.allow_tf32 or torch.backends.cuda.matmul.allow_tf32
    )
    found = PRECISIONS.get(kind, str(kind)) + ("-tf32" if rounded and kind == torch.float32 else "")
    found = f"{towers.autocast}-autocast" if towers.autocast else found
    return f"{found} channels-last" if towers.channels_last else found


def tokenizer_identity(tokenizer: Callable[..., Any], context_length: int) -> dict[str, Any]:
    """Kind, context length, settings and content hash of a tokenizer: equal values give equal ids for every text."""
    settings = {
        name: _name(value) if callable(value) else value
        for name, value in sorted(vars(tokenizer).items())
        if value is None or isinstance(value, str | int | float | bool) or callable(value)
    }
    settings.pop("tokenizer", None)  # the inner one of another library: its content is below
    settings.pop("context_length", None)  # every call is told the one that is used
    return {
        "kind": type(tokenizer).__name__,
        "context_length": context_length,
        "settings": settings,
        "content": _content(tokenizer),
    }


def _name(function: Callable[..., Any]) -> str:
    if isinstance(function, functools.partial):
        return f"{_name(function.func)} {function.args} {sorted(function.keywords.items())}"
    return str(getattr(function, "__name__", type(function).__name__))


def _content(tokenizer: Any) -> str:
    inner = getattr(tokenizer, "tokenizer", tokenizer)
    backend = getattr(inner, "backend_tokenizer", None)
    if backend is not None:
        text = backend.to_str()
    elif hasattr(inner, "get_vocab"):
        text = json.dumps(sorted(inner.get_vocab().items()))
    else:
        text = json.dumps([*getattr(inner, "encoder", {}).items()])
    return hashlib.sha256(text.encode()).hexdigest()
