"""The device cache of a run: whether it fits, filled before the first step, and each step's batch made whole."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch

from gaprun.data.cache import HEADROOM, free_memory
from gaprun.data.parallel import Progress
from gaprun.data.resample import Pictures, cropped
from gaprun.data.resident import Holding, ResidentBatches, decode_into
from gaprun.data.stream import Batch, LoadBatch
from gaprun.errors import UserError
from gaprun.training.memory import activation_bytes
from gaprun.training.state import TrainState

GIB = 2**30


def filled(load: LoadBatch, state: TrainState, threads: int, progress: Progress) -> ResidentBatches:
    """The pictures of `load` decoded onto the state's device, this process's part of them.

    Every process calls this. Raises UserError, before anything is decoded, where a part does not fit.
    """
    world, pool = state.world, load.plan.pool
    holding = Holding.of(pool.kept, world.size)
    world.together(lambda: check_room(holding.size(world.rank), state))

    def fill() -> tuple[torch.Tensor, dict[int, str]]:
        pixels = torch.empty(holding.size(world.rank), dtype=torch.uint8, device=state.device)
        return pixels, decode_into(pixels, pool, holding.part(world.rank), threads, progress)

    pixels, damaged = world.together(fill)
    damage = {index: why for part in world.collect(damaged) for index, why in part.items()}
    return ResidentBatches(load, holding, pixels, world.rank, damage)


def resident_stream(resident: ResidentBatches, start: int, stop: int) -> Iterator[Batch]:
    """Batches of steps start..stop-1 in order; what travels to a GPU is pinned."""
    for step in range(start, stop):
        batch = resident.batch(step)
        yield batch.pin_memory() if resident.pixels.is_cuda else batch


def brought(batch: Batch, state: TrainState) -> Batch:
    """`batch` with the pictures of this process's rows: cropped by who holds them and sent. All processes call this."""
    if batch.travel is None:
        return batch
    assert isinstance(batch.pictures, Pictures)
    size, travel = state.towers.image_size, batch.travel
    crops = cropped(batch.pictures, size, state.encoding.interpolation)
    found = state.world.exchanged(crops, travel.sent, travel.received)
    count = len(found)
    whole = torch.tensor([0, 0, size, size]).expand(count, 4)
    pictures = Pictures(
        found.view(-1), travel.places * (3 * size * size), torch.full((count, 2), size), whole
    )
    return replace(batch, pictures=pictures, travel=None)


def check_room(size: int, state: TrainState) -> None:
    """Raise UserError where `size` bytes of pictures, and what a step takes beside them, do not fit on the device."""
    device = state.device
    if device.type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        free, step = torch.cuda.mem_get_info(device)[0] + unused, _step_bytes(state)
    else:
        free, step = int(HEADROOM * free_memory()), 0
    if size + step > free:
        beside = f" and about {step / GIB:.1f} GiB of a step" if step else ""
        fewer = "" if device.type != "cuda" else ", compute.micro_batch to less"
        raise UserError(
            f"data.cache: device: {size / GIB:.1f} GiB of decoded pictures{beside} do not fit into the "
            f"{free / GIB:.1f} GiB that are free on {device}; set data.cache to memory or disk{fewer}, or train in "
            "more processes, which share the pictures out"
        )


def _step_bytes(state: TrainState) -> int:
    """What a step of one process keeps beside the weights, which are on the device already: gradients, the optimiser's
    two moments, activations where they can be counted."""
    trained = sum(4 * parameter.numel() for parameter in state.towers.clip.parameters())
    try:
        kept = activation_bytes(state.recipe, state.rows.stop - state.rows.start)
    except Exception:  # a model of another package that does not run without values
        kept = 0
    return 3 * trained + kept
