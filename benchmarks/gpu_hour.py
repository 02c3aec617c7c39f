"""The first minutes on a GPU, in one command: is it right, how fast is it, where does the time go, what does it find.

Needs what `pip install gaprun` needs and no network; pictures are drawn. The most telling comes first, every part runs
in a process of its own, and what is known stands in OUT/gpu_hour.json and OUT/gpu_hour.md at once, so that a stop at
any moment keeps what there is. Exits 1 when a result is not the CPU's, or not repeatable.

    python benchmarks/gpu_hour.py [--minutes 8] [--device cuda|cpu] [--small] [--out FOLDER] [--parts a,b] [--json]
"""

from __future__ import annotations

import json
import os
import queue
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from harness import arguments

REPO = Path(__file__).parent.parent
# In this order, each with the seconds that it may take at most; what is left over goes to the next.
LIMITS = {
    "machine": 60,
    "agreement": 90,
    "repeat": 60,
    "resume": 90,
    "steps": 60,
    "resident": 90,
    "loop": 120,
    "peer": 120,
    "breakdown": 60,
    "eval": 60,
    "options": 100,
    "fig4b": 3600,
}
Results = dict[str, dict[str, Any]]


def sizes(device: str, small: bool, folder: Path) -> dict[str, Any]:
    """What the parts are told: the paper's towers and batch, or the smallest that still run every line."""
    cores = os.cpu_count() or 1
    if small:
        shape = {"tower": "small", "throughput_tower": "tiny", "batch": 16, "samples": 16 * 14, "workers": 1}
    else:
        shape = {
            "tower": "RN50",
            "throughput_tower": "RN50",
            "batch": 1024,
            "samples": 1024 * 10,
            "workers": max(1, cores - 1),
        }
    compute = {} if device == "cpu" else {"precision": "bf16", "channels_last": True}
    more = {
        "device": device,
        "small": small,
        "folder": str(folder),
        "threads": 1 if small else 8,
        "loop_compute": compute,
    }
    return {**shape, **more}


def run_part(name: str, size: dict[str, Any], seconds: float, note: Any) -> None:
    """Run one part for at most `seconds`; `note(found)` is called for each of its findings as it comes."""
    command = [sys.executable, str(REPO / "benchmarks" / "gpu_parts.py"), name, json.dumps(size)]
    paths = [str(REPO), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths), "PYTHONUNBUFFERED": "1"}
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=said, text=True, env=environment, start_new_session=True
        )
        lines: queue.Queue[str | None] = queue.Queue()
        threading.Thread(target=_read, args=(process, lines), daemon=True).start()
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            try:
                line = lines.get(timeout=left)
            except queue.Empty:
                break
            if line is None:
                if process.wait():
                    said.seek(0)
                    reason = said.read().strip().splitlines() or ["no reason given"]
                    note({"error": reason[-1][:300]})
                return
            if line.startswith("{"):
                note(json.loads(line))
        _kill(process)
        note({"stopped": f"after {seconds:.0f} s"})


def _read(process: subprocess.Popen[str], lines: queue.Queue[str | None]) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        lines.put(line)
    lines.put(None)


def _kill(process: subprocess.Popen[str]) -> None:
    """The part with its loader processes, which are of its session."""
    import signal

    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.wait()


def sound(results: Results) -> bool:
    """Whether everything that was compared agreed; parts that did not come to an answer do not count."""
    told = [value["agree"] for value in results.get("agreement", {}).values() if isinstance(value, dict)]
    told += [
        results[part]["identical"] for part in ("repeat", "resume") if "identical" in results.get(part, {})
    ]
    return all(told)


def summary(results: Results) -> dict[str, Any]:
    """The contract's numbers (benchmarks/gpu.py), None where they are not known."""

    def at(part: str, key: str) -> Any:
        return results.get(part, {}).get(key)

    def ratio(a: Any, b: Any) -> float | None:
        return round(a / b, 3) if a and b else None

    best = "resident" if at("resident", "cached") else "loop"
    return {
        "device": at("machine", "device_name"),
        "images_s": at(best, "cached"),
        "ceiling_share": ratio(at(best, "cached"), at(best, "ceiling")),
        "ratio_open_clip": ratio(at("peer", "ours_images_s"), at("peer", "open_clip_images_s")),
        "memory_mb": at("steps", "memory_mb"),
        "eval_images_s": at("eval", "images_s"),
        "sound": sound(results),
    }


def page(results: Results, size: dict[str, Any]) -> str:
    """What is known so far as Markdown."""
    device = results.get("machine", {})
    kernels = device.get("kernels", {})
    lines = [
        f"# {device.get('device_name', size['device'])}: the first minutes",
        "",
        f"`benchmarks/gpu_hour.py`: {size['tower']} at batch {size['batch']}, {size['workers']} loader processes, "
        f"{device.get('cores', '?')} cores; torch {device.get('packages', {}).get('torch', '?')}, CUDA "
        f"{kernels.get('cuda')}, cuDNN {kernels.get('cudnn')}, driver {kernels.get('driver')}. Drawn pictures.",
    ]
    for part in LIMITS:
        if part != "machine" and part in results:
            lines += ["", f"## {TITLES[part]}", "", *table(results[part])]
    return "\n".join(lines) + "\n"


TITLES = {
    "agreement": "CPU and device agree: ten fp32 steps of each method, largest differences",
    "repeat": "The same steps twice",
    "resume": "Killed by SIGKILL and resumed",
    "steps": "Steps on a resident batch: the ceiling",
    "resident": "The whole loop from a cache on the device, images a second",
    "loop": "The whole loop with loader processes, images a second",
    "peer": "Beside open_clip_train, same shards and settings",
    "breakdown": "Where a step's time goes, ms",
    "options": "What each option gives",
    "eval": "Measuring",
    "fig4b": "Fig. 4b's likely experiment on drawn scenes: change of the gap over the first ten steps",
}


def table(found: dict[str, Any]) -> list[str]:
    """Nested findings as a table of rows and columns, flat ones as a list of two columns."""
    if len(found) == 1 and isinstance(next(iter(found.values())), dict) and "ms" in found:
        found = found["ms"]
    nested = {name: value for name, value in found.items() if isinstance(value, dict)}
    columns = list(dict.fromkeys(key for value in nested.values() for key in value))
    lines = []
    if nested:
        lines += [f"| | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
        lines += [
            f"| {name} | {' | '.join(_plain(value.get(key)) for key in columns)} |"
            for name, value in nested.items()
        ]
    flat = {name: value for name, value in found.items() if name not in nested}
    if flat:
        lines += [""] * bool(nested) + ["| | |", "|---|---|"]
        lines += [f"| {name} | {_plain(value)} |" for name, value in flat.items()]
    return lines


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "NO"
    return format(value, ".4g") if isinstance(value, float) else "" if value is None else str(value)


def measure(size: dict[str, Any], parts: list[str], minutes: float, out: Path) -> Results:
    """Run `parts` within `minutes`, keeping JSON and page in `out` up to date; returns what was found."""
    results: Results = {}
    end = time.monotonic() + 60 * minutes
    out.mkdir(parents=True, exist_ok=True)
    for part in parts:
        left = end - time.monotonic()
        if left < 5:
            break
        print(f"{part} ...", file=sys.stderr, flush=True)
        began = time.monotonic()

        def note(found: dict[str, Any], part: str = part) -> None:
            results.setdefault(part, {}).update(found)
            for name, text in (("json", json.dumps(results, indent=1)), ("md", page(results, size))):
                whole = out / f".gpu_hour.{name}"
                whole.write_text(text + "\n" if name == "json" else text)
                whole.replace(out / f"gpu_hour.{name}")

        run_part(part, size, left if size["small"] else min(left, LIMITS[part]), note)
        print(
            f"{part}: {time.monotonic() - began:.0f} s {json.dumps(results.get(part, {}))[:300]}",
            file=sys.stderr,
        )
    return results


def main() -> None:
    """Measure, write, and print where it stands."""
    parser = arguments(__doc__)
    parser.add_argument("--minutes", type=float, default=8.0, help="time in all")
    parser.add_argument("--device", default="cuda", help="cuda, or cpu to try the command")
    parser.add_argument(
        "--out", type=Path, default=Path("."), help="folder for gpu_hour.json and gpu_hour.md"
    )
    parser.add_argument("--parts", default=",".join(LIMITS), help="which, with commas")
    options = parser.parse_args()
    parts = options.parts.split(",")
    if unknown := [part for part in parts if part not in LIMITS]:
        parser.error(f"unknown part {unknown[0]}: choose from {', '.join(LIMITS)}")
    folder = Path(tempfile.mkdtemp(prefix="gaprun-gpu-"))
    try:
        size = sizes(options.device, options.small, folder)
        results = measure(size, parts, options.minutes, options.out)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print((options.out / "gpu_hour.md").read_text())
    if options.json:
        print(json.dumps(summary(results)))
    if not sound(results):
        sys.exit(1)


if __name__ == "__main__":
    main()
