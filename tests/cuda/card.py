"""A graphics card without the card: torch's fake tensors on `cuda`, watched for what a real one would refuse or regret.

Fake tensors have shapes, types and devices, but no values, so a step of any size takes seconds; the host's own tensors
are real. Fake ones fail by themselves where devices are mixed. The watch over them fails at products of mixed types, at
operations that deterministic mode refuses on CUDA, at CPU tensors that an operation would have to fetch, and at hidden
waits: reading a value, copying back, or copying there from memory that is not pinned. `Watch.waiting()` allows waits
where a step is recorded or saved.

torch's autograd engine asks the driver for streams, so `run_backward` walks the same graph in Python.
"""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

aten = torch.ops.aten

# Operations without a deterministic CUDA kernel: torch's list under use_deterministic_algorithms, by aten's names.
REFUSED = {
    "_adaptive_avg_pool2d_backward",
    "_adaptive_avg_pool3d_backward",
    "adaptive_max_pool2d_backward",
    "avg_pool3d_backward",
    "fractional_max_pool2d_backward",
    "fractional_max_pool3d_backward",
    "max_unpool2d",
    "max_unpool3d",
    "upsample_linear1d_backward",
    "upsample_bilinear2d_backward",
    "upsample_bicubic2d_backward",
    "upsample_trilinear3d_backward",
    "_upsample_bilinear2d_aa_backward",
    "_upsample_bicubic2d_aa_backward",
    "reflection_pad1d_backward",
    "reflection_pad2d_backward",
    "reflection_pad3d_backward",
    "nll_loss2d_forward",
    "_ctc_loss_backward",
    "put",
    "put_",
    "histc",
    "median.dim",
    "nanmedian.dim",
    "grid_sampler_2d_backward",
    "grid_sampler_3d_backward",
    "kthvalue",
}
PRODUCTS = ("mm", "bmm", "addmm", "baddbmm", "convolution", "convolution_backward")
COPIES = ("_to_copy", "copy_", "copy")
READS = ("_local_scalar_dense", "equal", "is_nonzero")
GROWS = (
    "nonzero",
    "masked_select",
    "_unique2",
    "unique_dim",
    "unique_consecutive",
)  # of a length known only there


class HiddenWait(AssertionError):
    """The host would wait for the card where no step is recorded."""


class NotRepeatable(AssertionError):
    """Deterministic mode would refuse this operation on CUDA."""


class WrongDevice(AssertionError):
    """A tensor of the CPU takes part in work of the card."""


class MixedTypes(AssertionError):
    """Factors of one product differ in type, at which a real kernel stops."""


class Watch(TorchDispatchMode):
    """Sees every operation before fake tensors do; counts the waits that were allowed."""

    def __init__(self) -> None:
        super().__init__()
        self.pinned: dict[int, Tensor] = {}  # by storage, kept so that none takes another's place
        self.allowed, self.waits, self.seen = 0, 0, set[str]()

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Inside the block the host may wait."""
        self.allowed += 1
        try:
            yield
        finally:
            self.allowed -= 1

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if (
            func.namespace == "aten" and torch.is_inference_mode_enabled()
        ):  # there, operations come before they are taken apart
            with self:
                result = func.decompose(*args, **kwargs)
            if result is not NotImplemented:
                return result
        name = func.__name__.removesuffix(".default")
        packet = name.split(".")[0]
        tensors = [t for t in torch.utils._pytree.tree_leaves((args, kwargs)) if isinstance(t, Tensor)]
        on_card = any(t.device.type == "cuda" for t in tensors)
        if on_card:
            self.seen.add(packet)
        if packet == "is_pinned":
            return self._is_pinned(tensors[0])
        if packet == "_pin_memory":
            with _disable_current_modes():
                copied = tensors[0].clone()
            self.pinned[copied.untyped_storage()._cdata] = copied
            return copied
        if not any(isinstance(t, FakeTensor) for t in tensors) and _on_cpu(kwargs.get("device")):
            with _disable_current_modes():  # the host computes for real
                return func(*args, **kwargs)
        if on_card and (packet in REFUSED or name in REFUSED):
            raise NotRepeatable(name)
        if on_card and packet == "scatter_reduce_" and args[4] == "prod":
            raise NotRepeatable("scatter_reduce_ with prod")
        if packet in PRODUCTS and len({t.dtype for t in tensors}) > 1:
            raise MixedTypes(f"{name} of {', '.join(str(t.dtype) for t in tensors)}")
        if packet in READS:
            return self._read(packet, tensors[0])
        if on_card and packet in GROWS:
            self._wait(f"{packet} gives a length that only the card knows")
        if packet in COPIES:
            self._copied(packet, args, kwargs, tensors)
        elif on_card:
            for t in tensors:
                if t.device.type == "cpu" and t.ndim > 0:
                    raise WrongDevice(f"{name} of the card takes a CPU tensor of shape {tuple(t.shape)}")
        return func(*args, **kwargs)

    def _is_pinned(self, tensor: Tensor) -> bool:
        return tensor.untyped_storage()._cdata in self.pinned

    def _read(self, packet: str, tensor: Tensor) -> Any:
        """Every number of the card is 1, so that all is finite."""
        if tensor.device.type == "cuda":
            self._wait(f"{packet}: a value is read from the card")
        if packet != READS[0] or tensor.dtype is torch.bool:
            return True
        return 1.0 if tensor.dtype.is_floating_point else 1

    def _copied(self, packet: str, args: Any, kwargs: Any, tensors: list[Tensor]) -> None:
        if packet == "_to_copy":
            source, target = tensors[0], torch.device(kwargs.get("device") or tensors[0].device)
        else:
            source, target = args[1], args[0].device
        pair = (source.device.type, target.type)
        if pair == ("cuda", "cpu"):
            self._wait(f"{packet}: {tuple(source.shape)} are copied back from the card")
        elif pair == ("cpu", "cuda") and not self._is_pinned(source):
            self._wait(f"{packet}: {tuple(source.shape)} are copied from memory that is not pinned")

    def _wait(self, what: str) -> None:
        if not self.allowed:
            raise HiddenWait(what)
        self.waits += 1


def _on_cpu(device: Any) -> bool:
    return device is None or torch.device(device).type == "cpu"


class _Stream:
    def __init__(self, *given: Any, **named: Any) -> None: ...
    def wait_stream(self, other: Any) -> None: ...
    def synchronize(self) -> None: ...
    def __enter__(self) -> _Stream:
        return self

    def __exit__(self, *error: Any) -> None: ...


class _NoDriver(FakeTensorMode):
    avoid_device_init = True  # the driver is not asked, whether there is one or not


@contextmanager
def fake_card() -> Iterator[Watch]:
    """Inside the block there is one `cuda` device, of fake tensors; yields the watch over it.

    Real CPU tensors that come in become fake ones, so models may be built before.
    """
    watch = Watch()
    answers = {
        "torch.cuda.is_available": True,
        "torch.cuda.device_count": 1,
        "torch.cuda.current_device": 0,
        "torch.cuda.is_bf16_supported": True,
        "torch.cuda.empty_cache": None,
        "torch.cuda.synchronize": None,
        "torch.cuda.current_stream": _Stream(),
        "torch.cuda.stream": _Stream(),
        "torch.cuda.get_device_name": "fake card",
        "torch.cuda.manual_seed_all": None,
        "torch.cuda.amp.common.amp_definitely_not_available": False,
    }
    with ExitStack() as stack:
        # First: where there is no card the mode puts a guard in place that never asks the driver.
        stack.enter_context(_NoDriver(allow_non_fake_inputs=True))
        for place, answer in answers.items():
            stack.enter_context(patch(place, lambda *given, answer=answer, **named: answer))
        stack.enter_context(patch("torch.cuda.Stream", _Stream))
        stack.enter_context(patch("torch.Tensor.record_stream", lambda self, stream: None))
        stack.enter_context(patch("torch.Tensor.numpy", _zeros))
        stack.enter_context(patch("torch.Tensor.__array__", _zeros))
        stack.enter_context(patch("torch.autograd.backward", run_backward))
        stack.enter_context(patch("torch.Tensor.backward", run_backward))
        stack.enter_context(patch("torch.nn.Module.to", _moved))
        stack.enter_context(patch("copy.deepcopy", _copied_whole))
        stack.enter_context(watch)
        yield watch


def _copied_whole(value: Any, memo: Any = None, original: Any = copy.deepcopy) -> Any:
    """A deep copy of what still is on the CPU, in real tensors."""
    with _disable_current_modes():
        return original(value, memo)


def _zeros(self: Tensor, *given: Any) -> Any:
    """What numpy sees of a CPU tensor without values."""
    if self.device.type != "cpu":
        raise WrongDevice("numpy is given a tensor of the card")
    return np.zeros(tuple(self.shape), str(self.dtype).removeprefix("torch."))


def _moved(self: torch.nn.Module, *given: Any, **named: Any) -> torch.nn.Module:
    """`Module.to` without swapping parameters in place, which torch cannot with fake ones."""
    device, dtype, _, layout = torch._C._nn._parse_to(*given, **named)
    for module in self.modules():
        for kind in (module._parameters, module._buffers):
            for name, value in kind.items():
                if value is None:
                    continue
                moved = value.detach().to(device or value.device)
                if dtype is not None and moved.is_floating_point():
                    moved = moved.to(dtype)
                if layout is not None and moved.ndim == 4:
                    moved = moved.contiguous(memory_format=layout)
                trained = isinstance(value, torch.nn.Parameter)
                kind[name] = torch.nn.Parameter(moved, value.requires_grad) if trained else moved
    return self


def run_backward(
    tensors: Tensor | Sequence[Tensor],
    grads: Any = None,
    retain_graph: Any = None,
    create_graph: bool = False,
) -> None:
    """torch.autograd.backward in Python: gradients to leaves, with the engine's checks of shape, type and device."""
    tensors = [tensors] if isinstance(tensors, Tensor) else list(tensors)
    given = [None] * len(tensors) if grads is None else [grads] if isinstance(grads, Tensor) else list(grads)
    waiting: dict[Any, list[Tensor | None]] = {}
    roots = []
    with torch.no_grad():
        for tensor, grad in zip(tensors, given, strict=True):
            if tensor.grad_fn is None:
                continue
            _add(waiting, tensor.grad_fn, tensor.output_nr, torch.ones_like(tensor) if grad is None else grad)
            roots.append(tensor.grad_fn)
        for node in _in_order(roots):
            incoming = waiting.pop(node, None)
            if incoming is None:
                continue
            if hasattr(node, "variable"):
                leaf = node.variable
                _check(incoming[0], leaf, "the gradient of a parameter")
                leaf.grad = incoming[0] if leaf.grad is None else leaf.grad + incoming[0]
                continue
            outgoing = node(*incoming)
            outgoing = outgoing if isinstance(outgoing, tuple) else (outgoing,)
            for (following, number), grad in zip(node.next_functions, outgoing, strict=False):
                if following is not None and grad is not None:
                    _add(waiting, following, number, grad)


def _add(waiting: dict[Any, list[Tensor | None]], node: Any, number: int, grad: Tensor) -> None:
    wanted = node.variable if hasattr(node, "variable") else node._input_metadata[number]
    if tuple(grad.shape) != tuple(wanted.shape):
        grad = grad.sum_to_size(wanted.shape)
    if grad.dtype != wanted.dtype:
        grad = grad.to(wanted.dtype)
    _check(grad, wanted, f"a gradient of {type(node).__name__}")
    size = 1 if hasattr(node, "variable") else len(node._input_metadata)
    slots = waiting.setdefault(node, [None] * size)
    before = slots[number]
    slots[number] = grad if before is None else before + grad


def _check(grad: Any, wanted: Any, what: str) -> None:
    if torch.device(grad.device) != torch.device(wanted.device):
        raise WrongDevice(f"{what} is on {grad.device}, expected {wanted.device}")


def _in_order(roots: list[Any]) -> list[Any]:
    """All nodes behind `roots`, each before those that it feeds."""
    uses: dict[Any, int] = defaultdict(int)
    seen, stack = set(roots), list(dict.fromkeys(roots))
    while stack:
        for following, _ in stack.pop().next_functions:
            if following is not None:
                uses[following] += 1
                if following not in seen:
                    seen.add(following)
                    stack.append(following)
    ready = [node for node in dict.fromkeys(roots) if not uses[node]]
    order = []
    while ready:
        node = ready.pop()
        order.append(node)
        for following, _ in node.next_functions:
            if following is not None:
                uses[following] -= 1
                if not uses[following]:
                    ready.append(following)
    return order
