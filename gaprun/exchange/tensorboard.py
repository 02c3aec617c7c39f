"""Runs as TensorBoard event files: a folder a run, curves and metrics (of every step) as scalars, the recipe as text.

The database keeps no clock time of a step, so all points of a run carry the time at which it started: read the
curves against the step. Event files hold float32.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gaprun.exchange.flat import FlatRun, Progress, Sent, send_each
from gaprun.extras import require
from gaprun.files import MANIFEST, check_owned, plain_name, replace_folder
from gaprun.store import Store

SUFFIX = ".gaprun"
LARGEST = 3.4028234e38  # of float32


def send(store: Store, run_ids: Sequence[str], folder: Path, progress: Progress | None = None) -> Sent:
    """Write each run to `folder/RUN`, replacing what an earlier call wrote there; counts of runs and points.

    A run's problem: another program's files lie in its folder, its id is no name of a folder, a value is beyond
    float32 (it is left out). Raises UserError where tensorboard is not installed.
    """
    require("tensorboard.summary.writer.event_file_writer", "tensorboard")
    sent = Sent({"runs": 0, "points": 0})

    def send_one(flat: FlatRun) -> None:
        points = [*flat.curves, *flat.metrics]
        fitting = [point for point in points if abs(point[2]) <= LARGEST]
        target = folder / plain_name(flat.run.id, "the run")
        replace_folder(target, lambda made: _write(flat, fitting, made), True, owned=_check_ours)
        sent.counts["runs"] += 1
        sent.counts["points"] += len(fitting)
        sent.problems += [
            f"{flat.run.id}: {name} at step {step} is {value:g}, beyond float32: left out"
            for name, step, value in points
            if abs(value) > LARGEST
        ]

    return send_each(store, run_ids, sent, send_one, progress)


def _check_ours(folder: Path, way_out: str) -> None:
    """Also a folder without a manifest, as earlier versions wrote it, if all its files bear our ending."""
    older = folder.is_dir() and not folder.is_symlink() and not (folder / MANIFEST).exists()
    if older and all(path.name.endswith(SUFFIX) for path in folder.iterdir()):
        return
    check_owned(folder, way_out)


def _write(flat: FlatRun, points: list[tuple[str, int, float]], folder: Path) -> None:
    writers = require("tensorboard.summary.writer.event_file_writer", "tensorboard")
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary

    time = (flat.run.started or flat.run.created).timestamp()
    writer = writers.EventFileWriter(str(folder), filename_suffix=SUFFIX)
    try:
        writer.add_event(Event(wall_time=time, step=0, summary=_recipe(flat)))
        # By step, because TensorBoard takes a step that goes back for a restart and drops what came before.
        for name, step, value in sorted(points, key=lambda point: (point[1], point[0])):
            summary = Summary(value=[Summary.Value(tag=name, simple_value=value)])
            writer.add_event(Event(wall_time=time, step=step, summary=summary))
    finally:
        writer.close()


def _recipe(flat: FlatRun) -> Any:
    """Facts and recipe as a Markdown table for TensorBoard's text tab."""
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.compat.proto.tensor_pb2 import TensorProto
    from tensorboard.compat.proto.types_pb2 import DT_STRING
    from tensorboard.plugins.text.metadata import create_summary_metadata

    rows = [f"| {key} | {value} |" for key, value in {**flat.facts, **flat.parameters}.items()]
    text = "\n".join(["| key | value |", "|---|---|", *rows])
    tensor = TensorProto(dtype=DT_STRING, string_val=[text.encode()])
    metadata = create_summary_metadata("recipe", "")
    return Summary(value=[Summary.Value(tag="recipe", metadata=metadata, tensor=tensor)])
