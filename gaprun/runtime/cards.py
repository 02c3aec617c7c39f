"""What a GPU does wrong, in words; and leaving it free for the next job.

An error in the middle of a step is a StepFailed. What the step had moved before its update is put back
(`TrainState.undone`) and saved, where the GPU still gives it; otherwise the last checkpoint counts.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from gaprun.errors import Failure
from gaprun.runtime.spec import Compute

BROKEN = ("CUDA error", "cuDNN error", "CUBLAS_STATUS", "CUDNN_STATUS", "NCCL error")


class StepFailed(Failure):
    """A step ended halfway on the GPU."""


@contextmanager
def explained(doing: str, way_out: str, kind: type[Failure] = Failure) -> Iterator[None]:
    """Raise a GPU's out of memory and broken states inside the block as one line.

    doing: such as "step 12"; way_out: what to do where memory is full, such as `less_memory` says it.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        said = next((part.strip() for part in str(error).split(". ") if "Tried to allocate" in part), "")
        raise kind(f"the GPU's memory is full in {doing}{f' ({said})' if said else ''}: {way_out}") from None
    except RuntimeError as error:
        if not is_broken(error):
            raise
        reason = (str(error).splitlines() or ["?"])[0][:200]
        raise kind(
            f"the GPU failed in {doing} ({reason}); the last checkpoint is kept and the same command goes on from it; "
            "if it happens again, look at `nvidia-smi` and the driver's log"
        ) from None


def is_broken(error: BaseException) -> bool:
    """Whether the GPU, or this process's use of it, is in a state from which no later call recovers."""
    kind = getattr(torch, "AcceleratorError", ())
    return isinstance(error, kind) or any(word in str(error) for word in BROKEN)


def less_memory(compute: Compute, rows: int) -> str:
    """What to set so that a step, in which a process embeds `rows` pairs, takes less memory."""
    now = min(compute.micro_batch or rows, rows)
    ways = [f"compute.micro_batch={max(1, now // 2)}"] if now > 1 else []
    ways += ["compute.precision=bf16 (half the memory of fp32)"] if compute.precision == "fp32" else []
    what = " or ".join(ways) or "a smaller model"
    return f"set {what}, or free the card of other programs; the last checkpoint is kept"


def let_go(error: BaseException | None) -> None:
    """After a job: drop what the traceback of its `error` keeps alive, and give cached memory back to the card."""
    seen: set[int] = set()
    waiting = [error]
    while waiting:
        one = waiting.pop()
        if one is not None and id(one) not in seen:
            seen.add(id(one))
            waiting += [one.__context__, one.__cause__]
            one.__traceback__ = one.__context__ = one.__cause__ = None
    gc.collect()
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()
