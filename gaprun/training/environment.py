"""What a run ran on: versions, device, threads, code; kept with the run so that a number can be traced."""

from __future__ import annotations

import ctypes
import os
import platform
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

import gaprun
from gaprun.errors import UserError
from gaprun.recipe.schema import Compute

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # glibc's malloc.h
PACKAGES = ("torch", "torchvision", "open_clip_torch", "webdataset", "numpy", "pillow", "simplejpeg")


def pick_device(name: str) -> torch.device:
    """`auto` is CUDA where there is one, else the CPU. Raises UserError for an unknown or absent device."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except Exception:
        raise UserError(f"--device {name}: not available here; use auto, cpu or cuda[:index]") from None
    return device


def check_precision(compute: Compute, device: torch.device) -> None:
    """Raise UserError for a precision that `device` cannot do."""
    if compute.precision == "fp16" and device.type != "cuda":
        raise UserError("compute.precision: fp16 needs a CUDA device; use fp32 or bf16 here")


def prepare(compute: Compute, device: torch.device) -> None:
    """Set threads and deterministic kernels for this process. Raises UserError for what the device cannot do."""
    check_precision(compute, device)
    if compute.threads is not None:
        torch.set_num_threads(compute.threads)
    if compute.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.backends.cudnn.benchmark = False
        torch.use_deterministic_algorithms(True)
        # A debugging aid of that mode: it would clear every new tensor, a tenth of a small step.
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    if device.type == "cpu":
        _keep_freed_memory()


def _keep_freed_memory() -> None:
    """Let glibc reuse large buffers: by default each step's are given back and every page is cleared again."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, 2**30)
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


def environment(device: torch.device) -> dict[str, object]:
    """Versions, device and threads as plain values."""
    packages = {}
    for name in PACKAGES:
        try:
            packages[name] = version(name)
        except PackageNotFoundError:
            packages[name] = "?"
    card = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    return {
        "python": platform.python_version(),
        "system": platform.system(),
        "device": device.type,
        "device_name": card,
        "threads": torch.get_num_threads(),
        "packages": packages,
    }


def code_version() -> str:
    """The package's version, with the commit (and `dirty`) where it runs from a git checkout."""
    folder = Path(gaprun.__file__).parent
    command = ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return gaprun.__version__
    commit = found.stdout.strip()
    return f"{gaprun.__version__}+{commit}" if found.returncode == 0 and commit else gaprun.__version__
