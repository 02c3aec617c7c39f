"""Runs as TensorBoard event files: a folder a run, its curves and final metrics as scalars, its recipe as text.

The database keeps no clock time of a step, so all points of a run carry the time at which it started: read the
curves against the step. Event files hold float32.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from gaprun.errors import Failure, UserError
from gaprun.exchange.extras import require
from gaprun.exchange.flat import FlatRun, flat_run
from gaprun.store import Store

SUFFIX = ".gaprun"


def send(
    store: Store, run_ids: Sequence[str], folder: Path, progress: Callable[[int, int], None] | None = None
) -> dict[str, int]:
    """Write each run to `folder/RUN`, replacing what an earlier call wrote there; counts of runs and points.

    Raises UserError where tensorboard is not installed or another program's events lie in a run's folder.
    """
    require("tensorboard.summary.writer.event_file_writer", "tensorboard")
    counts = {"runs": 0, "points": 0}
    for done, run_id in enumerate(run_ids):
        flat = flat_run(store, run_id)
        try:
            _write(flat, _emptied(folder / run_id))
        except OSError as error:
            raise Failure(f"{folder / run_id} cannot be written: {error.strerror or error}") from None
        counts["runs"] += 1
        counts["points"] += len(flat.curves) + len(flat.metrics)
        if progress is not None:
            progress(done + 1, len(run_ids))
    return counts


def _emptied(folder: Path) -> Path:
    if folder.exists():
        if not folder.is_dir() or any(not path.name.endswith(SUFFIX) for path in folder.iterdir()):
            raise UserError(f"{folder} holds files that gaprun did not write: name another --out")
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    return folder


def _write(flat: FlatRun, folder: Path) -> None:
    writers = require("tensorboard.summary.writer.event_file_writer", "tensorboard")
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary

    time = (flat.run.started or flat.run.created).timestamp()
    writer = writers.EventFileWriter(str(folder), filename_suffix=SUFFIX)
    try:
        writer.add_event(Event(wall_time=time, step=0, summary=_recipe(flat)))
        # By step, because TensorBoard takes a step that goes back for a restart and drops what came before.
        for name, step, value in sorted(
            [*flat.curves, *flat.metrics], key=lambda point: (point[1], point[0])
        ):
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
