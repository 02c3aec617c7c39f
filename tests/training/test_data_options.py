"""How pictures and captions become batches, against torch's and torchvision's own: central crops, mean and deviation,
the first caption, what remains of an epoch, a drawn part of the data; earlier recipes keep their identity."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from open_clip.transform import PreprocessCfg, image_transform_v2
from torch.utils.data import DataLoader
from torchvision.transforms import CenterCrop

from gaprun.data.crops import central_boxes, kept_sizes
from gaprun.data.decode import decode_rgb, stage
from gaprun.data.members import captioned
from gaprun.data.resample import Pictures, crop_and_normalise
from gaprun.data.split import open_split
from gaprun.errors import UserError
from gaprun.jobs.load import load_model
from gaprun.jobs.preflight import prepare_job
from gaprun.recipe.identity import hash_of
from gaprun.recipe.load import validate
from gaprun.training.encoding import Encoding
from gaprun.training.length import Length
from gaprun.training.state import TrainState, check_shared
from tests.jobs.test_plan import plan_of, shown
from tests.training.conftest import RunSmall, small_job
from tests.training.gradients import VIT

ADDED = ("data.subset", "data.crop", "data.mean", "data.std", "schedule.remainder")


def test_earlier_recipes_keep_their_identity() -> None:
    document = small_job("baseline").recipe.model_dump(mode="json")
    earlier = json.loads(json.dumps(document))
    for key in ADDED:
        section, _, name = key.partition(".")
        del earlier[section][name]
    assert hash_of(document) == hash_of(earlier)
    assert validate(earlier, "an earlier run").model_dump(mode="json") == document
    for change in ("data.subset=9", "data.crop=centre", "data.std=[.2,.2,.2]", "schedule.remainder=keep"):
        assert hash_of(small_job("baseline", change).recipe.model_dump(mode="json")) != hash_of(earlier)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 40), st.integers(1, 40)), min_size=1, max_size=5))
def test_central_boxes_are_torchvisions(sizes) -> None:
    for (width, height), box in zip(sizes, central_boxes(np.array(sizes)).tolist(), strict=True):
        left, top, right, bottom = box
        places = torch.arange(width * height).view(1, height, width)
        assert torch.equal(places[:, top:bottom, left:right], CenterCrop(min(width, height))(places))


def test_a_central_crop_of_a_photograph_is_what_measuring_sees(real_data) -> None:
    """Torchvision's CenterCrop and Resize against ours by way of the kept picture. open_clip's evaluation transform
    resizes first and then cuts at whole pixels, so it lies a fraction of a pixel beside both."""
    found = []
    for path in sorted((real_data / "coco_sample" / "images").glob("*.jpg"))[:20]:
        data = path.read_bytes()
        image = decode_rgb(data)
        kept = kept_sizes(np.array([image.size], dtype=float), 160, (0.9, 1.0), 1.125, "centre")
        assert kept.min() == min(180, *image.size)
        pixels = torch.from_numpy(stage(data, *kept[0].tolist()).reshape(-1))
        batch = Pictures.joined(pixels, torch.from_numpy(kept), torch.from_numpy(central_boxes(kept)))
        mean, std = (0.4225, 0.4012, 0.3659), (0.2681, 0.2635, 0.2763)
        ours = crop_and_normalise(batch, 160, "bicubic", torch.tensor(mean), torch.tensor(std))[0]
        theirs = image_transform_v2(PreprocessCfg(size=160, mean=mean, std=std), is_train=False)
        square = theirs(CenterCrop(min(image.size))(image))
        levels = [
            (x - ours).mul(torch.tensor(std).view(3, 1, 1) * 255).abs() for x in (square, theirs(image))
        ]
        found.append([level.mean().item() for level in levels])
    (beside_square, beside_measuring), worst = np.mean(found, 0), np.max(found, 0)  # in grey levels

    assert beside_square < 3.5 and worst[0] < 8
    assert beside_measuring < 8


def test_mean_and_deviation_hold_in_training_and_in_measuring(run_small: RunSmall, monkeypatch) -> None:
    seen: list[torch.Tensor] = []
    original = Encoding.features

    def watch(self, pictures, tokens, encoders=None):
        seen.append(crop_and_normalise(pictures, 32, self.interpolation, self._mean, self._std))
        return original(self, pictures, tokens, encoders)

    monkeypatch.setattr(Encoding, "features", watch)
    sets = (*VIT, "data.crop=centre", "schedule.steps=2", "schedule.warmup_steps=0")
    run_small("flt", *sets, db="a")
    job, store = run_small("flt", *sets, "data.mean=[0.1,0.2,0.3]", "data.std=[0.5,0.6,0.7]", db="b")
    plain, other = seen[0].double(), seen[2].double()
    mean, std = (torch.tensor(v).double().view(3, 1, 1) for v in ((0.1, 0.2, 0.3), (0.5, 0.6, 0.7)))
    clips = PreprocessCfg()
    levels = plain * torch.tensor(clips.std).view(3, 1, 1) + torch.tensor(clips.mean).view(3, 1, 1)
    torch.testing.assert_close(other, (levels - mean) / std, rtol=1e-5, atol=1e-5)
    measured = load_model(store, job.id, None, None).towers.preprocessing
    assert tuple(measured["mean"]) == (0.1, 0.2, 0.3) and tuple(measured["std"]) == (0.5, 0.6, 0.7)


@pytest.mark.parametrize(
    "sets, words",
    [
        (["data.mean=[0.4,0.4,104]"], "whole range"),
        (["data.std=[0,0.2,0.2]"], "whole range"),
        (["data.crop=centre", "data.crop_scale=[0.5,1]"], "crop_scale"),
    ],
)
def test_pictures_that_make_no_sense_are_refused(sets, words) -> None:
    with pytest.raises(UserError, match=words):
        small_job("baseline", *sets)


def test_the_first_caption_is_always_the_first() -> None:
    plan = plan_of([1, 3, 2, 5], "first", batch=2)
    images, captions = shown(plan, range(4))
    assert np.array_equal(captions, np.array([0, 1, 4, 6])[images])


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 40), st.integers(2, 12), st.integers(0, 3))
def test_a_kept_remainder_is_torchs_last_batch(rows, batch, epoch) -> None:
    batch = min(batch, rows)
    plan = plan_of([1] * rows, "random", batch=batch)
    object.__setattr__(plan, "remainder", "keep")
    theirs = [len(part) for part in DataLoader(list(range(rows)), batch_size=batch, drop_last=False)]
    steps = range(epoch * plan.steps_per_epoch, (epoch + 1) * plan.steps_per_epoch)
    ours = [plan.images(step) for step in steps]
    assert [len(part) for part in ours] == theirs
    assert sorted(np.concatenate(ours).tolist()) == list(range(rows))


def test_a_run_keeps_the_remainder(run_small: RunSmall, monkeypatch) -> None:
    """256 pictures in batches of 100 are steps of 100, 100 and 56; the loss of each is a mean over its own pairs."""
    sizes: list[int] = []
    original = TrainState.train_step

    def watch(self, batch, measure):
        sizes.append(len(batch.tokens))
        return original(self, batch, measure)

    monkeypatch.setattr(TrainState, "train_step", watch)
    job, store = run_small(
        "baseline", *VIT, "schedule.batch_size=100", "schedule.remainder=keep", "schedule.steps=7"
    )
    assert sizes == [100, 100, 56, 100, 100, 56, 100]
    path = store.trajectory(job.id)
    assert [row["samples_seen"] for row in path] == [0, 100, 200, 256, 356, 456, 512]
    assert [row["epoch"] for row in path] == pytest.approx([k / 3 for k in range(7)])
    assert max(row["loss"] for row in path) < 2 * np.log(100)


def test_one_pair_alone_and_shared_remainders_are_refused(monkeypatch, scenes) -> None:
    monkeypatch.setenv("GAPRUN_DATA", str(scenes))
    with pytest.raises(UserError, match="one pair alone"):
        prepare_job(small_job("baseline", "schedule.batch_size=85", "schedule.remainder=keep"))
    with pytest.raises(UserError, match="data.mismatched: 0.005 of 256 images is 1"):
        prepare_job(small_job("baseline", "data.mismatched=0.005"))

    class Two:
        size = 2

        def rows(self, count: int) -> slice:
            return slice(0, count // 2)

    with pytest.raises(UserError, match="several processes"):
        check_shared(Length(256, 256, 100, 3, 7, 0, 0), Two())  # type: ignore[arg-type]
    assert check_shared(Length(256, 256, 64, 4, 7, 0, 0), Two()) == slice(0, 32)  # type: ignore[arg-type]


def test_a_subset_is_drawn_by_the_seed(scenes, monkeypatch) -> None:
    monkeypatch.setenv("GAPRUN_DATA", str(scenes))
    splits = [open_split("scenes/train")]
    first, again, other = (list(map(tuple, captioned(splits, 40, seed).tolist())) for seed in (0, 0, 1))
    assert first == again != other and first == sorted(set(first)) and len(first) == 40
    captions = [text for s, i in first for text in splits[s].captions[i]]
    assert len(set(captions)) == len(captions)
    with pytest.raises(UserError, match="data.subset: 257 .* of 256"):
        captioned(splits, 257)
    with pytest.raises(UserError, match="batch_size: 32 is more than the 20"):
        prepare_job(small_job("baseline", "data.subset=20"))


def test_a_run_of_a_subset_sees_nothing_else(run_small: RunSmall, monkeypatch) -> None:
    from gaprun.data.pool import Pool

    shown_: set[tuple[int, int]] = set()
    original = Pool.picture
    monkeypatch.setattr(
        Pool,
        "picture",
        lambda self, index: shown_.add(tuple(self.members[index].tolist())) or original(self, index),
    )
    job, store = run_small("baseline", *VIT, "data.subset=48", seed=3)
    assert shown_ == set(map(tuple, captioned([open_split("scenes/train")], 48, 3).tolist()))
    assert [row["epoch"] for row in store.trajectory(job.id)][1] == 1.0
