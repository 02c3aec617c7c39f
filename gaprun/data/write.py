"""Writing a split so that a crash costs one shard at most and a reader never sees half a set.

Finished shards are noted in a journal (`.writing/`); the same call again goes on after the last of them and
ends with the same bytes as an undisturbed one. `index.json` is written last, so its presence means: complete.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gaprun.data.folder import (
    LOCK,
    PLAN,
    clear,
    disk_errors,
    locked,
    publish,
    remove_work,
    replace_file,
    state_of,
)
from gaprun.data.identity import file_state
from gaprun.data.parallel import Progress, ordered_map
from gaprun.data.shards import Sample, dump_line, write_shard
from gaprun.data.split import WORK, read_index
from gaprun.data.tally import Tally
from gaprun.errors import UserError

SHARD_SAMPLES = 1000
SHARD_BYTES = 128 * 2**20


@dataclass(frozen=True)
class ItemOutcome:
    """What became of one item: a sample or None, and the reasons to count (`greyscale`, ...)."""

    sample: Sample | None
    reasons: tuple[str, ...] = ()
    name: str = ""


@dataclass(frozen=True)
class SplitPlan:
    """One split to write: `make(item)` for each of `items` in order, into `folder`.

    `source` (JSON values only) must decide every byte of the result together with this version of gaprun: it
    is how a later call knows the split again. `report` and `examples` start from what planning left out. `newest`: when
    the newest of the files that `items` are made from was last changed (ns since 1970; 0: there are none).
    """

    folder: Path
    items: Sequence[Any]
    make: Callable[[Any], ItemOutcome]
    source: dict[str, Any]
    classes: list[str] | None = None
    templates: list[str] | None = None
    image_size: int | None = None
    report: dict[str, int] = field(default_factory=dict)
    examples: dict[str, list[str]] = field(default_factory=dict)
    newest: int = 0


def digest(values: Any) -> str:
    """Sha256 of `values` as JSON: a short stand-in for a long list in a plan's source."""
    return hashlib.sha256(dump_line(values)).hexdigest()


def write_splits(
    plans: Sequence[SplitPlan], force: bool = False, workers: int = 1, progress: Progress | None = None
) -> list[tuple[dict[str, Any], bool]]:
    """Write every plan; its index, and whether it was written now (False: an equal one was found).

    All folders are looked at before the first is touched. Raises UserError where a folder holds something
    else (unless `force` and it is a split) or cannot be written; where a split has no usable sample, after the others
    were written; Failure where the disk fails or another process is writing the same split.
    """
    states = []
    for plan in plans:
        if not plan.items:
            why = str(Tally(plan.report, plan.examples)) or "no picture found"
            raise UserError(f"nothing to write into {plan.folder}: {why}")
        with disk_errors(plan.folder):
            states.append(state_of(plan.folder, plan.source, force, plan.newest))
    total, done, results = sum(len(plan.items) for plan in plans), 0, []
    unusable: list[str] = []
    for plan, state in zip(plans, states, strict=True):
        if state == "done":
            results.append((read_index(plan.folder), False))
        else:
            counted = None if progress is None else _shifted(progress, done, total)
            try:
                if state == "clear":
                    _check_usable(plan)  # what cannot be replaced stays
                results.append((_write(plan, workers, counted, state == "clear"), True))
            except NothingUsable as error:
                unusable.append(str(error))
        done += len(plan.items)
        if progress is not None:
            progress(done, total)
    if unusable:
        written = [f"{index['dataset']}/{index['split']}" for index, _ in results]
        others = f" ({', '.join(written)} are there)" if written else ""
        raise UserError("; ".join(unusable) + others)
    return results


class NothingUsable(UserError):
    """A split none of whose pictures can be used."""


def _check_usable(plan: SplitPlan) -> None:
    """Raise NothingUsable where no item gives a sample; the first that does ends the search."""
    tally = Tally(plan.report, plan.examples)
    for outcome in map(plan.make, plan.items):
        if outcome.sample is not None:
            return
        for reason in outcome.reasons:
            tally.add(reason, outcome.name)
    raise NothingUsable(f"no usable picture for {plan.folder}, which stays as it is: {tally}")


def _shifted(progress: Progress, before: int, total: int) -> Progress:
    return lambda done, _: progress(before + done, total)


def _write(plan: SplitPlan, workers: int, progress: Progress | None, anew: bool) -> dict[str, Any]:
    """Write the split, `anew` after what is there was removed; under a lock, so that nobody else's work is."""
    work = plan.folder / WORK
    made = [folder for folder in (plan.folder, *plan.folder.parents) if not folder.exists()]
    with disk_errors(plan.folder):
        work.mkdir(parents=True, exist_ok=True)
        with locked(work / LOCK, plan.folder):
            if anew:
                clear(plan.folder)
            if not (work / PLAN).is_file():  # its time says when the split was begun
                replace_file(work / PLAN, dump_line(plan.source))
            return _fill(plan, work, workers, progress, made)


def _fill(
    plan: SplitPlan, work: Path, workers: int, progress: Progress | None, made: list[Path]
) -> dict[str, Any]:
    """Write the shards that the journal does not have, then samples.jsonl and index.json."""
    done = list(_journal(plan.folder, work))
    begin = done[-1]["next"] if done else 0
    outcomes = _Outcomes(ordered_map(plan.make, plan.items[begin:], workers), begin)
    while (first := outcomes.next_sample()) is not None:
        name = f"{len(done):05d}"
        samples = _reported(outcomes.shard(first), outcomes, len(plan.items), progress)
        entry, lines = write_shard(work / f"{name}.tar", samples, len(done))
        os.replace(work / entry["file"], plan.folder / entry["file"])
        state = file_state(plan.folder / entry["file"])
        note = {"shard": entry, "lines": lines, "next": outcomes.taken, **outcomes.take_counts()}
        replace_file(work / f"{name}.json", dump_line(note))
        done.append(note | {"state": state})
    tally = Tally(plan.report, plan.examples)
    for note in [*done, outcomes.take_counts()]:
        tally.join(note["report"], note["examples"])
    if not done:
        remove_work(work)
        for folder in made:
            folder.rmdir()
        raise NothingUsable(f"no usable picture for {plan.folder}: {tally}")
    index = publish(
        plan.folder,
        source=plan.source,
        shards=[note["shard"] for note in done],
        lines=[line for note in done for line in note["lines"]],
        report=tally.counts,
        examples=tally.examples,
        states={note["shard"]["file"]: note["state"] for note in done},
        classes=plan.classes,
        templates=plan.templates,
        image_size=plan.image_size,
    )
    remove_work(work)
    return index


class _Outcomes:
    """Outcomes consumed in order, shard by shard, with what was taken and counted so far."""

    def __init__(self, outcomes: Iterator[ItemOutcome], taken: int) -> None:
        self.outcomes, self.taken, self.tally = outcomes, taken, Tally()

    def next_sample(self) -> Sample | None:
        """The next usable sample, counting what is passed over; None at the end."""
        for outcome in self.outcomes:
            self.taken += 1
            for reason in outcome.reasons:
                self.tally.add(reason, outcome.name)
            if outcome.sample is not None:
                return outcome.sample
        return None

    def shard(self, first: Sample) -> Iterator[Sample]:
        """`first` and its followers until a shard is full."""
        count, size, sample = 0, 0, first
        while True:
            yield sample
            count, size = count + 1, size + len(sample.image)
            if count >= SHARD_SAMPLES or size >= SHARD_BYTES:
                return
            following = self.next_sample()
            if following is None:
                return
            sample = following

    def take_counts(self) -> dict[str, Any]:
        """The counts since the last call."""
        counts = {"report": dict(self.tally.counts), "examples": self.tally.examples}
        self.tally = Tally()
        return counts


def _reported(
    samples: Iterator[Sample], outcomes: _Outcomes, total: int, progress: Progress | None
) -> Iterator[Sample]:
    for sample in samples:
        if progress is not None:
            progress(outcomes.taken, total)
        yield sample


def _journal(folder: Path, work: Path) -> Iterator[dict[str, Any]]:
    """Notes of the shards that are complete, up to the first that is not."""
    for number in range(10**5):
        try:
            note = json.loads((work / f"{number:05d}.json").read_text(encoding="utf-8"))
            shard = folder / note["shard"]["file"]
            state = file_state(shard)
            if hashlib.sha256(shard.read_bytes()).hexdigest() != note["shard"]["sha256"]:
                return
        except (OSError, ValueError, KeyError):
            return
        yield note | {"state": state}
