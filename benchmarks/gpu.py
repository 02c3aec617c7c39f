"""The loop's speed on a GPU: RN50 at batch 1024 in bf16, its share of the ceiling, beside open_clip's, and measuring.

The parts of `gpu_hour.py` that give these numbers, and nothing else.

    python benchmarks/gpu.py [--json] [--device cuda|cpu] [--small] [--minutes 6] [--out FOLDER]
"""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path

from gpu_hour import measure, sizes, summary
from harness import arguments

PARTS = ["machine", "steps", "resident", "loop", "peer", "eval"]


def main() -> None:
    """Measure and print the numbers."""
    parser = arguments(__doc__)
    parser.add_argument("--minutes", type=float, default=6.0, help="time in all")
    parser.add_argument("--device", default="cuda", help="cuda, or cpu to try the command")
    parser.add_argument("--out", type=Path, help="also keep gpu_hour.json and gpu_hour.md here")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="gaprun-gpu-"))
    try:
        size = sizes(options.device, options.small, folder)
        results = measure(size, PARTS, options.minutes, options.out or folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    found = {name: value for name, value in summary(results).items() if name != "sound"}
    print("\n".join(f"{name:16} {value}" for name, value in found.items()))
    if options.json:
        print(json.dumps(found))


if __name__ == "__main__":
    main()
