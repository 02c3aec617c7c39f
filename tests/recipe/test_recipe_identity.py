"""What makes two trainings the same: one list for jobs, claims and comparison; files count by content."""

import copy
import json
from pathlib import Path

import pytest

from gaprun.comparison.apart import what_differs
from gaprun.comparison.recipes import setup_of
from gaprun.errors import UserError
from gaprun.recipe import Job, load_jobs, load_recipe
from gaprun.recipe.identity import METHOD, NEUTRAL, ROUNDING, hash_of, is_neutral, training_part
from gaprun.recipe.load import validate
from gaprun.store.where import dotted_keys
from tests.conftest import RECIPES

# Hashes that databases hold already, of runs before `data.resize`, and the margin that they had.
KNOWN = {
    "base/coco": ("b42f9efb", 1.125),
    "base/scenes": ("86847349", 1.0),
    "flt": ("6dfce7fe", 1.125),
    "hard-swap": ("effe642e", 1.125),
}
RESOLVED = load_recipe(RECIPES / "base" / "scenes.yaml").model_dump(mode="json")
LEAVES = sorted(dotted_keys(RESOLVED))


def changed(recipe: dict, key: str) -> dict:
    recipe = copy.deepcopy(recipe)
    *sections, last = key.split(".")
    node = recipe
    for section in sections:
        node = node[section]
    node[last] = "something else"
    return recipe


@pytest.mark.parametrize("name", KNOWN)
def test_earlier_runs_keep_their_hashes_and_differ_in_their_pictures_alone(name: str) -> None:
    recipe = load_jobs(RECIPES / f"{name}.yaml")[0].recipe.model_dump(mode="json")
    now, (before, margin) = hash_of(recipe), KNOWN[name]
    del recipe["data"]["resize"]
    recipe["data"]["margin"] = margin
    assert hash_of(recipe)[:8] == before != now[:8]
    validate(recipe, "an earlier run")


@pytest.mark.parametrize("key", LEAVES)
def test_every_key_counts_but_those_of_the_list(key: str) -> None:
    other = changed(RESOLVED, key)
    assert (hash_of(other) == hash_of(RESOLVED)) == is_neutral(key)
    same_setup = is_neutral(key) or key in ROUNDING or key.split(".")[0] in METHOD
    assert (setup_of(other) == setup_of(RESOLVED)) == same_setup
    told = what_differs({"a": RESOLVED, "b": other})["b"]
    assert bool(told) != is_neutral(key)


def test_a_weight_of_one_is_none_and_any_other_is_another_training() -> None:
    def recipe(train: list) -> dict:
        given = RESOLVED | {"data": RESOLVED["data"] | {"train": train}}
        return validate(given, "it").model_dump(mode="json")

    plain = recipe(["a/train", "b/train"])
    assert recipe([{"set": "a/train", "weight": 1}, {"set": "b/train"}]) == plain
    mixed = validate(recipe([{"set": "a/train", "weight": 2}, "b/train"]), "it")
    assert (mixed.data.sets, mixed.data.weights) == (["a/train", "b/train"], (2.0, 1.0))
    assert hash_of(mixed.model_dump(mode="json")) != hash_of(plain)
    for wrong in ({"set": "a/train", "weight": 0}, {"set": "a/train", "wieght": 2}, {"weight": 2}):
        with pytest.raises(UserError, match=r"data\.train"):
            recipe([wrong])


def test_the_list_names_keys_that_exist() -> None:
    known = {*RESOLVED, *LEAVES, "seed", "seeds"}
    assert set(NEUTRAL) | set(ROUNDING) | set(METHOD) <= known


@pytest.fixture
def pretrained(tmp_path: Path):
    """A maker of jobs that start from a weights file with some content."""

    def job(path: str, content: bytes | None = None) -> Job:
        if content is not None:
            (tmp_path / path).write_bytes(content)
        sets = ["model.vocabulary=full", "model.inline=null", "model.arch=RN50"]
        return load_jobs(RECIPES / "baseline.yaml", [*sets, f"model.pretrained={tmp_path / path}"], [0])[0]

    return job


def test_a_weights_file_counts_by_content_and_not_by_path(pretrained) -> None:
    one, moved = pretrained("a.pt", b"weights"), pretrained("b.pt", b"weights")
    assert one.recipe_hash == moved.recipe_hash and one.id == moved.id
    assert pretrained("a.pt", b"Weights").recipe_hash != one.recipe_hash
    documents = {"a": one.recipe.model_dump(mode="json"), "b": moved.recipe.model_dump(mode="json")}
    assert setup_of(documents["a"]) == setup_of(documents["b"])
    assert "pretrained" not in training_part(documents["a"])["model"]


def test_a_tag_stays_a_tag_even_beside_a_file_of_its_name(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)

    def tagged() -> Job:
        return load_jobs(RECIPES / "baseline.yaml", ["model.pretrained=openai"], [0])[0]

    before = tagged()
    (tmp_path / "openai").write_bytes(b"weights")
    assert tagged().recipe_hash == before.recipe_hash and tagged().recipe.model.pretrained_sha256 is None


def test_a_stored_recipe_whose_file_changed_is_refused(pretrained) -> None:
    one = pretrained("a.pt", b"weights")
    pretrained("a.pt", b"others!")
    with pytest.raises(UserError, match="does not hold the weights that the recipe names"):
        Job(one.recipe, 0)


def test_the_hash_is_of_plain_values() -> None:
    stored = json.loads(json.dumps(RESOLVED))
    assert hash_of(stored) == load_jobs(RECIPES / "base" / "scenes.yaml")[0].recipe_hash
