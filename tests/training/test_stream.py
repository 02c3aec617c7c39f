"""The training stream: a pure function of (seed, step) for any number of workers, cached or not; damaged pictures."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from gaprun.data.plan import CaptionRule, Plan
from gaprun.data.pool import Pool
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
    assert len(names) == 1 and "train-000017" in names.pop()


def test_nothing_but_damage_stops(scenes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load = make(scenes)
    monkeypatch.setattr(type(load.plan.pool.splits[0]), "read_image", lambda self, i: b"no picture")
    for workers in (0, 1):
        with pytest.raises(Failure, match="in a row") as error:
            list(stream(load, 0, 2, workers))
        assert "Traceback" not in str(error.value)
