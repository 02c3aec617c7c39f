"""Processes that train one run together: who is who, and every word that they exchange (joining.py starts it).

The rest of the package asks a `World`; alone (`ALONE`) every exchange is the identity and nothing is initialised. What
is exchanged between hosts (flags, errors, file names, embeddings) goes over gloo on the CPU and never waits for a GPU;
features and gradients go over the device's own backend (nccl on CUDA, gloo on the CPU). How gradients are added up is
in training/gradients.py.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from gaprun.errors import Failure, GaprunError, UserError
from gaprun.runtime.events import LostProcess

T = TypeVar("T")
# Only for a process that hangs: one that ends is noticed at once. In a step all arrive together, but for a checkpoint
# that waits for a disk or a loader for a server; elsewhere the others wait for the first, which may measure for long.
PATIENCE = timedelta(hours=2)
STEP_PATIENCE = timedelta(minutes=10)
PATIENCE_NAME = "GAPRUN_PATIENCE"


@dataclass(frozen=True)
class World:
    """This process's place: `rank` of `size`; `host_leader` is the first rank on the same machine.

    slow: the group that has PATIENCE, for words outside steps (None: the same as in steps).
    """

    rank: int = 0
    size: int = 1
    host_leader: int = 0
    slow: Any = field(default=None, compare=False, repr=False)

    @property
    def first(self) -> bool:
        """Whether this is the process that writes, prints and measures."""
        return self.rank == 0

    def rows(self, count: int) -> slice:
        """This process's contiguous part of `count` rows. Raises UserError where they do not divide evenly."""
        if count % self.size:
            raise UserError(
                f"schedule.batch_size: {count} does not divide over {self.size} processes; choose a multiple of it"
            )
        part = count // self.size
        return slice(self.rank * part, (self.rank + 1) * part)

    # Tensors, on the device

    def gathered(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Rows of all processes in order, (n, d) of `x` and `y`; gradients are summed over the processes.

        Both are (b, d), the same on every process; they travel in one message.
        """
        if self.size == 1:
            return x, y
        return _Gathered.apply(torch.cat([x, y], 1), self).chunk(2, 1)

    def summed(self, value: Tensor) -> Tensor:
        """The sum of every process's `value`, and the same of its gradient."""
        return value if self.size == 1 else _Summed.apply(value, self)

    def total(self, value: Tensor) -> Tensor:
        """The sum of every process's `value`, without a gradient."""
        total = value.detach()
        if self.size > 1:
            total = total.clone()
            with in_contact():
                dist.all_reduce(total)
        return total

    def exchanged(self, rows: Tensor, sent: list[int], received: list[int]) -> Tensor:
        """Rows (n, ...) given to each process, `sent[k]` to process k in turn; returns those that `received[k]` says
        come from each, in order."""
        found = rows.new_empty((sum(received), *rows.shape[1:]))
        with in_contact():
            dist.all_to_all_single(found, rows.contiguous(), received, sent)
        return found

    # Words between hosts

    def agree(self, *flags: bool) -> list[bool]:
        """Each flag as true where any process says so; all ask in the same step."""
        return self._agreed(flags, None)

    def _agreed(self, flags: Sequence[bool], group: Any) -> list[bool]:
        if self.size == 1:
            return list(flags)
        said = torch.tensor(flags, dtype=torch.int32)
        with in_contact():
            dist.all_reduce(said, dist.ReduceOp.MAX, group)
        return [bool(flag) for flag in said.tolist()]

    def collect(self, value: Any) -> list[Any]:
        """Every process's `value`, by rank."""
        if self.size == 1:
            return [value]
        found: list[Any] = [None] * self.size
        with in_contact():
            dist.all_gather_object(found, value, self.slow)
        return found

    def from_first(self, value: T) -> T:
        """The first process's `value` everywhere."""
        if self.size == 1:
            return value
        box = [value if self.first else None]
        with in_contact():
            dist.broadcast_object_list(box, src=0, group=self.slow)
        return box[0]  # type: ignore[return-value]

    def raise_any(self, trouble: Exception | None) -> None:
        """Raise on every process where any has trouble: its own where it has one, else the first other's in words."""
        if self.size == 1:
            if trouble is not None:
                raise trouble
            return
        if not self._agreed([trouble is not None], self.slow)[0]:
            return
        told = self.collect(None if trouble is None else _in_words(trouble))
        if trouble is not None:
            raise trouble
        rank, error = next((rank, error) for rank, error in enumerate(told) if error is not None)
        kind = UserError if isinstance(error, UserError) else Failure
        raise kind(f"process {rank}: {error}" if rank else str(error))

    def together(self, work: Callable[[], T]) -> T:
        """`work()` of every process; where it fails on any, every process raises."""
        if self.size == 1:
            return work()
        value, trouble = None, None
        try:
            value = work()
        except LostProcess:
            raise
        except Exception as error:
            trouble = error
        self.raise_any(trouble)
        return value  # type: ignore[return-value]

    def on_first(self, work: Callable[[], T]) -> T:
        """`work()` done by the first process alone, its value everywhere; where it fails, every process raises."""
        return self.from_first(self.together(lambda: work() if self.first else None))  # type: ignore[return-value]

    def first_then_rest(self, work: Callable[[], T]) -> T:
        """`work()` of the first process, then of all others, which find what it left on disk."""
        mine = self.together(lambda: work() if self.first else None)
        return self.together(lambda: work() if mine is None else mine)

    def to_first(self, value: T) -> list[T]:
        """Every process's `value` by rank on the first process, an empty list on the others."""
        if self.size == 1:
            return [value]
        found: list[Any] | None = [None] * self.size if self.first else None
        with in_contact():
            dist.gather_object(value, found, dst=0, group=self.slow)
        return found or []

    def outlast_first(self) -> None:
        """On all but the first process, wait until that has ended: a launcher stops the others when one ends."""
        if not self.first:
            with suppress(LostProcess):
                self.from_first(None)

    @contextmanager
    def shared_memory(self) -> Iterator[int | None]:
        """Descriptor of one memory file for all processes of this machine, to be mapped inside the block.

        It is gone with the last process that maps it. None where a process is alone, or the system has no such files.
        """
        create = getattr(os, "memfd_create", None)
        if self.size == 1 or create is None:
            yield None
            return
        leads = self.rank == self.host_leader
        own = create("gaprun-cache") if leads else -1
        places = self.collect(f"/proc/{os.getpid()}/fd/{own}")
        descriptor = self.together(lambda: own if leads else os.open(places[self.host_leader], os.O_RDWR))
        try:
            yield descriptor
        finally:
            os.close(descriptor)


ALONE = World()


def step_patience() -> timedelta:
    """How long a process waits in a step for the others: GAPRUN_PATIENCE in seconds, else ten minutes.

    Raises UserError for what is no time.
    """
    given = os.environ.get(PATIENCE_NAME)
    if given is None:
        return STEP_PATIENCE
    try:
        patience = timedelta(seconds=float(given))
    except (ValueError, OverflowError):
        patience = timedelta(0)
    if patience <= timedelta(0):
        raise UserError(f"{PATIENCE_NAME}: {given} is no number of seconds above 0")
    return patience


@contextmanager
def in_contact(also_computes: bool = False) -> Iterator[None]:
    """Raise what goes wrong between processes inside the block as LostProcess.

    also_computes: the block does more than exchange, so that an error counts only if torch says where it comes from.
    """
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:  # what torch.distributed raises, of whatever backend
        reason = (str(error).splitlines() or ["?"])[0][:200]
        if also_computes and not (isinstance(error, dist.DistError) or "gloo" in reason):
            raise
        if "timed out" in reason.lower() or "timeout" in reason.lower():
            raise LostProcess(
                f"another process of this run gave no sign for {step_patience().total_seconds():g} s, it hangs or was "
                f"stopped ({PATIENCE_NAME} sets how long to wait); the last checkpoint is kept and the same command "
                "goes on from it"
            ) from None
        raise LostProcess(
            f"lost contact with another process of this run ({reason}); the last checkpoint is kept and the same "
            "command goes on from it"
        ) from None


def _in_words(error: Exception) -> GaprunError:
    if isinstance(error, UserError):
        return UserError(str(error))
    return Failure(str(error) if isinstance(error, GaprunError) else f"{type(error).__name__}: {error}")


class _Gathered(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, world: World) -> Tensor:
        ctx.world, ctx.count = world, len(rows)
        everyone = [torch.empty_like(rows) for _ in range(world.size)]
        with in_contact():
            dist.all_gather(everyone, rows.contiguous())
        return torch.cat(everyone)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        total = gradients[0].contiguous().clone()
        with in_contact():
            dist.all_reduce(total)
        start = ctx.world.rank * ctx.count
        return total[start : start + ctx.count], None


class _Summed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor, world: World) -> Tensor:
        total = value.contiguous().clone()
        with in_contact():
            dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        total = gradients[0].contiguous().clone()
        with in_contact():
            dist.all_reduce(total)
        return total, None
