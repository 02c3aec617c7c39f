"""What a run ran on: versions, device, threads, code; kept with the run so that a number can be traced."""

from __future__ import annotations

import platform
import subprocess
import tomllib
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from gaprun.errors import UserError
from gaprun.registry import plugin_hashes
from gaprun.runtime.kernels import described, set_kernels
from gaprun.runtime.spec import Compute
from gaprun.version import PACKAGE, __version__

PACKAGES = ("torch", "torchvision", "open_clip_torch", "webdataset", "numpy", "pillow", "simplejpeg")


def pick_device(name: str) -> torch.device:
    """`auto` is CUDA where there is one, else the CPU. Raises UserError for an unknown or absent device.

    A GPU is counted and not touched: the process that shares jobs out takes no memory on any.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        if device.type == "cuda":
            there = torch.cuda.is_available() and (device.index or 0) < torch.cuda.device_count()
        else:
            there = torch.empty(1, device=device) is not None
    except Exception:
        there = False
    if not there:
        raise UserError(f"--device {name}: not available here; use auto, cpu or cuda[:index]")
    return device


def check_precision(compute: Compute, device: torch.device) -> None:
    """Raise UserError for a precision that `device` cannot do."""
    if compute.precision == "fp16" and device.type != "cuda":
        raise UserError("compute.precision: fp16 needs a CUDA device; use fp32 or bf16 here")


def prepare(compute: Compute, device: torch.device) -> None:
    """Make this process train as `compute` says. Raises UserError for what the device cannot do."""
    check_precision(compute, device)
    set_kernels(compute, device)


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
        "processor": processor(),
        "threads": torch.get_num_threads(),
        "kernels": described(device),
        "packages": packages,
        **({"plugins": plugins} if (plugins := plugin_hashes()) else {}),
    }


@cache
def processor() -> str:
    """The CPU's model and the vector instructions that torch uses on it: sums are rounded otherwise by another kind."""
    name = platform.processor()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        name = next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration, ValueError):
        pass
    return f"{name or platform.machine()}, {torch.backends.cpu.get_cpu_capability()}"


@cache
def code_version() -> str:
    """The package's version, with the commit (and `dirty`) where it runs from a git checkout of gaprun.

    A repository that merely surrounds the folder (an environment inside of another project, say) is not gaprun's.
    """
    commit = checkout_commit(PACKAGE)
    return f"{__version__}+{commit}" if commit else __version__


def checkout_commit(package: Path) -> str | None:
    """The commit (with `-dirty`) of the repository that keeps `package` as the source of a project of its name."""
    try:
        project = tomllib.loads((package.parent / "pyproject.toml").read_text(encoding="utf-8"))
        if project["project"]["name"] != package.name:
            return None
        _git(package, "ls-files", "--error-unmatch", "__init__.py")
        return _git(package, "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*") or None
    except (OSError, ValueError, KeyError, TypeError, subprocess.SubprocessError):
        return None


def _git(folder: Path, *words: str) -> str:
    command = ["git", "-C", str(folder), *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
