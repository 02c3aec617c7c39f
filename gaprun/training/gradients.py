"""Gradients added up over a run's processes while the backward pass runs, by torch's DistributedDataParallel.

Exact resume asks for the same sums in the same order in every step, so the buckets in which gradients travel must stay
what they were at the start. DistributedDataParallel rebuilds them after its first backward pass, unless it looks in
every step for parameters without gradient (half a millisecond for a RN50): so it does here.
"""

# Annotations stay values in this file: torch compares those of a communication hook with its own types.
from collections.abc import Callable, Iterable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from gaprun.runtime.distributed import World

Through = Callable[[Callable[[], Any]], Any]
BUCKET_MB = 25.0  # torch's own default


def adding_up(parameters: Iterable[nn.Parameter], world: World) -> Through:
    """What a step calls its forward pass through, `through(forward)`, so that the backward pass from its tensors ends
    with the sum over all processes in every gradient of `parameters`.

    Gradients that are there before, of passes that were not called through it, are part of the sum. A parameter that
    no process has used keeps no gradient. Buckets are filled in the reverse order of `parameters`. Every process makes
    it and calls it at the same time. Alone it is the forward pass itself.
    """
    if world.size == 1:
        return lambda forward: forward()
    shared = DistributedDataParallel(
        _Anything(parameters),
        bucket_cap_mb=BUCKET_MB,
        find_unused_parameters=True,
        gradient_as_bucket_view=True,
    )
    shared.register_comm_hook(None, _sum)
    return shared


def _sum(state: object, bucket: dist.GradBucket) -> torch.futures.Future[Tensor]:
    """The sum over the processes, for which torch would put the mean."""
    work = dist.all_reduce(bucket.buffer(), async_op=True)
    return work.get_future().then(lambda done: done.value()[0])


class _Anything(nn.Module):
    """Parameters without the modules they are of (whose buffers would be sent too), and any function as forward pass.

    spare: in no forward pass. Where all are used, torch prints its advice against looking for those that are not, in
    every process. Its gradient of 0 made here tells the others' that it is used elsewhere: else they would ask each
    other and wait for the GPU.
    """

    def __init__(self, parameters: Iterable[nn.Parameter]) -> None:
        super().__init__()
        self.held = nn.ParameterList(parameters)
        self.spare = nn.Parameter(torch.zeros(1, device=self.held[0].device))

    def forward(self, forward: Callable[[], Any]) -> Any:
        (0 * self.spare).sum().backward()
        return forward()
