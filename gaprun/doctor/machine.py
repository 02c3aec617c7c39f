"""The device, its precisions, and how fast pictures are decoded: measured in a process of its own, which has torch."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gaprun.doctor.result import CheckResult

PROBE_SECONDS = 180
SLOW_DECODING = 150.0  # pictures a second and core; a fifth of what a current core does with 480 x 360 JPEGs
SMALL_SHARED_MEMORY = 2**30


def device_and_decoder() -> Iterator[CheckResult]:
    """Findings `device`, `precision` and `decoder`."""
    command = [sys.executable, "-m", "gaprun.doctor.probe"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PROBE_SECONDS)
    except subprocess.TimeoutExpired:
        yield CheckResult(
            "device", "fail", f"torch gave no answer in {PROBE_SECONDS} s", "look at the GPU with nvidia-smi"
        )
        return
    lines = done.stdout.strip().splitlines()
    if done.returncode or not lines:
        why = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        yield CheckResult(
            "device", "fail", f"torch does not work: {why}", "install torch again for this machine"
        )
        return
    yield from judge(json.loads(lines[-1]), shutil.which("nvidia-smi") is not None, os.cpu_count() or 1)


def judge(found: dict[str, Any], nvidia: bool, cores: int) -> Iterator[CheckResult]:
    """Findings about what the probe `found`; `nvidia`: NVIDIA's tools are on this machine; `cores` of the CPU."""
    cards = found["cards"]
    if cards:
        said = ", ".join(f"{card['name']} ({card['gib']:.0f} GiB)" for card in cards)
        yield CheckResult(
            "device", "ok", f"{len(cards)} GPU{'s' if len(cards) > 1 else ''}: {said}; torch {found['torch']}"
        )
    elif nvidia:
        yield CheckResult(
            "device",
            "warn",
            f"no GPU for torch {found['torch']}, though NVIDIA's tools are here"
            + (f": {found['cuda_error']}" if found["cuda_error"] else ""),
            "install the CUDA build of torch that this driver can run (pytorch.org), or train on the CPU",
        )
    else:
        yield CheckResult(
            "device", "ok", f"CPU, {cores} cores; torch {found['torch']}; small recipes only without a GPU"
        )
    works = [name for name, error in found["precision"].items() if error is None]
    broken = {name: error for name, error in found["precision"].items() if error is not None}
    if "fp32" in broken:
        yield CheckResult(
            "precision", "fail", f"fp32: {broken['fp32']}", "install torch again for this machine"
        )
    else:
        missing = (
            f"; not {', '.join(f'{name} ({error})' for name, error in broken.items())}" if broken else ""
        )
        yield CheckResult("precision", "ok", f"{', '.join(works)}{missing}")
    if found["decoder_error"]:
        yield CheckResult("decoder", "fail", found["decoder_error"], "install pillow and simplejpeg again")
        return
    rate = found["pictures_per_second"]
    said = f"{rate:.0f} JPEGs of 480 x 360 a second and core, {rate * cores:.0f} on {cores}"
    if rate < SLOW_DECODING:
        yield CheckResult(
            "decoder", "warn", said, "use data.cache: memory or disk, or store smaller pictures (--size)"
        )
    else:
        yield CheckResult("decoder", "ok", said)


def shared_memory(folder: Path = Path("/dev/shm")) -> Iterator[CheckResult]:
    """Loader processes hand batches over through shared memory; containers often have 64 MiB of it."""
    if not folder.is_dir():
        return
    total = shutil.disk_usage(folder).total
    said = f"{total / 2**20:.0f} MiB"
    if total < SMALL_SHARED_MEMORY:
        yield CheckResult(
            "shared memory", "warn", said, "start the container with --shm-size=8g, or set data.workers: 0"
        )
    else:
        yield CheckResult("shared memory", "ok", said)
