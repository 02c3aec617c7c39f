"""What `train --dry-run` shows: each job's length, sizes, memory and disk, and whether it is done already."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from gaprun.data.crops import kept_sizes
from gaprun.data.members import sizes_of
from gaprun.data.split import is_there
from gaprun.errors import UserError
from gaprun.jobs.preflight import Prepared, prepare_job
from gaprun.recipe.jobs import Job
from gaprun.tables import Heading, Table
from gaprun.tables.numbers import counted
from gaprun.training.alone import check_micro_batch

if TYPE_CHECKING:
    from gaprun.store.models import Run

GIB = 2**30


def plan_rows(jobs: list[Job], db: str | None, alone: bool = True) -> list[dict[str, Any]]:
    """One dictionary a job; what only the data can tell is None where a training split (`absent`) is not there yet.

    alone: whether one process trains a job, and not several together.
    """
    there = _runs(db)
    parameters: dict[str, tuple[int, int | None]] = {}
    kept: dict[str, float | None] = {}
    rows = []
    for job in jobs:
        recipe = job.recipe
        absent = next((ref for ref in recipe.data.sets if not is_there(ref)), None)
        ready = None if absent else prepare_job(job)
        length = ready.length if ready else None
        if alone:  # several share the statistics of a batch
            check_micro_batch(recipe, length)
        batch = recipe.schedule.batch_size
        model = recipe.model.model_dump_json()
        if model not in parameters:
            parameters[model] = count_parameters(job), _trained(job)
        step = f"{model} {recipe.compute.model_dump_json()} {batch}"
        if step not in kept:
            kept[step] = activation_gib(job)
        (count, trained), averaged = parameters[model], recipe.optimizer.ema is not None
        frozen = 0 if trained is None else count - trained
        known = _known(there.get((job.recipe_hash, job.seed), ()), job)
        rows.append(
            {
                "run": job.id,
                "recipe": recipe.name,
                "seed": job.seed,
                "status": known.status if known else "new",
                "known_as": known.id if known and known.id != job.id else None,
                "images": length.images if length else None,
                "batch_size": batch,
                "steps_per_epoch": length.steps_per_epoch if length else None,
                "steps": length.total if length else recipe.schedule.steps,
                "warmup_steps": length.warmup if length else recipe.schedule.warmup_steps,
                "parameters": count,
                # fp32 weights, gradients and AdamW's two moments, an average and a teacher where the recipe has them.
                "model_memory_gib": (
                    count * (16 + 4 * averaged + 4 * recipe.loss.needs_teacher) - 12 * frozen
                )
                / GIB,
                "activation_memory_gib": kept[step],
                **_data_gib(job, ready),
                # weights, two moments and an average in each kept checkpoint, one more while the next is written.
                "disk_gib": (count * (12 + 4 * averaged) - 8 * frozen) * (recipe.checkpoint.keep + 1) / GIB,
                "measures": [task.task for task in recipe.eval],
                "absent": absent,
                "measured_at": sorted(length.measured) if length else None,
            }
        )
    return rows


def count_parameters(job: Job) -> int:
    """Parameters of the towers, built without memory or a network; the `used` vocabulary counts as full.

    Raises UserError where a tower's own configuration would have to be fetched.
    """
    from gaprun.model.hub import offline
    from gaprun.model.openclip import first_line
    from gaprun.model.towers import count_parameters

    try:
        with offline():
            return count_parameters(job.recipe.model)
    except UserError:
        raise
    except Exception as error:
        raise UserError(
            f"model.arch {job.recipe.model.arch}: its size is not known without a network, which --dry-run does not "
            f"ask ({first_line(error)}); train it once, or choose an arch whose towers are open_clip's own"
        ) from None


def _trained(job: Job) -> int | None:
    """Parameters that `model.freeze` leaves to train; None where nothing is frozen. Raises UserError."""
    if job.recipe.model.freeze is None:
        return None
    from gaprun.model.frozen import trained_parameters

    return trained_parameters(job.recipe.model)


def activation_gib(job: Job) -> float | None:
    """What a step keeps for its backward pass in GiB; None for towers that do not run without values."""
    from gaprun.training.memory import activation_bytes

    try:
        return activation_bytes(job.recipe) / GIB
    except Exception:  # whatever a model of another package does: an estimate is missing, nothing else
        return None


def too_large(rows: list[dict[str, Any]], card: float | None) -> list[str]:
    """A line for each set-up that a GPU of `card` GiB cannot hold, with the way out."""
    lines = {}
    for row in rows:
        step, cache = (
            row["model_memory_gib"] + (row["activation_memory_gib"] or 0.0),
            row["cache_device_gib"] or 0.0,
        )
        if card is not None and step + cache > card:
            beside = f" beside a cache of {cache:.0f} GiB" if cache else ""
            lines[row["recipe"]] = (
                f"{row['recipe']}: a step needs about {step:.0f} GiB{beside} and the GPU has {card:.0f}: set "
                "compute.micro_batch (a quarter of the batch keeps a quarter) or compute.precision=bf16"
                + (", or data.cache=memory" if cache else "")
            )
    return list(lines.values())


def _data_gib(job: Job, ready: Prepared | None) -> dict[str, float | None]:
    """GiB of decoded pictures in each kind of cache, and of batches that loader processes have ready for a GPU: in
    /dev/shm, and as much pinned. None for what is not known before the data are there."""
    from gaprun.data.stream import batches_ahead

    data, decoded = job.recipe.data, _decoded(job, ready) if ready else None
    found: dict[str, float | None] = {f"cache_{kind}_gib": 0.0 for kind in ("memory", "device", "disk")}
    if data.cache != "none":
        found[f"cache_{data.cache}_gib"] = None if decoded is None else decoded / GIB
    if data.cache == "device" or not data.workers:
        return found | {"loader_memory_gib": 0.0}
    if decoded is None or ready is None:
        return found | {"loader_memory_gib": None}
    batch = decoded * job.recipe.schedule.batch_size // ready.length.images + 1
    return found | {"loader_memory_gib": batch * data.workers * batches_ahead(batch, data.workers) / GIB}


def _decoded(job: Job, ready: Prepared) -> int:
    """Bytes of all decoded training pictures."""
    data = job.recipe.data
    sizes = sizes_of(ready.splits, ready.members)
    kept = kept_sizes(sizes, _image_size(job), data.crop_scale, data.margin, data.crop)
    return 3 * int(kept.prod(1).sum())


def _image_size(job: Job) -> int:
    model = job.recipe.model
    if model.inline is not None:
        return model.inline.vision.image_size
    from gaprun.model.openclip import named_config

    size = named_config(str(model.arch))["vision_cfg"].get("image_size", 224)
    return int(size if isinstance(size, int) else max(size))


def _runs(db: str | None) -> dict[tuple[str, int | None], list[Run]]:
    """The runs by recipe hash and seed: a training is the same under any recipe name."""
    from gaprun.store import open_store

    try:
        store = open_store(db, create=False)
    except UserError:
        return {}
    found: dict[tuple[str, int | None], list[Run]] = {}
    for run in store.runs(light=True):
        found.setdefault((run.recipe_hash, run.seed), []).append(run)
    return found


def _known(runs: Sequence[Run], job: Job) -> Run | None:
    """The run that `job` is: a finished one before others, of these its own."""
    return min(runs, key=lambda run: (run.status != "finished", run.id != job.id), default=None)


def plan_table(rows: list[dict[str, Any]]) -> Table:
    """A row a job; below, the disk in all and what a card cannot hold."""
    from gaprun.training.memory import card_gib

    names = ("images", "batch", "steps", "warm-up", "params", "step GiB", "cache GiB", "disk GiB")
    heads: list[Heading | str] = ["run", "status", *(Heading(name, right=True) for name in names)]
    cells = []
    for row in rows:
        activations = row["activation_memory_gib"]
        step = "?" if activations is None else f"{row['model_memory_gib'] + activations:.2f}"
        cache = row["cache_memory_gib"], row["cache_device_gib"]
        cells.append(
            (
                row["run"],
                row["status"] if row["known_as"] is None else f"{row['status']} (as {row['known_as']})",
                *(
                    "?" if row[name] is None else str(row[name])
                    for name in ("images", "batch_size", "steps", "warmup_steps")
                ),
                f"{row['parameters'] / 1e6:.1f}M",
                step,
                "?" if None in cache else f"{sum(cache):.2f}",
                f"{row['disk_gib']:.2f}",
            )
        )
    total = sum(row["disk_gib"] for row in rows)
    absent = sorted({row["absent"] for row in rows if row["absent"]})
    legend = [
        f"Disk for checkpoints in all: {total:.2f} GiB. Memory of a step: weights, gradients, optimiser, activations "
        "(captions of full length); about a tenth more for kernels. The cache is in the host's memory, or with "
        "data.cache=device on the GPU, divided by the processes of a run.",
        *(f"No data split {name} yet: what depends on it is ?." for name in absent),
        *(f"warning: {line}" for line in too_large(rows, card_gib())),
    ]
    return Table.of("plan", heads, cells, rows, f"{counted(len(rows), 'run')}; nothing was trained", legend)
