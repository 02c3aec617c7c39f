"""Opening the index of a large split: seconds and memory of a process, for growing numbers of synthetic pairs.

Each size is written as `gaprun data` writes it (1,000 pairs a shard; the shards hold no pictures), opened once, which
reads its lines and keeps their columns, and then opened again by fresh processes: those are what is measured. Beside it
stands reading the lines, as every process did before. `resident_mb` is a process's memory once the split is open, of
which `floor_mb` are imports; `private_mb` is what it has of its own above them after 4,096 random captions and places
were looked at, beside pages of the file that all processes of the machine share (`shared_mb`).

    python benchmarks/index.py [--json] [--small] [--pairs 10000000]
"""

from __future__ import annotations

import hashlib
import json
import tempfile
import time
from pathlib import Path
from typing import Any

from harness import arguments, child

SIZES = (10_000, 100_000, 1_000_000, 10_000_000)
SHARD = 1000
CAPTION = (
    "a photograph of a person on a street in the rain at night"  # 13 words; CC3M's mean is 10, CC12M's 20
)


def write(folder: Path, pairs: int) -> None:
    """A split of `pairs` pictures with a caption each, whose shards are empty files."""
    from gaprun.data.identity import fingerprint

    folder.mkdir(parents=True)
    shards: list[dict[str, Any]] = []
    sha = hashlib.sha256()
    nothing = hashlib.sha256(b"").hexdigest()
    with (folder / "samples.jsonl").open("wb") as file:
        for first in range(0, pairs, SHARD):
            name = f"{first // SHARD:05d}.tar"
            (folder / name).touch()
            rows = range(first, min(first + SHARD, pairs))
            shards.append({"file": name, "samples": len(rows), "bytes": 0, "sha256": nothing})
            text = "".join(
                f'{{"key":"{i:09d}","shard":{first // SHARD},"offset":{50_000 * (i - first)},"size":45000,'
                f'"width":340,"height":256,"captions":["{CAPTION} {i}"],"label":null}}\n'
                for i in rows
            ).encode()
            sha.update(text)
            file.write(text)
    index = {"format": 1, "dataset": "big", "split": "train", "samples": pairs, "captions": pairs}
    index |= {"image_size": 256, "classes": None, "templates": None, "report": {}, "source": {}}
    index |= {"shards": shards, "samples_sha256": sha.hexdigest()}
    index["fingerprint"] = fingerprint([shard["sha256"] for shard in shards], sha.hexdigest())
    (folder / "index.json").write_text(json.dumps(index))


def memory_mb(kind: str = "VmRSS") -> float:
    """This process's memory in MiB: all that is resident (VmRSS), its own (RssAnon), or mapped files (RssFile)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(f"{kind}:")).split()[1]) / 1024


def opened(size: dict[str, Any]) -> dict[str, Any]:
    """In a child: open, and then look at some samples."""
    import random

    import gaprun.data.columns  # noqa: F401 - with numpy, which every process of a run has imported
    from gaprun.data.split import open_split

    before, own, mapped = memory_mb(), memory_mb("RssAnon"), memory_mb("RssFile")
    start, cpu = time.perf_counter(), time.process_time()
    split = open_split(size["folder"])
    count = len(split.captions)
    seconds, after = {"open_s": time.perf_counter() - start, "cpu_s": time.process_time() - cpu}, memory_mb()
    chosen = random.Random(0).choices(range(count), k=4096)
    assert all(split.captions[i] == [f"{CAPTION} {i}"] and split.places[i, 2] == 45_000 for i in chosen)
    touched = {"private_mb": memory_mb("RssAnon") - own, "shared_mb": memory_mb("RssFile") - mapped}
    return {**seconds, "floor_mb": before, "resident_mb": after, **touched}


def lines(size: dict[str, Any]) -> dict[str, Any]:
    """In a child: read the lines, one by one, into lists."""
    import numpy as np

    before, start = memory_mb(), time.perf_counter()
    keys, captions, numbers = [], [], []
    with (Path(size["folder"]) / "samples.jsonl").open(encoding="utf-8") as file:
        for text in file:
            line = json.loads(text)
            keys.append(line["key"])
            captions.append(line["captions"])
            numbers.append((-1, line["width"], line["height"], line["shard"], line["offset"], line["size"]))
    columns = np.array(numbers, dtype=np.int64)
    return {"seconds": time.perf_counter() - start, "mb": memory_mb() - before, "rows": len(columns)}


def measure(pairs: int, place: Path) -> dict[str, Any]:
    """The numbers of one size: the best of three openings, and the lines of at most 100,000 pairs for comparison."""
    folder = place / f"big-{pairs}" / "train"
    write(folder, pairs)
    size = {"folder": str(folder)}
    time.sleep(0.2)  # what was written this instant is not taken for settled
    start = time.perf_counter()
    first = child(__file__, "opened", size)
    first_s = time.perf_counter() - start
    runs = [child(__file__, "opened", size) for _ in range(3)]
    best = min(runs, key=lambda run: run["open_s"])
    found = {"pairs": pairs, **{name: round(value, 4) for name, value in best.items()}}
    found |= {"first_open_s": round(first["open_s"], 2), "process_s": round(first_s, 2)}
    found["disk_mb"] = round(sum(path.stat().st_size for path in folder.iterdir()) / 2**20, 1)
    if pairs <= 100_000:
        read = child(__file__, "lines", size)
        found |= {"lines_s": round(read["seconds"], 3), "lines_mb": round(read["mb"], 1)}
        found["ratio_lines"] = round(read["seconds"] / best["open_s"], 1)
    return found


def main() -> None:
    """Measure size after size and print them; the JSON line is the largest's, with all of them in `sizes`."""
    parser = arguments(__doc__)
    parser.add_argument("--pairs", type=int, help="only this many pairs")
    options = parser.parse_args()
    if options.child:
        print(json.dumps({"opened": opened, "lines": lines}[options.child](options.size)))
        return
    sizes = [options.pairs] if options.pairs else SIZES[: 2 if options.small else 4]
    found = []
    print(
        "| pairs | first opening | opening | of a processor | resident | own after 4,096 samples | shared | lines |"
    )
    for pairs in sizes:
        with tempfile.TemporaryDirectory(prefix="gaprun-index-") as folder:
            one = measure(pairs, Path(folder))
        found.append(one)
        read = f"{one['lines_s']:.2f} s, {one['lines_mb']:.0f} MB" if "lines_s" in one else "-"
        print(
            f"| {pairs:,} | {one['first_open_s']:.1f} s | {1000 * one['open_s']:.0f} ms | "
            f"{1000 * one['cpu_s']:.0f} ms | "
            f"{one['resident_mb']:.0f} MB | {one['private_mb']:.1f} MB | {one['shared_mb']:.0f} MB | {read} |",
            flush=True,
        )
    if options.json:
        ratio = next((one["ratio_lines"] for one in reversed(found) if "ratio_lines" in one), None)
        print(json.dumps(found[-1] | {"ratio_lines": ratio, "sizes": found}))


if __name__ == "__main__":
    main()
