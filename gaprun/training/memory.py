"""What a step keeps for its backward pass, counted without memory or GPU: the towers run on tensors without values."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd.graph import saved_tensors_hooks

from gaprun.model.frozen import freeze, training_mode
from gaprun.model.towers import build_towers
from gaprun.recipe.schema import Recipe


def activation_bytes(recipe: Recipe, pairs: int | None = None) -> int:
    """Bytes that one step of `recipe` keeps between forward and backward pass in one process, weights left out.

    pairs: those of the batch that this process embeds; None for all.

    Counted for captions of the full context and attention that keeps its matrices, so rather too much; kernels' work
    space and what an allocator leaves unused come on top. The `used` vocabulary counts as full.
    """
    pairs = pairs or recipe.schedule.batch_size
    kept: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage()._cdata] = tensor
        return tensor

    weights = run_without_values(recipe, min(recipe.compute.micro_batch or pairs, pairs), keep)
    return sum(t.untyped_storage().nbytes() for key, t in kept.items() if key not in weights)


def run_without_values(
    recipe: Recipe, rows: int, keep: Callable[[Tensor], Tensor] = lambda tensor: tensor
) -> set[int]:
    """Run the towers on `rows` pairs without values; what is saved for a backward pass goes through `keep`. Returns the
    numbers of the weights' storages."""
    kind = _device_kind()
    with torch.device("meta"):
        towers = build_towers(recipe.model.model_copy(update={"pretrained": None}))
    with FakeTensorMode(allow_non_fake_inputs=True):
        clip = towers.clip
        _move(clip, kind)
        freeze(clip, recipe.model.freeze)
        training_mode(clip, recipe.model.freeze)
        weights = {p.untyped_storage()._cdata for p in clip.parameters()}
        size = towers.image_size
        images = torch.empty(rows, 3, size, size, device=kind)
        if recipe.compute.channels_last:
            images = images.contiguous(memory_format=torch.channels_last)
        tokens = torch.empty(rows, towers.context_length, dtype=torch.int64, device=kind)
        with _autocast(kind, recipe.compute.precision), saved_tensors_hooks(keep, lambda tensor: tensor):
            features = clip.encode_image(images), towers.encode_text(tokens)
        del features
        return weights


def _device_kind() -> str:
    """cuda where that can be: what is cast, and to what, differs a little (the CPU's count is up to a tenth lower).

    Before torch 2.10 tensors without values on a GPU ask the driver, and abort the process where there is none.
    """
    can = torch.__version__ >= "2.10" or torch.cuda.is_available()
    return "cuda" if torch.backends.cuda.is_built() and can else "cpu"


def _move(module: nn.Module, kind: str) -> None:
    """Put parameters and buffers on `kind`, without values; what parts share stays shared (`to_empty` fails on it)."""
    moved: dict[Any, Any] = {}
    for part in module.modules():
        for values in (part._parameters, part._buffers):
            for name, value in values.items():
                if value is not None and value not in moved:
                    empty = torch.empty_like(value, device=kind)
                    learned = isinstance(value, nn.Parameter)
                    moved[value] = nn.Parameter(empty, value.requires_grad) if learned else empty
                values[name] = moved.get(value)


@contextmanager
def _autocast(kind: str, precision: str) -> Iterator[None]:
    """torch.autocast, which would look for the GPU first."""
    before = torch.is_autocast_enabled(kind), torch.get_autocast_dtype(kind)
    torch.set_autocast_enabled(kind, precision != "fp32")
    torch.set_autocast_dtype(kind, torch.float16 if precision == "fp16" else torch.bfloat16)
    try:
        yield
    finally:
        torch.set_autocast_enabled(kind, before[0])
        torch.set_autocast_dtype(kind, before[1])
        torch.clear_autocast_cache()


def card_gib() -> float | None:
    """Memory of the smallest GPU here in GiB, None where there is none."""
    if not torch.cuda.is_available():
        return None
    cards = [torch.cuda.get_device_properties(k) for k in range(torch.cuda.device_count())]
    return min(card.total_memory for card in cards) / 2**30
