"""Loader processes: how they are started, and what their death is called."""

from __future__ import annotations

import mmap
import multiprocessing
import multiprocessing.context
from collections.abc import Callable, Iterator
from pickle import UnpicklingError
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch

from gaprun.errors import Failure

Item = TypeVar("Item")


class LoaderLost(Failure):
    """A loader process, or the thread that pins what it loaded, ended before its work did."""


class HandedOver:
    """A large array on its way into a process that is not forked: named by its file, or lying in shared memory."""

    def __init__(self, array: npt.NDArray[Any]) -> None:
        self.place: tuple[Any, ...] | None = None
        self.shared: torch.Tensor | None = None
        if isinstance(array, np.memmap) and isinstance(array.base, mmap.mmap):  # whole, not a part of one
            self.place = (array.filename, array.dtype.str, "r", array.offset, array.shape)
        else:
            self.shared = torch.from_numpy(np.ascontiguousarray(array)).share_memory_()

    def array(self) -> npt.NDArray[Any]:
        """The array, in the other process."""
        if self.place is not None:
            return np.memmap(*self.place)
        assert self.shared is not None
        return self.shared.numpy()


def loader_context() -> multiprocessing.context.BaseContext:
    """How loader processes start: forked, which shares what is loaded already; from a clean server process once CUDA is
    in use here, whose context no forked process may touch."""
    if not torch.cuda.is_initialized():
        return multiprocessing.get_context("fork")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["gaprun.data.stream"])
    return context


def watched(items: Iterator[Item], workers: int, way_out: Callable[[], str]) -> Iterator[Item]:
    """`items` of `workers` loader processes; the death of one becomes a LoaderLost that ends with `way_out()`.

    torch tells of a dead loader, or thread that pins, by a RuntimeError, or what was about to be handed over is a
    broken connection.
    """
    try:
        yield from items
    except (RuntimeError, OSError, EOFError, UnpicklingError) as error:
        told = str(error).lower()
        lost = "dataloader worker" in told or "pin memory thread" in told
        if not workers or (isinstance(error, RuntimeError) and not lost):
            raise
        raise LoaderLost(f"a loader process was killed (out of memory?); {way_out()}") from None
