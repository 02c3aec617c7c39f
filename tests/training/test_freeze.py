"""Frozen towers and parts: bit for bit as they began, out of the optimiser, embedded once; a run from kept features is
the run that embeds in every step."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch

from gaprun.data.pool import Pool
from gaprun.data.split import open_split
from gaprun.errors import UserError
from gaprun.jobs.plan import plan_rows
from gaprun.model.towers import build_towers
from gaprun.recipe.identity import hash_of
from gaprun.runtime.events import Event, Interrupted
from gaprun.training.head import Head
from gaprun.training.length import run_length
from gaprun.training.memory import activation_bytes
from gaprun.training.once import FrozenFeatures
from gaprun.training.state import TrainState
from tests.training.conftest import RunSmall, small_job
from tests.training.gradients import VIT, difference, gradients
from tests.training.test_faults import damage
from tests.training.test_methods import final
from tests.training.test_resume import stop_at

CENTRE = ("data.crop=centre", "data.workers=0", "data.cache=none")
TEXT_ONCE = (
    *CENTRE,
    "model.freeze=text",
    "schedule.steps=42",
)  # 42 batches of 32 are more than 1,280 captions
PARTS = "model.freeze=[visual.layer1, visual.bn1, token_embedding, text_projection]"


def test_earlier_recipes_keep_their_identity() -> None:
    document = small_job("baseline").recipe.model_dump(mode="json")
    earlier = json.loads(json.dumps(document))
    del earlier["model"]["freeze"]
    assert hash_of(document) == hash_of(earlier)
    assert hash_of(small_job("baseline", "model.freeze=image").recipe.model_dump(mode="json")) != hash_of(
        earlier
    )


WHAT = {
    "model.freeze=image": ("visual.",),
    "model.freeze=text": (
        "token_embedding.",
        "positional_",
        "transformer.",
        "ln_final.",
        "text_",
        "attn_mask",
    ),
    PARTS: ("visual.layer1.", "visual.bn1.", "token_embedding.", "text_projection"),
}


@pytest.mark.parametrize("freeze", WHAT)
def test_what_is_frozen_ends_as_it_began(freeze: str, run_small: RunSmall, monkeypatch) -> None:
    """Weights and batch normalisation's statistics, under weight decay and an average; all else moves. Nothing frozen
    is in the optimiser."""
    start: dict[str, torch.Tensor] = {}
    held: set[str] = set()
    original = TrainState.__post_init__

    def watch(self: TrainState) -> None:
        clip = self.towers.clip
        start.update({name: value.clone() for name, value in clip.state_dict().items()})
        original(self)
        ids = {id(p) for group in self.optimizer.param_groups for p in group["params"]}
        held.update(name for name, p in clip.named_parameters() if id(p) in ids)

    monkeypatch.setattr(TrainState, "__post_init__", watch)
    job, store = run_small("baseline", freeze, *CENTRE, "optimizer.ema=0.5", "optimizer.decay=all")
    end = final(job, store)["clip"]
    start.pop("logit_scale")
    moved = {name for name in start if not torch.equal(start[name], end[name])}
    still = {name for name in start if name.startswith(WHAT[freeze])}
    assert not moved & still and not held & still
    assert any("running_mean" in name for name in (moved if freeze.endswith("text") else still))
    # A key's bias has no gradient, and all else that is trained moves.
    assert held <= moved | {name for name in held if name.endswith("bias")} and held


@pytest.mark.parametrize("towers", ["resnet", "vit"])
def test_from_kept_features_pictures_give_the_same_weights_to_the_last_bit(
    towers: str, run_small: RunSmall, monkeypatch
) -> None:
    sets = (*(VIT if towers == "vit" else ()), *CENTRE, "model.freeze=image")
    job, kept = run_small("soft-swap", *sets, "swap.probability=0.5", db="kept")
    assert list(kept.artifacts.glob("cache/*.features"))
    monkeypatch.setattr(FrozenFeatures, "towers", lambda *_: set())
    _, plain = run_small("soft-swap", *sets, "swap.probability=0.5", db="plain")
    assert not list(plain.artifacts.glob("cache/*.features"))
    assert kept.runs()[0].checkpoint_hash == plain.runs()[0].checkpoint_hash
    assert kept.trajectory(job.id) == plain.trajectory(job.id)


def test_from_kept_features_captions_give_the_same_up_to_rounding(run_small: RunSmall, monkeypatch) -> None:
    """A batch is cut to its longest caption, and sums over another length round otherwise."""
    job, kept = run_small("baseline", *VIT, *TEXT_ONCE, db="kept")
    monkeypatch.setattr(FrozenFeatures, "towers", lambda *_: set())
    _, plain = run_small("baseline", *VIT, *TEXT_ONCE, db="plain")
    losses = [np.array([row["loss"] for row in store.trajectory(job.id)]) for store in (kept, plain)]
    assert 0 < np.abs(losses[0] - losses[1]).max() < 5e-6
    # Adam moves what has next to no gradient by rounding alone: here by 1/3,000 of the way that 42 steps can go.
    ours, theirs = (final(job, store)["clip"] for store in (kept, plain))
    assert max(float((ours[name] - theirs[name]).abs().max()) for name in ours) < 2e-4 < 42 * 2e-3 / 400


def events(seen: list[Event]):
    def report(event: Event) -> None:
        seen.append(event)

    return report


def test_features_are_found_again_repaired_and_not_mixed_up(run_small: RunSmall, tmp_path: Path) -> None:
    """By another temperature they are found; damaged ones are made again. The run resumes exactly, also when what was
    kept is gone."""
    seen: list[Event] = []

    def phases() -> set[str]:
        found = {event.phase for event in seen}
        seen.clear()
        return found

    sets = (*VIT, *CENTRE, "model.freeze=image", "schedule.steps=9")
    job, whole = run_small("baseline", *sets, report=events(seen))
    assert "frozen image" in phases()
    (place,) = whole.artifacts.glob("cache/*.features")
    run_small("flt", *sets, report=events(seen))
    assert "frozen image" not in phases()
    rows = (place / "rows.npy").read_bytes()
    (place / "rows.npy").write_bytes(rows[:-4] + b"\0\0\0\1")
    run_small("slrt", *sets, report=events(seen))
    assert any("rows.npy is damaged: embedded again" in event.note for event in seen)
    assert "frozen image" in phases() and (place / "rows.npy").read_bytes() == rows
    with pytest.raises(Interrupted):
        run_small("baseline", *sets, db="cut", report=stop_at(5))
    shutil.rmtree(tmp_path / "cut" / "runs" / "cache")
    _, resumed = run_small("baseline", *sets, db="cut")
    assert resumed.runs()[0].checkpoint_hash == whole.run(job.id).checkpoint_hash
    assert resumed.trajectory(job.id) == whole.trajectory(job.id)


def test_features_are_named_by_all_that_decides_them(scenes: Path) -> None:
    """Weights (a seed), picture settings, arithmetic, rows at a time, and which pictures; not what training moves."""
    pool = Pool([open_split("scenes/train", scenes)], 32, crop="centre")

    def key(*sets: str, seed: int = 0) -> str:
        job = small_job("baseline", *VIT, *CENTRE, "model.freeze=image", *sets, seed=seed)
        recipe, length = job.recipe, run_length(job.recipe, len(pool), len(pool.texts))
        torch.manual_seed(seed)
        towers = build_towers(recipe.model, None, recipe.data.normalisation)
        state = TrainState(recipe, seed, length, towers, Head.of(recipe, seed), torch.device("cpu"))
        none = lambda *_: None  # noqa: E731
        return FrozenFeatures(state, scenes, none, none, none)._key("image", "the pictures")

    others = [
        "data.mean=[.1,.1,.1]",
        "compute.precision=bf16",
        "schedule.batch_size=64",
        "compute.micro_batch=8",
    ]
    keys = [key(), key(seed=1), *(key(other) for other in others)]
    assert len(set(keys)) == len(keys)
    assert key("optimizer.lr=1", "temperature.init=0.1", "schedule.steps=99", "data.margin=2") == keys[0]
    part = Pool(pool.splits, 32, crop="centre", members=pool.members[:9])
    assert pool.content != part.content


def test_a_stop_while_embedding_leaves_nothing_behind(run_small: RunSmall, tmp_path: Path) -> None:
    def stop(event: Event) -> None:
        if event.phase == "frozen image" and event.done == 64:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Interrupted, match="stopped at step 0"):
        run_small("flt", *VIT, *CENTRE, "model.freeze=image", report=stop)
    assert list((tmp_path / "a" / "runs" / "cache").iterdir()) == []


def test_a_damaged_picture_gives_way_as_in_every_step(
    scenes: Path, tmp_path: Path, run_small: RunSmall, monkeypatch
) -> None:
    shutil.copytree(scenes, tmp_path / "own")
    monkeypatch.setenv("GAPRUN_DATA", str(tmp_path / "own"))
    damage(tmp_path / "own", [40, 41])
    sets = (*VIT, *CENTRE, "model.freeze=image", "data.damage_budget=0.01")
    _, kept = run_small("flt", *sets, db="kept")
    _, again = run_small("slrt", *sets, db="kept")
    monkeypatch.setattr(FrozenFeatures, "towers", lambda *_: set())
    _, plain = run_small("flt", *sets, db="plain")
    assert plain.runs()[0].checkpoint_hash in {run.checkpoint_hash for run in kept.runs()}
    noted = [run.notes["damaged"] for run in [*kept.runs(), *plain.runs()]]
    assert len(noted) == 3 and len(noted[0]) == 2 and noted[0] == noted[1] == noted[2]


@pytest.mark.parametrize(
    ("sets", "said"),
    [
        (("model.freeze=image",), "in every step: data.crop random shows other pixels each time"),
        (("model.freeze=text",), "in every step: the run shows fewer than the 1280 that there are"),
    ],
)
def test_what_is_not_embedded_once_is_said(sets: tuple[str, ...], said: str, run_small: RunSmall) -> None:
    seen: list[Event] = []
    _, store = run_small(
        "flt", *VIT, *sets, "schedule.steps=2", "schedule.warmup_steps=0", report=events(seen)
    )
    assert any(said in event.note and event.phase == "resume" for event in seen)
    assert not list(store.artifacts.glob("cache/*.features"))


@pytest.mark.parametrize(
    ("freeze", "said"),
    [
        ("[visual.layer5]", r"the model has no part visual\.layer5; did you mean visual\.layer\d\?"),
        ("[images]", "no part images; name image, text, or parts"),
        ("[image, text]", "nothing of the towers is left to train"),
        ("images", "model.freeze"),
        ("[]", "model.freeze"),
    ],
)
def test_mistakes(freeze: str, said: str, run_small: RunSmall) -> None:
    with pytest.raises(UserError, match=said):
        run_small("baseline", f"model.freeze={freeze}")


@pytest.mark.slow
def test_the_lit_recipe_trains_its_text_tower_alone(run_small: RunSmall, tmp_path: Path) -> None:
    torch.manual_seed(0)
    start = open_clip.create_model("ViT-S-32-alt").state_dict()
    torch.save(start, tmp_path / "start.pt")
    sets = (
        "model.inline=null",
        "model.arch=ViT-S-32-alt",
        "model.vocabulary=full",
        f"model.pretrained={tmp_path / 'start.pt'}",
        "data.subset=8",
        "schedule.epochs=null",
        "schedule.warmup_epochs=null",
        "schedule.steps=3",
        "schedule.batch_size=4",
    )
    job, store = run_small("methods/lit", *sets)
    end = final(job, store)["clip"]
    assert all(torch.equal(end[name], start[name]) for name in start if name.startswith("visual."))
    assert not torch.equal(end["text_projection"], start["text_projection"])
    assert len(list(store.artifacts.glob("cache/*.features"))) == 1


def test_micro_batches_and_both_towers_of_a_list(scenes: Path) -> None:
    """A tower without a graph takes no gradient back; the other's is that of the whole batch."""
    for freeze in ("image", "text", "[visual.conv1, text_projection]"):
        sets = (*VIT, f"model.freeze={freeze}")
        whole = gradients(scenes, "soft-swap", *sets)
        assert difference(gradients(scenes, "soft-swap", *sets, "compute.micro_batch=12"), whole) < 1e-10
        assert not any(name.startswith("visual.") for name in whole) or freeze != "image"


def test_the_plan_counts_what_is_trained(scenes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No gradients and moments of frozen parameters, nor what a frozen tower would keep for a backward pass."""
    monkeypatch.setenv("GAPRUN_DATA", str(scenes))
    jobs = [small_job("baseline", *VIT, *s) for s in ((), ("model.freeze=image",), ("model.freeze=text",))]
    plain, image, text = (plan_rows([job], None)[0] for job in jobs)
    memory = [row["model_memory_gib"] * 2**30 for row in (plain, image, text)]
    count = plain["parameters"]
    assert plain["parameters"] == image["parameters"] and memory[0] == 16 * count
    assert memory[1] + memory[2] == pytest.approx(
        20 * count, abs=32
    )  # each parameter is trained in one of both
    kept = [activation_bytes(job.recipe) for job in jobs]
    assert kept[0] > max(kept[1:]) and kept[1] + kept[2] == pytest.approx(kept[0], rel=0.01)
