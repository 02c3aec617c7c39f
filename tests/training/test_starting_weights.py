"""Training from weights that are there: a run's checkpoint or a weights file, with an architecture written inline."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from gaprun.errors import UserError
from gaprun.jobs.load import load_model
from gaprun.jobs.preflight import prepare_job
from gaprun.jobs.run import run_job
from gaprun.model.saved import load_checkpoint, newest_checkpoint, weights_hash
from gaprun.model.towers import build_towers
from gaprun.model.vocabulary import Vocabulary
from gaprun.recipe import Job, load_jobs
from gaprun.recipe.identity import setup_part
from gaprun.runtime.events import Interrupted, Report
from gaprun.store import Store, open_store
from gaprun.training.checkpoint import save_checkpoint
from tests.conftest import RECIPES
from tests.training.conftest import RunSmall, small_job
from tests.training.gradients import VIT
from tests.training.test_resume import stop_at

LENGTH = ("schedule.steps=4", "schedule.warmup_steps=1", "checkpoint.every_steps=2")


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory: pytest.TempPathFactory, scenes: Path) -> Path:
    """The folder of a run of six steps: a ResNet with the vocabulary of its captions."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GAPRUN_DATA", str(scenes))
        job = small_job("baseline", "schedule.steps=6", seed=100)
        return run(job, tmp_path_factory.mktemp("start")).artifacts / job.id


def run(job: Job, folder: Path, report: Report = lambda event: None) -> Store:
    folder.mkdir(exist_ok=True)
    store = open_store(str(folder / "results.db"))
    run_job(job, store, "cpu", report)
    return store


def content_of(folder: Path) -> dict:
    return load_checkpoint(newest_checkpoint(folder / "checkpoints")[0])


def test_a_run_begins_with_exactly_the_weights_of_another(pretrained: Path, run_small: RunSmall) -> None:
    """At a rate of 0 it ends as it began: all of the start but the temperature, batch statistics set aside."""
    notes: list[str] = []
    job, store = run_small(
        "baseline", f"model.pretrained={pretrained}", "model.freeze=[visual, token_embedding]", *LENGTH,
        "optimizer.lr=1e-30", "temperature.init=0.05", report=lambda event: notes.append(event.note),
    )  # fmt: skip
    start, end = content_of(pretrained), content_of(store.artifacts / job.id)
    for name, tensor in start["clip"].items():
        assert torch.equal(tensor, end["clip"][name]) == (name != "logit_scale"), name
    assert float(end["clip"]["logit_scale"].exp()) == pytest.approx(20) != float(start["clip"]["logit_scale"])
    (said,) = {note for note in notes if note.startswith("starts from")}
    ended = float((-start["clip"]["logit_scale"]).exp())
    assert said.startswith(f"starts from step 6 of {pretrained.name}, where the temperature was {ended:.3g};")


def test_it_sees_the_same_features(pretrained: Path, scenes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GAPRUN_DATA", str(scenes))
    measured = load_model(open_store(str(pretrained.parents[1] / "results.db")), pretrained.name, None, None)
    job = small_job("baseline", f"model.pretrained={pretrained / 'checkpoints'}")
    torch.manual_seed(5)
    towers = build_towers(job.recipe.model, measured.towers.vocabulary)
    pictures = torch.randn(3, 3, 32, 32)
    tokens = torch.from_numpy(towers.tokenize(["a red circle", "two blue squares", "a zebra"]))
    one, other = towers.clip.eval(), measured.towers.clip.eval()
    with torch.no_grad():
        assert torch.equal(one.encode_image(pictures), other.encode_image(pictures))
        assert torch.equal(one.encode_text(tokens), other.encode_text(tokens))


def test_weights_count_by_content(pretrained: Path, tmp_path: Path) -> None:
    """By their own hash: not by folder, nor by what else a checkpoint holds."""
    content, start = content_of(pretrained), content_of(pretrained)
    hashed = weights_hash(content["clip"], content["head"])
    one = small_job("baseline", f"model.pretrained={pretrained}")
    assert one.recipe.model.pretrained_sha256 == hashed
    later, _ = save_checkpoint(tmp_path / "later", content | {"code": ["another"], "optimizer": {}}, 1)
    assert small_job("baseline", f"model.pretrained={later}").id == one.id
    assert small_job("baseline", f"model.pretrained={tmp_path / 'later'}").id == one.id
    content["clip"]["text_projection"][0, 0] += 1
    other, moved = save_checkpoint(tmp_path / "other", content, 1)
    assert (
        small_job("baseline", f"model.pretrained={other}").recipe.model.pretrained_sha256 == moved != hashed
    )
    later, _ = save_checkpoint(tmp_path / "again", content | {"clip": start["clip"]}, 1)
    shutil.copy(other.with_suffix(".json"), later.with_suffix(".json"))
    with pytest.raises(UserError, match="damaged: its weights are not those that step-00000006.json names"):
        small_job("baseline", f"model.pretrained={later}")
    with pytest.raises(UserError, match="does not hold the weights that the recipe names"):
        small_job("baseline", f"model.pretrained={other}", f"model.pretrained_sha256={hashed}")


def test_weights_that_change_before_they_are_read(pretrained: Path, tmp_path: Path) -> None:
    content = content_of(pretrained)
    path, _ = save_checkpoint(tmp_path, content, 1)
    job = small_job("baseline", f"model.pretrained={path}")
    content["clip"]["text_projection"][0, 0] += 1
    for old in (path, path.with_suffix(".json")):
        old.unlink()
    save_checkpoint(tmp_path, content, 1)
    with pytest.raises(UserError, match="its weights changed since the jobs were made"):
        build_towers(job.recipe.model)


@pytest.mark.parametrize(
    ("sets", "said"),
    [
        (("model.inline.embed_dim=64",), r"another architecture .*\(embed_dim 128, here 64\): take the model of"),
        (VIT, r"another architecture .*vision_cfg\.layers \[1, 1, 1, 1\], here 2; vision_cfg\.patch_size not set"),
        (("model.vocabulary=full",), "trained with the vocabulary of its captions: set model.vocabulary to used"),
    ],
)  # fmt: skip
def test_weights_that_are_not_the_recipes(
    sets: tuple[str, ...], said: str, pretrained: Path, run_small
) -> None:
    with pytest.raises(UserError, match=said):
        run_small("baseline", f"model.pretrained={pretrained}", "schedule.batch_size=8", *sets)


def test_a_vocabulary_of_other_captions(pretrained: Path) -> None:
    """Of as many ids, so that all shapes fit: the words would be other ones."""
    model, ids = (
        small_job("baseline", f"model.pretrained={pretrained}").recipe.model,
        content_of(pretrained)["vocabulary"],
    )
    build_towers(model, Vocabulary(ids, 49408))
    unused = min({*range(1, 49408)} - {*ids})
    with pytest.raises(
        UserError, match="that of other captions: it lacks 1 token ids of these, and has 1 others;"
    ):
        build_towers(model, Vocabulary(sorted([unused, *ids[1:]]), 49408))


def test_nothing_to_start_from(pretrained: Path, tmp_path: Path, scenes: Path, monkeypatch) -> None:
    """What is not there leaves a recipe readable; before anything is trained it is said."""
    monkeypatch.setenv("GAPRUN_DATA", str(scenes))
    for name, said in (
        (tmp_path / "none", "no such weights file or run's folder .open_clip's tags are for an arch"),
        ("openai", "no such weights file or run's folder"),
        (tmp_path, "no intact checkpoint of gaprun's in this folder"),
    ):
        with pytest.raises(UserError, match=said):
            prepare_job(small_job("baseline", f"model.pretrained={name}"))
    with pytest.raises(UserError, match=r"model\.pretrained openai: only gaprun's own checkpoints say which"):
        prepare_job(small_job("baseline", "model.inline=null", "model.arch=RN50", "model.pretrained=openai"))
    shutil.copytree(pretrained / "checkpoints", tmp_path / "damaged")
    newest = newest_checkpoint(tmp_path / "damaged")[0]
    newest.write_bytes(newest.read_bytes()[:-1])
    with pytest.raises(UserError, match=f"newest checkpoint {newest.name} is damaged|no intact checkpoint"):
        small_job("baseline", f"model.pretrained={tmp_path / 'damaged'}")


def test_a_weights_file_for_an_inline_architecture(pretrained: Path, tmp_path: Path) -> None:
    """Bare weights say nothing of their tokens: with the full vocabulary they start a run, else they are refused."""
    model = small_job("baseline", "model.vocabulary=full", *VIT).recipe.model
    torch.manual_seed(3)
    weights = build_towers(model).clip.state_dict()
    torch.save(weights, tmp_path / "bare.pt")
    sets = (*VIT, f"model.pretrained={tmp_path / 'bare.pt'}")
    started = build_towers(
        small_job("baseline", "model.vocabulary=full", *sets).recipe.model
    ).clip.state_dict()
    assert all(torch.equal(weights[name], started[name]) for name in weights)
    with pytest.raises(UserError, match="other pretrained weights need the full vocabulary"):
        small_job("baseline", *sets)
    with pytest.raises(UserError, match=r"its weights do not fit model\.inline"):
        build_towers(
            small_job("baseline", *sets, "model.vocabulary=full", "model.inline.embed_dim=64").recipe.model
        )


def test_other_pictures_than_the_weights_are_said(pretrained: Path) -> None:
    job = small_job("baseline", f"model.pretrained={pretrained}", "data.mean=[0.5, 0.5, 0.5]")
    vocabulary = content_of(pretrained)["vocabulary"]
    towers = build_towers(job.recipe.model, Vocabulary(vocabulary, 49408), job.recipe.data.normalisation)
    assert any("trained with another mean of pictures" in remark for remark in towers.remarks)


def test_the_sweep_is_one_start_and_one_epoch_for_all() -> None:
    """Its rows differ in the loss alone, and CLIP-Refine's is that of its own recipe but for the temperature."""
    jobs = {job.recipe.name: job for job in load_jobs(RECIPES / "sweeps" / "clip-refine.yaml", seeds=[0])}
    assert list(jobs) == ["baseline", "mean-gap", "clip-refine"]
    assert len({json.dumps(setup_part(job.recipe.model_dump(mode="json"))) for job in jobs.values()}) == 1
    own = load_jobs(RECIPES / "methods" / "clip-refine.yaml")[0].recipe.loss.model_dump()
    own["terms"][1]["tau"] = 0.04
    assert jobs["clip-refine"].recipe.loss.model_dump() == own
    (start,) = load_jobs(RECIPES / "baseline.yaml", [f"extends={RECIPES / 'base' / 'scenes.yaml'}"], [100])
    assert jobs["baseline"].recipe.model.pretrained == f"runs/{start.id}"


@pytest.mark.slow
def test_the_sweep_trains_and_resumes_with_the_same_teacher(
    pretrained: Path, tmp_path: Path, scenes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each row from a run's checkpoint; CLIP-Refine, cut off, goes on with the start as its teacher."""
    monkeypatch.setenv("GAPRUN_DATA", str(scenes))
    unset = ("schedule.epochs=null", "schedule.warmup_epochs=null", "schedule.batch_size=32", "eval=[]")
    sets = [f"model.pretrained={pretrained}", "optimizer.lr=1e-3", *unset, *LENGTH]
    jobs = load_jobs(RECIPES / "sweeps" / "clip-refine.yaml", sets, [0])
    ends = [run(job, tmp_path / job.recipe.name).runs()[0].checkpoint_hash for job in jobs]
    assert len({*ends}) == 3
    with pytest.raises(Interrupted):
        run(jobs[-1], tmp_path / "cut", stop_at(2))
    assert run(jobs[-1], tmp_path / "cut").runs()[0].checkpoint_hash == ends[-1]
