"""Time, memory, disk and money of large experiments, from stated inputs: the arithmetic behind docs/scale.md.

`python benchmarks/scale.py` prints the tables; `--json` the numbers; `--set mfu=0.15` changes an input. Inputs are
measured (scale_measure.py; exact counts, or rates of two shared CPU cores), published, or assumed. No GPU was used.
"""

from __future__ import annotations

import argparse
import json
import math
from dataclasses import dataclass
from typing import Any, NamedTuple


class Input(NamedTuple):
    """A number, whether it is measured, published or assumed, and where it comes from."""

    value: float
    kind: str
    source: str


INPUTS = {
    "parameters": Input(102_007_137, "measured", "RN50 towers, counted"),
    "forward_flops": Input(
        18.017e9, "measured", "a pair through both towers at 224 pixels, torch's FLOP counter"
    ),
    "activation_bytes_fp32": Input(130.6e6, "measured", "tensors kept for the backward pass, a pair, fp32"),
    "batchnorms": Input(
        55, "measured", "counted; each exchanges its sums twice a step when processes share a batch"
    ),
    "dimension": Input(1024, "measured", "d of RN50's embeddings"),
    "checkpoint_bytes": Input(1.2247e9, "measured", "weights and AdamW's two moments, fp32, one file"),
    "checkpoint_seconds": Input(
        10.9, "measured", "written, synced and hashed on a busy disk; in the background"
    ),
    "index_bytes": Input(
        128,
        "measured",
        "arrays of a training process a picture with one caption, counted; the index itself is mapped",
    ),
    "index_seconds": Input(
        1.14e-8,
        "measured",
        "processor time of opening a split, a picture, in shards of 1,000 (benchmarks/index.py)",
    ),
    "read_images": Input(
        20_510, "measured", "pictures a second that one process reads from shards in page cache"
    ),
    "decode_per_core": Input(678, "measured", "480 x 360 JPEG to 224 pixels, best of several, one core"),
    "store_writes": Input(
        77, "measured", "records with heartbeat a second, one writer, SQLite on a busy disk"
    ),
    "coco_image_bytes": Input(
        45_300, "measured", "MSCOCO val2017 pictures, shorter side 256, quality 95, in tar"
    ),
    "peak_flops": Input(989e12, "published", "H100 SXM, bf16 dense (NVIDIA's data sheet)"),
    "gpu_bytes": Input(80e9, "published", "H100 SXM (NVIDIA's data sheet)"),
    "nvlink": Input(450e9, "published", "bytes a second and direction within a node (NVIDIA's data sheet)"),
    "network": Input(50e9, "published", "bytes a second a GPU between nodes: one 400 Gb/s port each"),
    "mfu": Input(
        0.10, "assumed", "share of peak that RN50's convolutions reach; 0.06 to 0.15 is the range given"
    ),
    "link_share": Input(0.7, "assumed", "share of a link's rate that collectives reach"),
    "latency": Input(40e-6, "assumed", "of one small collective, seconds"),
    "price": Input(3.0, "assumed", "dollars a GPU hour; offers range from 2 to 10"),
    "cores": Input(12, "assumed", "CPU cores a GPU"),
    "workers": Input(8, "assumed", "loader processes a GPU (data.workers)"),
    "node_memory": Input(1e12, "assumed", "bytes of memory of a node with 8 GPUs"),
    "disk_rate": Input(2e9, "assumed", "bytes a second that a node reads from its data disk"),
}


@dataclass(frozen=True)
class Scenario:
    """One experiment: `runs` trainings of RN50, `gpus` each, one after another."""

    name: str
    images: int
    epochs: int
    batch: int
    gpus: int = 1
    runs: int = 1


COCO = Scenario("MSCOCO x 40 runs", 113_287, 100, 1024, runs=40)
CC3M = [Scenario("CC3M", 3_318_333, 32, 4096, gpus) for gpus in (8, 16, 32, 64)]
CC12M = [Scenario("CC12M", 12_423_374, 32, 8192, gpus) for gpus in (8, 16, 32, 64)]


def collective_bytes(batch: int, dimension: int, parameters: float, ranks: int) -> dict[str, float]:
    """Bytes that one of `ranks` processes sends in one step, by ring algorithms, fp32.

    features: all-gather of (batch, 2d) and the all-reduce of its gradient; gradients: all-reduce of the parameters.
    """
    if ranks == 1:
        return {"features": 0.0, "gradients": 0.0}
    both = batch * 2 * dimension * 4.0
    share = (ranks - 1) / ranks
    return {"features": share * both + 2 * share * both, "gradients": 2 * share * parameters * 4.0}


def estimate(scenario: Scenario, inputs: dict[str, float]) -> dict[str, Any]:
    """Everything about `scenario`; seconds, bytes and dollars."""
    i, s = inputs, scenario
    steps = s.images // s.batch * s.epochs
    local = s.batch // s.gpus
    logits = 3 * 2 * local * s.batch * 2 * i["dimension"]  # both directions, forward and backward
    compute = (3 * i["forward_flops"] * local + logits) / (i["peak_flops"] * i["mfu"])
    sent = collective_bytes(s.batch, int(i["dimension"]), i["parameters"], s.gpus)
    link = i["link_share"] * (i["nvlink"] if s.gpus <= 8 else i["network"])
    messages = 0 if s.gpus == 1 else 2 * i["batchnorms"] + 6
    exchange = sum(sent.values()) / link + messages * i["latency"]
    step = compute + exchange
    rate = s.batch / step
    nodes = math.ceil(s.gpus / 8)
    memory = local * i["activation_bytes_fp32"] / 2 + 16 * i["parameters"] + 4 * 4 * local * s.batch
    hours = steps * step / 3600
    dataset = s.images * i["coco_image_bytes"]
    per_node = min(s.gpus, 8)
    needed = rate / s.gpus / i["decode_per_core"]
    pressure = {
        "GPU memory": memory / i["gpu_bytes"],
        "CPU decoding": needed / i["cores"],
        "node memory for captions": per_node
        * (1 + i["workers"])
        * s.images
        * i["index_bytes"]
        / i["node_memory"],
        "data disk": rate / nodes * i["coco_image_bytes"] / i["disk_rate"],
        "collectives": exchange / step,
        "reading": rate / s.gpus / i["workers"] / i["read_images"],
        "checkpoints": i["checkpoint_seconds"] / (s.images // s.batch * step),  # one an epoch
        "database": 0.5 / i["store_writes"],  # one record every two seconds
    }
    return {
        "name": s.name,
        "gpus": s.gpus,
        "runs": s.runs,
        "steps": steps,
        "step_seconds": step,
        "images_per_second": rate,
        "hours_a_run": hours,
        "gpu_hours": hours * s.gpus * s.runs,
        "dollars": hours * s.gpus * s.runs * i["price"],
        "gpu_bytes": memory,
        "sent_a_step": sum(sent.values()),
        "features_sent": sent["features"],
        "gradients_sent": sent["gradients"],
        "sent_in_all": sum(sent.values()) * steps * s.gpus,
        "collective_share": exchange / step,
        "decoding_cores_a_gpu": needed,
        "dataset_bytes": dataset,
        "read_in_all": dataset * s.epochs * s.runs,
        "checkpoint_disk": i["checkpoint_bytes"] * 3 * s.runs,  # two kept, one being written
        "cache_bytes": s.images * 252 * 252 * 3,
        "open_seconds": s.images * i["index_seconds"],
        "pressure": pressure,
        "first": max(pressure, key=lambda key: pressure[key]),
    }


def values(changes: list[str]) -> dict[str, float]:
    """The inputs with `name=value` changes; ValueError for a name that is none."""
    found = {name: item.value for name, item in INPUTS.items()}
    for change in changes:
        name, _, value = change.partition("=")
        if name not in found:
            raise ValueError(f"no input {name}: {', '.join(found)}")
        found[name] = float(value)
    return found


def tables(inputs: dict[str, float]) -> str:
    """The inputs and all scenarios as Markdown."""
    lines = ["| input | value | kind | source |", "|---|---|---|---|"]
    lines += [
        f"| {name} | {inputs[name]:,.6g} | {item.kind} | {item.source} |" for name, item in INPUTS.items()
    ]
    head = "experiment | GPUs | steps a run | s/step | images/s | hours a run (mfu 0.15 to 0.06) | GPU hours | dollars"
    lines += ["", f"| {head} | collectives | GPU memory | decoding cores a GPU | tightest |"]
    lines.append("|" + "---|" * 12)
    for scenario in (COCO, *CC3M, *CC12M):
        e = estimate(scenario, inputs)
        low, high = (estimate(scenario, inputs | {"mfu": mfu})["hours_a_run"] for mfu in (0.15, 0.06))
        lines.append(
            f"| {e['name']} | {e['gpus']} | {e['steps']:,} | {e['step_seconds']:.3f} | {e['images_per_second']:,.0f} "
            f"| {e['hours_a_run']:.1f} ({low:.1f} to {high:.1f}) | {e['gpu_hours']:,.0f} | {e['dollars']:,.0f} "
            f"| {100 * e['collective_share']:.1f} % | {e['gpu_bytes'] / 1e9:.0f} GB | {e['decoding_cores_a_gpu']:.1f} "
            f"| {e['first']} ({100 * e['pressure'][e['first']]:.0f} %) |"
        )
    head = "experiment | data set | read in all | decoded cache | checkpoints | sent a step and GPU: features"
    lines += ["", f"| {head} | gradients | sent in all | opening the index |"]
    lines.append("|" + "---|" * 9)
    for scenario in (COCO, CC3M[0], CC3M[-1], CC12M[0], CC12M[-1]):
        e = estimate(scenario, inputs)
        lines.append(
            f"| {e['name']}, {e['gpus']} GPUs | {e['dataset_bytes'] / 1e9:.1f} GB | {e['read_in_all'] / 1e12:.1f} TB "
            f"| {e['cache_bytes'] / 1e9:,.0f} GB | {e['checkpoint_disk'] / 1e9:.0f} GB "
            f"| {e['features_sent'] / 1e6:.0f} MB "
            f"| {e['gradients_sent'] / 1e6:.0f} MB | {e['sent_in_all'] / 1e12:,.0f} TB | {e['open_seconds']:.2f} s |"
        )
    return "\n".join(lines)


def main() -> None:
    """Print the tables, or JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--json", action="store_true", help="one JSON object on one line")
    parser.add_argument("--small", action="store_true", help="the same: nothing here takes time")
    parser.add_argument("--set", action="append", default=[], metavar="INPUT=VALUE", help="change an input")
    options = parser.parse_args()
    inputs = values(options.set)
    if options.json:
        found = [estimate(scenario, inputs) for scenario in (COCO, *CC3M, *CC12M)]
        print(json.dumps({"inputs": inputs, "experiments": found}))
    else:
        print(tables(inputs))


if __name__ == "__main__":
    main()
