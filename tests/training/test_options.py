"""Options of the arithmetic, the towers and the data each reach training and change what they should."""

import math

import pytest

from tests.training.conftest import RunSmall

VIT = ("model.inline.vision.layers=2", "model.inline.vision.patch_size=8", "model.inline.vision.width=32")
OPTIONS = {
    "bf16": ("compute.precision=bf16",),
    "contiguous": ("compute.channels_last=false",),
    "sigmoid": ("loss.name=sigmoid",),
    "mismatched": ("data.mismatched=0.5",),
    "vit": VIT,
    "clipped": ("optimizer.grad_clip=0.01",),
    "full-vocabulary": ("model.vocabulary=full",),
    "warm-up in epochs": ("schedule.warmup_steps=null", "schedule.warmup_epochs=0.5"),
}


@pytest.fixture
def losses(run_small: RunSmall):
    """Losses by step of a short run with some options."""

    def run(*options: str, db: str) -> list[float]:
        job, store = run_small("baseline", "schedule.steps=6", *options, db=db)
        return [row["loss"] for row in store.trajectory(job.id)]

    return run


@pytest.mark.parametrize("name", OPTIONS)
def test_an_option_trains_and_makes_a_difference(name: str, losses) -> None:
    plain, changed = losses(db="plain"), losses(*OPTIONS[name], db="changed")
    assert len(changed) == 6 and all(math.isfinite(loss) for loss in changed) and changed != plain
    if name in (
        "bf16",
        "contiguous",
        "clipped",
        "warm-up in epochs",
    ):  # the same start, by another arithmetic
        assert changed[0] == pytest.approx(plain[0], rel=2e-2)
    if name == "sigmoid":
        assert changed[0] > plain[0]


@pytest.mark.slow
def test_compiled_towers_give_the_same_losses(losses) -> None:
    slow = "optimizer.lr=1e-4"  # at the recipe's rate the first steps magnify a difference in rounding
    expected = losses(slow, db="plain")
    assert losses(slow, "compute.compile=true", db="c") == pytest.approx(expected, rel=1e-4)


def test_an_open_clip_architecture_by_name(losses) -> None:
    found = losses(
        "model.inline=null", "model.arch=ViT-S-32-alt", "model.vocabulary=used", "schedule.batch_size=2",
        "schedule.steps=2", "schedule.warmup_steps=1", db="arch",
    )  # fmt: skip
    assert len(found) == 2 and all(math.isfinite(loss) for loss in found)


def test_neutral_keys_leave_the_weights_alone_and_threads_do_not(run_small: RunSmall) -> None:
    one = ["compute.threads=1", "schedule.steps=6"]
    neutral = ["data.workers=1", "data.cache=none", "checkpoint.keep=3", "checkpoint.every_steps=2"]
    other = ["description=x", "data.damage_budget=0.5", "name=other"]

    def weights(*options: str, db: str) -> str:
        return run_small("baseline", *options, db=db)[1].runs()[0].checkpoint_hash

    first = weights(*one, db="a")
    assert weights(*one, *neutral, *other, db="b") == first
    assert weights(*one, "data.cache=device", db="d") == first
    assert weights("compute.threads=2", "schedule.steps=6", db="c") != first
