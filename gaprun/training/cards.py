"""What a GPU does wrong, in words; and leaving it free for the next job.

An error in the middle of a step leaves the state halfway (batch normalisation may have moved on, weights not), so the
step's errors are a StepFailed, after which nothing is saved and the last checkpoint counts.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from gaprun.errors import Failure
from gaprun.recipe.schema import Compute

BROKEN = ("CUDA error", "cuDNN error", "CUBLAS_STATUS", "CUDNN_STATUS", "NCCL error")


class StepFailed(Failure):
    """A step ended halfway on the GPU; the state is not worth saving."""


@contextmanager
def explained(
    compute: Compute, rows: int | None, doing: str, kind: type[Failure] = Failure
) -> Iterator[None]:
    """Raise a GPU's out of memory and broken states inside the block as one line that says what to set.

    rows: the pairs that this process embeds in a step, None outside of training; `doing`: such as "step 12".
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise kind(_no_memory(compute, rows, doing, error)) from None
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


def _no_memory(compute: Compute, rows: int | None, doing: str, error: Exception) -> str:
    said = next((part.strip() for part in str(error).split(". ") if "Tried to allocate" in part), "")
    if rows is None:
        return (
            f"the GPU's memory is full in {doing}{f' ({said})' if said else ''}: free the card of other programs and "
            "give the same command again, or measure the run with `gaprun eval --ckpt RUN --device cpu`"
        )
    now = min(compute.micro_batch or rows, rows)
    ways = [f"compute.micro_batch={max(1, now // 2)}"] if now > 1 else []
    ways += ["compute.precision=bf16 (half the memory of fp32)"] if compute.precision == "fp32" else []
    return (
        f"the GPU's memory is full in {doing}{f' ({said})' if said else ''}: set "
        f"{' or '.join(ways) or 'a smaller model'}, or free the card of other programs; the last checkpoint is kept"
    )


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
