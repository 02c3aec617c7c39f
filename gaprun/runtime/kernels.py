"""Which kernels this process computes with: threads, determinism, TF32, cuDNN's choice, attention.

All of it is state of the process, so `set_kernels` is called before every use of a device, sets what the recipe says,
and takes back what an earlier recipe of the same process said.
"""

from __future__ import annotations

import ctypes
import os
import re
import sys
from pathlib import Path
from typing import Any

import torch

from gaprun.errors import UserError
from gaprun.runtime.spec import Compute

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # glibc's malloc.h
REPEATABLE_CUBLAS = (
    ":4096:8",
    ":16:8",
)  # the two workspaces with which cuBLAS repeats itself, says its manual
DRIVER = Path("/proc/driver/nvidia/version")
_threads_before: int | None = None


def set_kernels(compute: Compute, device: torch.device) -> None:
    """Make this process compute as `compute` says on `device`, and in nothing as an earlier recipe said.

    Raises UserError where cuBLAS was told to use a workspace with which it does not repeat itself.
    """
    global _threads_before
    if _threads_before is None:
        _threads_before = torch.get_num_threads()
    torch.set_num_threads(compute.threads or _threads_before)
    if compute.deterministic and device.type == "cuda":
        _check_cublas()
    torch.use_deterministic_algorithms(compute.deterministic)
    # A debugging aid of that mode: it would clear every new tensor, a tenth of a small step.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.deterministic = compute.deterministic
    torch.backends.cudnn.benchmark = compute.cudnn_benchmark
    torch.backends.cudnn.allow_tf32 = compute.tf32
    torch.backends.cuda.matmul.allow_tf32 = compute.tf32
    _choose_attention(compute.attention if device.type == "cuda" else "auto")
    if device.type == "cpu":
        _keep_freed_memory()


def _check_cublas() -> None:
    """gaprun sets the variable when it is imported: cuBLAS reads it once, at a process's first product."""
    workspace = os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", REPEATABLE_CUBLAS[0])
    if workspace not in REPEATABLE_CUBLAS:
        raise UserError(
            f"CUBLAS_WORKSPACE_CONFIG is {workspace}, with which cuBLAS does not repeat itself: unset it, or set "
            "compute.deterministic to false"
        )


def _choose_attention(kind: str) -> None:
    switches = {
        "math": torch.backends.cuda.enable_math_sdp,
        "flash": torch.backends.cuda.enable_flash_sdp,
        "efficient": torch.backends.cuda.enable_mem_efficient_sdp,
        "cudnn": torch.backends.cuda.enable_cudnn_sdp,
    }
    for name, switch in switches.items():
        switch(kind in ("auto", name))


def _keep_freed_memory() -> None:
    """Let glibc reuse large buffers: by default each step's are given back and every page is cleared again."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, 2**30)
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


def described(device: torch.device) -> dict[str, Any]:
    """What `device` computes with now, as plain values: the settings above and, on a GPU, its software."""
    found: dict[str, Any] = {"deterministic": torch.are_deterministic_algorithms_enabled()}
    if device.type != "cuda":
        return found
    card = torch.cuda.get_device_properties(device)
    return found | {
        "tf32": torch.backends.cudnn.allow_tf32,
        "cudnn_benchmark": torch.backends.cudnn.benchmark,
        "cublas_workspace": os.environ.get("CUBLAS_WORKSPACE_CONFIG"),
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
        "driver": driver_version(),
        "capability": f"{card.major}.{card.minor}",
        "memory_gib": round(card.total_memory / 2**30, 1),
    }


def driver_version(file: Path = DRIVER) -> str | None:
    """The NVIDIA driver's version, such as 570.86.15; None where it does not say."""
    try:
        found = re.search(r"\b\d{3,}\.\d+(\.\d+)?\b", file.read_text(errors="replace"))
    except OSError:
        return None
    return found[0] if found else None
