"""Loss terms in training: what they learn is trained, kept and resumed; every method's recipe runs; the gap falls."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from gaprun.errors import UserError
from gaprun.jobs.run import run_job
from gaprun.model.loss import ClipLoss
from gaprun.model.saved import load_checkpoint, newest_checkpoint
from gaprun.model.temperature import Exponential
from gaprun.paper.settings import MethodSetting, setting_of
from gaprun.recipe import load_jobs
from gaprun.recipe.identity import hash_of, setup_part
from gaprun.recipe.schema import Optimizer
from gaprun.runtime.events import Interrupted
from gaprun.store import open_store
from gaprun.training.head import Head
from gaprun.training.optimizer import parameter_groups
from tests.conftest import RECIPES
from tests.training.conftest import RunSmall, small_job
from tests.training.gradients import SHARED, VIT
from tests.training.test_resume import stop_at

METHODS = sorted(path.stem for path in (RECIPES / "methods").glob("*.yaml"))
SMALL = ("vision.head_width=32", "vision.image_size=32", "text.layers=2", "text.context_length=24")
LEARNING = "loss.terms=[{name: adversary, width: 8}, {name: random-alignment}, {name: geodesic-mixup}]"


def final(job, store) -> dict:
    return load_checkpoint(newest_checkpoint(store.artifacts / job.id / "checkpoints")[0])


def test_terms_that_learn_and_draw_resume_identically(run_small: RunSmall) -> None:
    """The judge's parameters, its optimiser's moments and the drawn numbers go on as if never stopped."""
    job, whole = run_small("baseline", *VIT, LEARNING, db="whole")
    with pytest.raises(Interrupted):
        run_small("baseline", *VIT, LEARNING, db="cut", report=stop_at(6))
    _, resumed = run_small("baseline", *VIT, LEARNING, db="cut")
    assert resumed.runs()[0].checkpoint_hash == whole.runs()[0].checkpoint_hash
    assert resumed.trajectory(job.id) == whole.trajectory(job.id)
    one, other = final(job, resumed), final(job, whole)
    names = {"terms.0.hidden_weight", "terms.0.hidden_bias", "terms.0.weight", "terms.0.bias"}
    assert set(one["head"]) == {"nu", *names}
    start = Head.of(job.recipe, 0).state_dict()
    for name in names:
        assert torch.equal(one["head"][name], other["head"][name])
        assert not torch.equal(one["head"][name], start[name])


def test_what_terms_learn_has_the_towers_rate_and_no_decay() -> None:
    loss = ClipLoss(terms=[{"name": "mean-gap"}, {"name": "adversary", "width": 4}])
    head = Head(Exponential(), loss, size=3, seed=1)
    groups = {g["name"]: g for g in parameter_groups(torch.nn.Linear(3, 3), head, Optimizer(), 0.1)}
    assert groups["terms"]["params"] == list(head.terms.parameters()) and len(groups["terms"]["params"]) == 4
    assert (groups["terms"]["weight_decay"], groups["terms"]["factor"]) == (0, 1)
    assert groups["temperature"]["params"] == [head.nu]
    again, other = Head(Exponential(), loss, 3, 1), Head(Exponential(), loss, 3, 2)
    name = "terms.1.hidden_weight"
    assert torch.equal(head.state_dict()[name], again.state_dict()[name])
    assert not torch.equal(head.state_dict()[name], other.state_dict()[name])


def test_a_term_of_weight_0_is_the_baseline_bit_for_bit(run_small: RunSmall) -> None:
    hashes = [
        run_small("soft-swap", "schedule.steps=4", "swap.probability=1", *sets, db=str(k))[1].runs()[0]
        for k, sets in enumerate([(), ("loss.terms=[{name: mean-gap, weight: 0}]",)])
    ]
    assert hashes[0].checkpoint_hash == hashes[1].checkpoint_hash and hashes[0].id != hashes[1].id


def test_terms_change_weights_and_the_gap_falls(run_small: RunSmall) -> None:
    """The naive term does what it says: with a large weight, 12 steps end at a smaller gap than without it."""
    ends = {}
    for weight in (0, 30):
        sets = (*VIT, f"loss.terms=[{{name: mean-gap, weight: {weight}}}]")
        job, store = run_small("baseline", *sets, db=str(weight))
        ends[weight] = store.trajectory(job.id)[-1]["gap"]
    assert ends[30] < 0.6 * ends[0], ends


def test_terms_see_features_before_the_swap(scenes: Path) -> None:
    """A hard swap of all entries by a coin would hide the gap from a term that came after it."""
    from gaprun.training.head import Head

    x, y = torch.eye(4), -torch.eye(4)
    head = Head(Exponential(), ClipLoss(weight=0, terms=[{"name": "mean-gap"}]))
    found = head.addend((x, y), (y, y), slice(0, 4), 1.0, lambda k: None, None)
    assert found.item() == pytest.approx(4 * 0.5**2)


def test_recipes_without_terms_keep_their_identity() -> None:
    """Runs made before the keys existed are found again, and are compared with runs that have terms."""
    plain, added = small_job("baseline").recipe, small_job("methods/mean-gap").recipe
    document = plain.model_dump(mode="json")
    earlier = document | {"loss": {"name": "clip"}}
    assert document["loss"] == {"name": "clip", "weight": 1.0, "terms": []}
    assert hash_of(document) == hash_of(earlier) != hash_of(added.model_dump(mode="json"))
    assert setup_part(earlier) == setup_part(added.model_dump(mode="json"))
    assert setting_of(document) == setting_of(earlier) == MethodSetting("baseline")
    assert setting_of(added.model_dump(mode="json")) is None


def test_distillation_from_scratch_is_refused() -> None:
    with pytest.raises(UserError, match="set model.pretrained"):
        small_job("baseline", "loss.terms=[{name: distillation}]")


def test_one_terms_weight_is_set_and_swept_by_its_place(tmp_path: Path) -> None:
    job = small_job("methods/cyclip", "loss.terms.1.weight=3")
    assert [term.weight for term in job.recipe.loss.terms] == [0.25, 3]
    with pytest.raises(UserError, match=r"terms\.2: the list terms has entries 0 to 1"):
        small_job("methods/cyclip", "loss.terms.2.weight=3")
    sweep = tmp_path / "sweep.yaml"
    sweep.write_text(
        f"extends: {RECIPES / 'methods' / 'mean-gap.yaml'}\ngrid: {{loss.terms.0.weight: [1, 10]}}"
    )
    jobs = load_jobs(sweep, seeds=[0])
    assert [job.recipe.loss.terms[0].weight for job in jobs] == [1, 10]
    assert [job.recipe.name for job in jobs] == ["mean-gap-weight=1", "mean-gap-weight=10"]


@pytest.mark.parametrize(
    ("terms", "said"),
    [
        ("[{name: mean-gapp}]", r"loss\.terms\.0\.name: expected one of .*; did you mean mean-gap\?"),
        ("[{name: nothing-like-it}]", "found where GAPRUN_PLUGINS names its module"),
        ("[{name: mean-gap, wait: 2}]", r"loss\.terms\.0\.wait: unknown key; did you mean weight\?"),
        ("[{name: mean-gap, weight: .nan}]", r"loss\.terms\.0\.weight: input should be a finite number"),
        ("{name: mean-gap}", "loss.terms: expected a list"),
    ],
)
def test_mistakes_in_terms(terms: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        small_job("baseline", f"loss.terms={terms}")


@pytest.mark.slow
@pytest.mark.parametrize("method", [name for name in METHODS if name not in ("clip-refine", "lit")])
def test_every_methods_recipe_trains(method: str, run_small: RunSmall) -> None:
    small = (*SHARED, *(f"model.inline.{key}" for key in SMALL)) if method == "alignclip" else ()
    sets = (*VIT, *small, "schedule.steps=4", "temperature.init=0.1")
    job, store = run_small(f"methods/{method}", *sets)
    rows = store.trajectory(job.id)
    assert store.runs()[0].status == "finished" and len(rows) == 4 and job.recipe.name == method
    assert job.recipe.loss.terms or job.recipe.loss.name != "clip"


def test_the_shared_towers_sweep_is_alignclip_beside_the_same_model(
    tmp_path: Path, scenes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two models, each with its baseline, apart in whether the transformer is shared alone; the small one trains."""
    monkeypatch.setenv("GAPRUN_DATA", str(scenes))
    small = ["schedule.steps=2", "schedule.warmup_steps=1", "schedule.batch_size=32", "eval=[]"]
    own, shared = (
        {job.recipe.name: job for job in load_jobs(RECIPES / "sweeps" / f"{name}.yaml", small, [0])}
        for name in ("own-towers", "shared-tower")
    )
    assert list(own) == ["baseline", "separation"] and list(shared) == ["baseline", "alignclip"]
    assert shared["alignclip"].recipe.loss == load_jobs(RECIPES / "methods" / "alignclip.yaml")[0].recipe.loss
    setups = [
        [setup_part(job.recipe.model_dump(mode="json")) for job in jobs.values()] for jobs in (own, shared)
    ]
    assert all(one == other for one, other in setups)
    alone, together = (parts[0] for parts in setups)
    assert together["model"]["inline"].pop("shared") is True and together == alone
    store = open_store(str(tmp_path / "results.db"))
    run_job(shared["alignclip"], store, "cpu", lambda event: None)
    clip = final(shared["alignclip"], store)["clip"]
    assert torch.equal(clip["visual.proj"], clip["text_projection"])


@pytest.mark.slow
def test_clip_refine_trains_from_weights_and_resumes_with_the_same_teacher(
    run_small: RunSmall, tmp_path: Path
) -> None:
    """The teacher is the pretrained start, also after resuming: the same weights bit for bit."""
    import open_clip

    torch.manual_seed(0)
    model = open_clip.create_model("ViT-S-32-alt")
    torch.save(model.state_dict(), tmp_path / "start.pt")
    sets = (
        "model.inline=null",
        "model.arch=ViT-S-32-alt",
        "model.vocabulary=full",
        f"model.pretrained={tmp_path / 'start.pt'}",
        "schedule.epochs=null",
        "schedule.warmup_epochs=null",
        "schedule.steps=4",
        "schedule.batch_size=4",
        "checkpoint.every_steps=2",
        "optimizer.lr=1e-4",
    )
    job, whole = run_small("methods/clip-refine", *sets, db="whole")
    with pytest.raises(Interrupted):
        run_small("methods/clip-refine", *sets, db="cut", report=stop_at(1))
    _, resumed = run_small("methods/clip-refine", *sets, db="cut")
    assert resumed.runs()[0].checkpoint_hash == whole.runs()[0].checkpoint_hash
    assert resumed.trajectory(job.id) == whole.trajectory(job.id)
    assert final(job, whole)["head"] == {}
