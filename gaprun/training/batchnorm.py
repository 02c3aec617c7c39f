"""Batch normalisation when a batch is spread over processes or taken in chunks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from gaprun.errors import UserError
from gaprun.runtime.distributed import World

PLAIN = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


class SyncedBatchNorm(_BatchNorm):
    """Batch normalisation with the mean and variance of all processes' rows, for any device.

    torch's SyncBatchNorm is CUDA only. Parameters, buffers and their names are those of the layer it stands for, and
    so is the result of one process with all the rows, up to rounding.
    """

    world: World

    def _check_input_dim(self, input: Tensor) -> None:
        if input.ndim < 2:
            raise ValueError(f"expected at least two dimensions, got {input.ndim}")

    def forward(self, input: Tensor) -> Tensor:
        """Normalise (B, C, ...) over all dimensions but C."""
        if not self.training:
            return super().forward(input)
        x = input.to(torch.promote_types(input.dtype, torch.float32))
        others = [k for k in range(x.ndim) if k != 1]
        shape = [1, -1] + [1] * (x.ndim - 2)
        count = x.numel() // x.shape[1] * self.world.size
        mean = self.world.summed(x.sum(others)) / count
        centred = x - mean.view(shape)
        variance = self.world.summed(centred.square().sum(others)) / count
        if self.track_running_stats:
            self._track(mean.detach(), variance.detach() * (count / max(count - 1, 1)))
        y = centred * (variance + self.eps).rsqrt().view(shape)
        if self.affine:
            y = y * self.weight.view(shape) + self.bias.view(shape)
        return y.to(input.dtype)

    @torch.no_grad()
    def _track(self, mean: Tensor, variance: Tensor) -> None:
        assert self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        share = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        for running, seen in ((self.running_mean, mean), (self.running_var, variance)):
            if running is not None:
                running.mul_(1 - share).add_(seen.to(running.dtype), alpha=share)


class UnwaitingBatchNorm(nn.SyncBatchNorm):
    """torch's SyncBatchNorm without the wait for the GPU that every layer makes to leave out processes without rows.

    Ours all have rows. torch makes no such wait where a stream is captured into a graph, and is told so here.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Normalise (B, C, ...) over all dimensions but C and over all processes."""
        before = torch.cuda.is_current_stream_capturing
        torch.cuda.is_current_stream_capturing = lambda: True
        try:
            return super().forward(input)
        finally:
            torch.cuda.is_current_stream_capturing = before


def synchronised(module: nn.Module, world: World, device: torch.device) -> nn.Module:
    """`module` with every batch normalisation taking its statistics over `world`.

    CUDA takes torch's SyncBatchNorm, whose kernels are fused, the CPU ours. Raises UserError for a variant that
    neither can stand for.
    """
    if isinstance(module, _BatchNorm) and not isinstance(module, nn.SyncBatchNorm):
        return _replacement(module, world, device)
    for name, child in list(module.named_children()):
        setattr(module, name, synchronised(child, world, device))
    return module


def _replacement(module: _BatchNorm, world: World, device: torch.device) -> nn.Module:
    if type(module) not in PLAIN:
        raise UserError(
            f"model: its {type(module).__name__} takes statistics over the batch in a way of its own, which several "
            "processes cannot share; train it on one process"
        )
    if device.type == "cuda":
        new = nn.SyncBatchNorm.convert_sync_batchnorm(module)
        new.__class__ = UnwaitingBatchNorm
        return new
    new = SyncedBatchNorm(
        module.num_features, module.eps, module.momentum, module.affine, module.track_running_stats
    )
    new.world = world
    new.weight, new.bias = module.weight, module.bias
    new.running_mean, new.running_var = module.running_mean, module.running_var
    new.num_batches_tracked = module.num_batches_tracked
    return new.train(module.training)


@contextmanager
def statistics_kept(module: nn.Module) -> Iterator[None]:
    """Inside the block, forward passes leave the running means and variances as they are."""
    tracking = [m for m in module.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]
    for layer in tracking:
        layer.track_running_stats = False
    try:
        yield
    finally:
        for layer in tracking:
            layer.track_running_stats = True
