"""The recipes after the authors' snapshot: its values as the notes have them, and twins that differ in size alone."""

from __future__ import annotations

import pytest

from gaprun.model.openclip import named_config
from gaprun.model.towers import count_parameters, model_config
from gaprun.recipe import load_jobs, load_recipe
from gaprun.recipe.schema import Recipe
from tests.conftest import RECIPES


def test_the_authors_towers_are_rn50_with_half_the_text_layers() -> None:
    ours, theirs = (
        model_config(load_recipe(RECIPES / "base" / "coco-authors.yaml").model),
        named_config("RN50"),
    )
    assert ours["embed_dim"] == theirs["embed_dim"] == 1024
    for name in ("image_size", "layers", "width"):
        assert list(
            map(int, [*([ours["vision_cfg"][name]] if name != "layers" else ours["vision_cfg"][name])])
        ) == ([theirs["vision_cfg"][name]] if name != "layers" else list(theirs["vision_cfg"][name]))
    for name in ("context_length", "vocab_size", "width", "heads"):
        assert ours["text_cfg"][name] == theirs["text_cfg"][name]
    assert (ours["text_cfg"]["layers"], theirs["text_cfg"]["layers"]) == (6, 12)
    layer = 4 * 512 * 512 + 4 * 512 + 8 * 512 * 512 + 5 * 512 + 4 * 512  # attention, MLP, two normalisations
    rn50 = load_recipe(RECIPES / "base" / "coco.yaml").model
    recipe = load_recipe(RECIPES / "base" / "coco-authors.yaml")
    assert count_parameters(rn50) - count_parameters(recipe.model) == 6 * layer


def test_the_snapshots_values() -> None:
    recipe = load_recipe(RECIPES / "base" / "coco-authors.yaml")
    optimizer, data, schedule = recipe.optimizer, recipe.data, recipe.schedule
    assert (optimizer.lr, optimizer.weight_decay, optimizer.decay) == (5e-4, 0.1, "all")
    assert (optimizer.betas, optimizer.eps) == ((0.9, 0.999), 1e-8)
    assert (data.crop, data.captions) == ("centre", "random")
    assert data.mean == (0.4225, 0.4012, 0.3659) and data.std == (0.2681, 0.2635, 0.2763)
    assert (schedule.epochs, schedule.batch_size, schedule.warmup_steps) == (35, 256, 0)
    assert (recipe.eval[3].normalise, recipe.eval[3].C) == (False, 0.316)


@pytest.mark.parametrize("figure", ["fig4a", "fig4b"])
def test_a_twin_differs_in_size_alone(figure: str) -> None:
    large, small = (load_recipe(RECIPES / "paper" / part / f"{figure}.yaml") for part in ("", "small"))

    def rest(recipe: Recipe) -> dict:
        found = recipe.model_dump(exclude={"name", "model", "compute", "checkpoint"})
        for section, key in (
            ("data", "train"), ("data", "subset"), ("data", "mean"), ("data", "std"), ("data", "cache"),
            ("data", "workers"), ("schedule", "steps"), ("schedule", "batch_size"),
        ):  # fmt: skip
            del found[section][key]
        return found

    assert rest(large) == rest(small)
    for recipe in (large, small):
        assert recipe.schedule.shape == "constant" and recipe.temperature.initial_nu() == pytest.approx(
            2.659, abs=1e-3
        )


def test_the_figures_sizes() -> None:
    a, b = (load_recipe(RECIPES / "paper" / f"{name}.yaml") for name in ("fig4a", "fig4b"))
    assert (a.data.subset, a.schedule.steps, a.schedule.batch_size, a.data.captions) == (
        256,
        20000,
        256,
        "first",
    )
    assert a.temperature.max_beta is None and (b.data.subset, b.schedule.batch_size) == (2048, 128)
    for part in ("", "small"):
        assert [job.seed for job in load_jobs(RECIPES / "paper" / part / "fig4b.yaml")] == list(range(100))
