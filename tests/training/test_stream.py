"""The training stream: a pure function of (seed, step) for any number of workers; crops by open_clip's rule."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision.transforms import RandomResizedCrop
from torchvision.transforms.functional import resized_crop

from gaprun.data.cache import DecodedCache
from gaprun.data.split import open_split
from gaprun.data.stream import LoadBatch, Plan, Pool, _crop_batch, crop_and_normalise, random_crops, stream
from gaprun.errors import Failure, UserError


def make(scenes: Path, seed: int = 0, batch: int = 32, mismatched: float = 0.0) -> LoadBatch:
    pool = Pool([open_split("scenes/train", scenes)], 32)
    tokens = np.arange(len(pool.texts))[:, None]  # a caption's id instead of its tokens
    return LoadBatch(Plan(pool, seed, batch, (0.9, 1.0), mismatched), tokens)


def as_list(load: LoadBatch, start: int, stop: int, workers: int) -> list[tuple[int, bytes, bytes, bytes]]:
    return [
        (b.step, b.pictures.numpy().tobytes(), b.crops.numpy().tobytes(), b.tokens.numpy().tobytes())
        for b in stream(load, start, stop, workers)
    ]


def test_same_batches_for_any_number_of_workers_and_from_any_step(scenes: Path) -> None:
    whole = as_list(make(scenes), 0, 20, 0)
    assert [item[0] for item in whole] == list(range(20))
    assert as_list(make(scenes), 0, 20, 1) == whole and as_list(make(scenes), 0, 20, 3) == whole
    assert as_list(make(scenes), 13, 20, 2) == whole[13:]


def test_cached_equals_streamed(scenes: Path, tmp_path: Path) -> None:
    expected = as_list(make(scenes), 0, 20, 0)
    for folder in (None, tmp_path):
        for workers in (0, 2):
            cached = make(scenes)
            cached.plan.pool.use_cache(folder)
            assert as_list(cached, 0, 20, workers) == expected
            assert cached.plan.pool.cache.ready.all()  # two and a half epochs: every picture was put


def test_a_cache_file_is_found_again_and_nothing_is_decoded(
    scenes: Path, tmp_path: Path, monkeypatch
) -> None:
    first = make(scenes)
    first.plan.pool.use_cache(tmp_path)
    expected = as_list(first, 0, 8, 0)
    again = make(scenes)
    again.plan.pool.use_cache(tmp_path)
    monkeypatch.setattr(type(again.plan.pool.splits[0]), "read_image", lambda self, i: pytest.fail("decoded"))
    assert as_list(again, 0, 8, 0) == expected and len(list(tmp_path.iterdir())) == 1


def test_a_cache_that_does_not_fit_is_refused_before_it_starts(
    monkeypatch: pytest.MonkeyPatch, tmp_path
) -> None:
    monkeypatch.setattr("gaprun.data.cache.free_memory", lambda: 2**20)
    with pytest.raises(UserError, match="do not fit into the 0.0 GiB that are free; set data.cache to disk"):
        DecodedCache(1000, 32, None)
    with pytest.raises(UserError, match="set data.cache to none"):
        DecodedCache(10**9, 256, tmp_path / "new" / "c.u8")
    assert not (tmp_path / "new").exists()


def test_seeds_and_epochs_differ_and_an_epoch_is_a_permutation(scenes: Path) -> None:
    plan, other = make(scenes).plan, make(scenes, seed=1).plan
    epochs = [np.concatenate([plan.images(e * 8 + s) for s in range(8)]) for e in range(2)]
    for epoch in epochs:
        assert np.array_equal(np.sort(epoch), np.arange(256))
    assert not np.array_equal(*epochs) and not np.array_equal(plan.images(0), other.images(0))


def test_captions_are_the_images_own_and_vary_by_epoch(scenes: Path) -> None:
    plan = make(scenes).plan
    owner = np.repeat(np.arange(256), plan.pool.caption_counts)
    images = np.arange(256)
    epochs = np.stack([plan.captions(8 * epoch, images) for epoch in range(200)])
    assert np.array_equal(owner[epochs], np.tile(images, (200, 1)))
    counts = np.bincount((epochs - plan.pool.caption_starts).ravel(), minlength=5)
    assert np.all(np.abs(counts / counts.sum() - 0.2) < 0.01)


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_mismatched_share_is_exact_and_a_permutation(scenes: Path, share: float) -> None:
    owner = make(scenes, mismatched=share).plan._caption_owner()
    assert (owner != np.arange(256)).sum() == round(share * 256)
    assert np.array_equal(np.sort(owner), np.arange(256))


def test_crops_follow_torchvisions_distribution() -> None:
    sizes = np.tile([640.0, 480.0], (4000, 1))
    ours = random_crops(sizes, (0.3, 1.0), np.random.default_rng(0))
    torch.manual_seed(0)
    blank = torch.zeros(1, 480, 640)
    theirs = np.array([RandomResizedCrop.get_params(blank, [0.3, 1.0], [3 / 4, 4 / 3]) for _ in range(4000)])
    theirs = theirs[:, [1, 0, 3, 2]] / np.array([640, 480, 640, 480])
    for column in range(4):
        for q in (0.1, 0.5, 0.9):
            assert np.quantile(ours[:, column], q) == pytest.approx(
                np.quantile(theirs[:, column], q), abs=0.025
            )
    assert np.all(ours[:, :2] >= 0) and np.all(ours[:, :2] + ours[:, 2:] <= 1 + 1e-9)


def test_whole_picture_crop_is_the_picture_normalised() -> None:
    pictures = torch.randint(0, 256, (3, 8, 8, 3), dtype=torch.uint8)
    box = torch.tensor([[0.0, 0.0, 1.0, 1.0]]).repeat(3, 1)
    mean, std = torch.tensor([0.4, 0.5, 0.6]), torch.tensor([0.2, 0.3, 0.1])
    out = crop_and_normalise(pictures, box, 8, mean, std)
    expected = (pictures.permute(0, 3, 1, 2) / 255 - mean.view(3, 1, 1)) / std.view(3, 1, 1)
    torch.testing.assert_close(out, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("scale", [(0.9, 1.0), (0.02, 0.1)])
def test_crops_are_torchvisions_resized_crops_whole_batches_and_byte_by_byte(
    scale: tuple[float, float],
) -> None:
    torch.manual_seed(0)
    noise = torch.randint(0, 256, (12, 3, 12, 12)).float()
    smooth = torch.nn.functional.interpolate(noise, (97, 97), mode="bicubic").clamp(0, 255)
    pictures = smooth.to(torch.uint8).permute(0, 2, 3, 1).contiguous()
    boxes = random_crops(np.full((12, 2), 97.0), scale, np.random.default_rng(1))
    crops = torch.from_numpy(boxes).float()
    wanted = torch.stack(
        [
            resized_crop(
                picture.permute(2, 0, 1).float(), *(int(v) for v in (y, x, h, w)), [64, 64], antialias=False
            )
            for picture, (x, y, w, h) in zip(pictures, np.round(boxes * 97), strict=True)
        ]
    )
    first, last = np.round(boxes[:, :2] * 97), np.round((boxes[:, :2] + boxes[:, 2:]) * 97)
    batched = _crop_batch(pictures, torch.from_numpy(first).float(), torch.from_numpy(last).float(), 64)
    torch.testing.assert_close(batched, wanted, rtol=0, atol=0.02)
    bytewise = crop_and_normalise(pictures, crops, 64, torch.zeros(3), torch.ones(3)) * 255
    assert (bytewise - wanted).abs().max() <= 1.01 and (bytewise - wanted).abs().mean() < 0.4


def test_half_crop_is_the_half() -> None:
    pictures = torch.arange(16, dtype=torch.uint8).repeat(16, 1)[None, :, :, None].repeat(1, 1, 1, 3)
    out = crop_and_normalise(pictures, torch.tensor([[0.5, 0.0, 0.5, 1.0]]), 8, torch.zeros(3), torch.ones(3))
    torch.testing.assert_close(out[0, 0, 0] * 255, torch.arange(8.0, 16.0))


def test_batch_larger_than_the_data_is_refused(scenes: Path) -> None:
    with pytest.raises(UserError, match="batch_size: 300 is more than the 256"):
        make(scenes, batch=300)


@pytest.fixture
def damaged(scenes: Path, tmp_path: Path) -> Path:
    """The scenes with the middle of one picture overwritten."""
    import shutil

    shutil.copytree(scenes / "scenes", tmp_path / "scenes")
    split = open_split("scenes/train", tmp_path)
    shard, offset, size = split.places[17]
    with (split.shards[shard]).open("r+b") as file:
        file.seek(offset)
        file.write(b"\0" * int(size))
    return tmp_path


def test_a_damaged_pair_gives_way_to_the_next_and_is_named(damaged: Path, scenes: Path) -> None:
    load, whole = make(damaged), make(scenes)
    names: set[str] = set()
    for step in range(8):
        batch, sound = load.load(step), whole.load(step)
        names.update(batch.damaged)
        position = np.flatnonzero(load.plan.images(step) == 17)
        same = np.delete(np.arange(32), position)
        assert torch.equal(batch.pictures[same], sound.pictures[same])
        if len(position):
            neighbour = whole.plan.pool.picture(18)
            assert np.array_equal(batch.pictures[position[0]].numpy(), neighbour)
            assert load.plan.captions(step, np.array([18]))[0] == batch.tokens[position[0], 0]
    assert len(names) == 1 and "train-000017" in names.pop()


def test_nothing_but_damage_stops(scenes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load = make(scenes)
    monkeypatch.setattr(type(load.plan.pool.splits[0]), "read_image", lambda self, i: b"no picture")
    for workers in (0, 1):
        with pytest.raises(Failure, match="in a row") as error:
            list(stream(load, 0, 2, workers))
        assert "Traceback" not in str(error.value)
