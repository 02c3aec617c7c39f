"""The training stream: a pure function of (seed, step) for any number of workers, cached or not; damaged pictures."""

import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from gaprun.data.loading import loader_context
from gaprun.data.plan import CaptionRule, Plan
from gaprun.data.pool import Pool
from gaprun.data.resample import Pictures, crop_and_normalise, cropped
from gaprun.data.resident import Holding, ResidentBatches, decode_into
from gaprun.data.split import open_split
from gaprun.data.stream import Batch, LoadBatch, stream
from gaprun.errors import Failure


def make(scenes: Path, side: int = 32, rule: CaptionRule = "random") -> LoadBatch:
    """Batches of 32 for towers of `side` pixels, with a caption's id instead of its tokens."""
    pool = Pool([open_split("scenes/train", scenes)], side)
    return LoadBatch(Plan(pool, 0, 32, (0.9, 1.0), rule=rule), np.arange(len(pool.texts))[:, None])


def as_list(load: LoadBatch, start: int, stop: int, workers: int) -> list[tuple[object, ...]]:
    return [
        (b.step, *pictures_of(b), b.pictures.boxes.numpy().tobytes(), b.tokens.numpy().tobytes())
        for b in stream(load, start, stop, workers)
    ]


def pictures_of(batch: Batch) -> list[bytes]:
    pixels, lengths = batch.pictures.pixels.numpy(), 3 * batch.pictures.sizes.prod(1)
    places = zip(batch.pictures.starts.tolist(), lengths.tolist(), strict=True)
    return [pixels[start : start + length].tobytes() for start, length in places]


@pytest.mark.parametrize("rule", ["random", "cycle", "pairs"])
def test_same_batches_for_any_number_of_workers_and_from_any_step(scenes: Path, rule: CaptionRule) -> None:
    whole = as_list(make(scenes, 32, rule), 0, 20, 0)
    assert [item[0] for item in whole] == list(range(20))
    assert as_list(make(scenes, 32, rule), 0, 20, 1) == whole == as_list(make(scenes, 32, rule), 0, 20, 3)
    assert as_list(make(scenes, 32, rule), 13, 20, 2) == whole[13:]


@pytest.mark.parametrize(("side", "in_place"), [(32, False), (32, True), (8, True)])
def test_cached_equals_streamed(scenes: Path, tmp_path: Path, side: int, in_place: bool) -> None:
    expected = as_list(make(scenes, side), 0, 20, 0)
    for folder in (None, tmp_path):
        for workers in (0, 2):
            cached = make(scenes, side)
            cached.plan.pool.use_cache(folder)
            if in_place:
                cached = LoadBatch(cached.plan, cached.tokens, in_place=True)
            assert as_list(cached, 0, 20, workers) == expected
            assert cached.plan.pool.cache.sound.all()  # two and a half epochs: every picture was put


def resident(load: LoadBatch, processes: int = 1, process: int = 0) -> ResidentBatches:
    """What `process` holds of the pictures; `load` with its rows."""
    holding = Holding.of(load.plan.pool.kept, processes)
    pixels = torch.empty(holding.size(process), dtype=torch.uint8)
    damage = decode_into(pixels, load.plan.pool, holding.part(process), 2)
    rows = slice(32 * process // processes, 32 * (process + 1) // processes)
    own = LoadBatch(load.plan, load.tokens, rows=rows)
    return ResidentBatches(own, holding, pixels, process, damage)


@pytest.mark.parametrize("side", [32, 8])
def test_the_device_cache_gives_the_memory_caches_bytes(scenes: Path, side: int) -> None:
    cached = make(scenes, side)
    cached.plan.pool.use_cache(None)
    expected = as_list(LoadBatch(cached.plan, cached.tokens, in_place=True), 0, 20, 0)
    held = resident(make(scenes, side))
    found = [held.batch(step) for step in range(20)]
    assert [
        (b.step, *pictures_of(b), b.pictures.boxes.numpy().tobytes(), b.tokens.numpy().tobytes())
        for b in found
    ] == expected
    assert len({b.pictures.pixels.data_ptr() for b in found}) == 1 and not any(b.travel for b in found)


@pytest.mark.parametrize("processes", [2, 4])
def test_a_shared_device_cache_shows_what_one_process_does(scenes: Path, processes: int) -> None:
    """What each process holds is cropped there; what each receives, put in its places, is one process's crops."""
    load, mean, std = make(scenes, 20), torch.zeros(3), torch.ones(3)
    parts = [resident(load, processes, process) for process in range(processes)]
    assert sum(len(part.pixels) for part in parts) == 3 * load.plan.pool.kept.prod(1).sum()
    for step in (0, 7):
        batches = [part.batch(step) for part in parts]
        crops = [cropped(batch.pictures, 20, "bicubic") for batch in batches]
        sent = [c.split(batch.travel.sent) for c, batch in zip(crops, batches, strict=True)]
        found = []
        for process, batch in enumerate(batches):
            assert [len(s[process]) for s in sent] == batch.travel.received
            found.append(torch.cat([s[process] for s in sent])[batch.travel.places])
        whole = load.load(step)
        assert torch.equal(torch.cat(found), cropped(whole.pictures, 20, "bicubic"))
        assert torch.equal(torch.cat([batch.tokens for batch in batches]), whole.tokens)
        # Bytes of the right size are shown as they are.
        again = Pictures.joined(
            torch.cat(found).view(-1), torch.full((32, 2), 20), torch.tensor([0, 0, 20, 20]).expand(32, 4)
        )
        shown = (crop_and_normalise(p, 20, "bicubic", mean, std) for p in (again, whole.pictures))
        assert torch.equal(*shown)


def test_loaders_do_not_fork_a_process_that_uses_cuda(scenes: Path, tmp_path: Path, monkeypatch) -> None:
    """From a clean server process: the same batches, one cache, tokens that are mapped or shared and not copied."""
    expected = as_list(make(scenes), 0, 10, 0)
    assert loader_context().get_start_method() == "fork"
    monkeypatch.setattr("torch.cuda.is_initialized", lambda: True)
    assert loader_context().get_start_method() == "forkserver"
    np.save(tmp_path / "tokens.npy", make(scenes).tokens)
    for folder, mapped in ((None, True), (tmp_path / "cache", False)):
        load = make(scenes)
        load.plan.pool.use_cache(folder)
        if mapped:
            load.tokens = np.load(tmp_path / "tokens.npy", mmap_mode="r")
        assert as_list(load, 0, 10, 2) == expected
        assert (load.plan.pool.cache.sums != 0).all()  # what loaders put is seen here
    copy = pickle.loads(pickle.dumps(load.plan.pool.cache))
    assert np.array_equal(copy.pixels, load.plan.pool.cache.pixels) and copy.get(3) is not None


@pytest.fixture
def damaged(scenes: Path, tmp_path: Path) -> LoadBatch:
    """The scenes, one of whose pictures was overwritten after the split was opened."""
    shutil.copytree(scenes / "scenes", tmp_path / "scenes")
    load = make(tmp_path)
    (split,) = load.plan.pool.splits
    shard, offset, size = split.places[17]
    with (split.shards[shard]).open("r+b") as file:
        file.seek(offset)
        file.write(b"\0" * int(size))
    return load


def test_a_damaged_pair_gives_way_to_the_next_and_is_named(damaged: LoadBatch, scenes: Path) -> None:
    load, whole = damaged, make(scenes)
    names: set[str] = set()
    for step in range(8):
        batch, sound = load.load(step), whole.load(step)
        names.update(batch.damaged)
        position = np.flatnonzero(load.plan.images(step) == 17)
        found, expected = pictures_of(batch), pictures_of(sound)
        if len(position):
            expected[position[0]] = whole.plan.pool.picture(18).tobytes()
            assert batch.tokens[position[0], 0] // 5 == 18  # five captions each
        assert found == expected
    assert len(names) == 1 and "train-000017" in next(iter(names))
    held = resident(load)
    for step in range(8):
        found, expected = held.batch(step), load.load(step)
        assert pictures_of(found) == pictures_of(expected) and torch.equal(found.tokens, expected.tokens)
        assert found.damaged == expected.damaged


def test_nothing_but_damage_stops(scenes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load = make(scenes)
    monkeypatch.setattr(type(load.plan.pool.splits[0]), "read_image", lambda self, i: b"no picture")
    for workers in (0, 1):
        with pytest.raises(Failure, match="in a row") as error:
            list(stream(load, 0, 2, workers))
        assert "Traceback" not in str(error.value)
