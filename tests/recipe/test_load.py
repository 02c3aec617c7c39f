"""Recipes: merging, overrides, grids, hashes, and errors that name file, key and the nearest valid name."""

import json
from pathlib import Path

import pytest

from gaprun.errors import UserError
from gaprun.recipe import load_jobs, load_recipe
from tests.conftest import RECIPES

METHODS = ["baseline", "flt", "schedule", "reparam", "reparam-scaled", "slrt", "hard-swap", "soft-swap"]
SMALL = f"extends={RECIPES / 'base' / 'scenes.yaml'}"
BASE = """
name: base
model: {arch: RN50}
data: {train: [coco/train]}
schedule: {epochs: 2, batch_size: 64}
"""


def write(folder: Path, text: str, name: str = "r.yaml") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def fails(path: Path, *overrides: str) -> str:
    with pytest.raises(UserError) as error:
        load_jobs(path, list(overrides))
    assert "\n" not in str(error.value) and "Traceback" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("method", METHODS)
def test_each_method_loads_at_both_sizes(method: str) -> None:
    full, small = load_recipe(RECIPES / f"{method}.yaml"), load_recipe(RECIPES / f"{method}.yaml", [SMALL])
    assert full.name == small.name == method
    assert full.model.arch == "RN50" and full.schedule.batch_size == 1024 and full.schedule.epochs == 100
    assert small.model.inline is not None and small.data.train == ["scenes/train"]
    assert (full.temperature, full.swap) == (small.temperature, small.swap)


def test_published_settings() -> None:
    def read(name: str):
        return load_recipe(RECIPES / f"{name}.yaml")

    assert read("flt").temperature.tau == 0.04
    assert (read("schedule").temperature.start, read("schedule").temperature.end) == (1e-2, 5e-2)
    assert read("reparam").temperature.rule == "softplus" and read("slrt").temperature.lr_factor == 0.1
    assert read("hard-swap").swap.probability == 1e-3 and read("soft-swap").swap.probability == 5e-2
    assert read("baseline").temperature.init == 0.07 and read("baseline").schedule.warmup_epochs == 20


@pytest.mark.parametrize(
    ("sweep", "recipes"),
    [
        ("paper/table2", 7),
        ("paper/table3", 7),
        ("paper/table5", 6),
        ("sweeps/soft-swap", 6),
        ("sweeps/schedule-ends", 4),
        ("sweeps/methods", 13),
    ],
)
def test_sweeps_expand_with_three_seeds(sweep: str, recipes: int) -> None:
    for overrides in ([], [SMALL]):
        jobs = load_jobs(RECIPES / f"{sweep}.yaml", overrides)
        assert len(jobs) == 3 * recipes == len({job.id for job in jobs})
        assert len({job.recipe.name for job in jobs}) == recipes


def test_the_small_tables_are_one_set_up_with_shared_runs() -> None:
    small = RECIPES / "paper" / "small"
    files = ["table2", "table2-scaled", "table3", "table5", "soft-swap", "same-end"]
    counts = {name: len(load_jobs(small / f"{name}.yaml")) for name in files}
    assert counts == {
        "table2": 35,
        "table2-scaled": 35,
        "table3": 21,
        "table5": 12,
        "soft-swap": 12,
        "same-end": 12,
    }
    jobs = [job for name in files for job in load_jobs(small / f"{name}.yaml")]
    assert len({(job.recipe_hash, job.seed) for job in jobs}) == 35 + 15 + 18 + 6 + 9 + 9
    apart = {"name", "description", "temperature", "swap"}
    assert len({json.dumps(job.recipe.model_dump(mode="json", exclude=apart)) for job in jobs}) == 1


def test_the_longer_small_run_has_ten_times_the_steps() -> None:
    base = load_jobs(RECIPES / "paper" / "small" / "table2.yaml")[0].recipe.schedule
    for job in load_jobs(RECIPES / "paper" / "small" / "longer.yaml"):
        assert job.recipe.schedule.steps == 10 * (base.steps or 0)
        assert job.recipe.schedule.warmup_steps == 10 * (base.warmup_steps or 0)


def test_extends_merges_and_set_wins(tmp_path: Path) -> None:
    write(tmp_path, BASE, "base.yaml")
    child = write(
        tmp_path, "extends: base.yaml\nname: child\noptimizer: {lr: 1e-4}\nschedule: {batch_size: 32}"
    )
    recipe = load_recipe(child, ["optimizer.weight_decay=0.3", "swap.rule=hard", "swap.probability=1e-2"])
    assert recipe.optimizer.lr == 1e-4 and recipe.optimizer.weight_decay == 0.3
    assert recipe.schedule.epochs == 2 and recipe.schedule.batch_size == 32
    assert recipe.swap.rule == "hard" and recipe.swap.probability == 0.01


def test_another_rule_replaces_the_parents_options(tmp_path: Path) -> None:
    write(tmp_path, BASE + "temperature: {rule: exp, init: 0.1}", "base.yaml")
    child = write(tmp_path, "extends: base.yaml\nname: c\ntemperature: {rule: fixed, tau: 0.2}")
    assert load_recipe(child).temperature.tau == 0.2


def test_grid_times_seeds(tmp_path: Path) -> None:
    text = BASE + "grid: {optimizer.lr: [1e-3, 1e-4], loss.name: [clip, sigmoid]}\nseeds: [3, 5]"
    jobs = load_jobs(write(tmp_path, text))
    assert len(jobs) == 8 and {job.seed for job in jobs} == {3, 5}
    assert {job.recipe.name for job in jobs} == {
        f"base-lr={lr},name={name}" for lr in ("0.001", "0.0001") for name in ("clip", "sigmoid")
    }


@pytest.mark.parametrize(
    ("sweep", "options", "expected"),
    [
        ("", {}, {"base": [3, 4], "other": [5]}),  # each recipe's own, and what an entry sets
        ("seeds: [7]\n", {}, {"base": [7], "other": [5]}),
        ("seeds: [7]\n", {"overrides": ["seeds=[8]"]}, {"base": [8], "other": [8]}),
        ("seeds: [7]\n", {"seeds": [9]}, {"base": [9], "other": [9]}),
    ],
)
def test_whose_seeds_count(tmp_path: Path, sweep: str, options: dict, expected: dict) -> None:
    write(tmp_path, BASE + "seeds: [3, 4]", "one.yaml")
    changed = "{recipe: one.yaml, set: {name: other, optimizer.lr: 1.0e-3, seeds: [5]}}"
    path = write(tmp_path, f"{sweep}recipes: [one.yaml, {changed}]", "sweep.yaml")
    found = {
        name: [job.seed for job in load_jobs(path, **options) if job.recipe.name == name] for name in expected
    }
    assert found == expected
    with pytest.raises(UserError, match="--seeds and --set seeds= say the same"):
        load_jobs(path, ["seeds=[1]"], seeds=[1])


def test_hash_is_of_what_trains(tmp_path: Path) -> None:
    path = write(tmp_path, BASE)
    first = load_jobs(path)[0]
    same = load_jobs(
        path,
        ["eval=[{task: gap, data: [coco/test]}]", "description=other", "data.workers=0", "checkpoint.keep=5"],
    )[0]
    other = load_jobs(path, ["optimizer.lr=1e-5"])[0]
    assert first.recipe_hash == same.recipe_hash != other.recipe_hash


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("optimiser: {lr: 1}", "optimiser: unknown key; did you mean optimizer?"),
        ("optimizer: {learning_rate: 1}", "optimizer.learning_rate: unknown key; valid here:"),
        ("temperature: {rule: softmax}", "temperature.rule: expected one of"),
        ("temperature: {rule: softplus, tau: 1}", "temperature.tau: unknown key"),
        ("temperature: {rule: fixed, tau: -1}", "temperature.tau: input should be greater than 0.0001"),
        ("swap: {rule: hard, probability: 2}", "swap.probability: input should be less than or equal to 1"),
        ("optimizer: {lr: fast}", "optimizer.lr: expected a number; got 'fast'"),
        ("data: {train: []}", "data.train: list should have at least 1 item"),
        ("data: {train: [a], crop_scale: [0.9, 0.1]}", "data: crop_scale must satisfy"),
        ("model: {arch: RN50, inline: {}}", "model: give exactly one of arch and inline"),
        ("schedule: {epochs: 1, steps: 5}", "schedule: give exactly one of epochs and steps"),
        ("schedule: {epochs: 1, warmup_epochs: 3}", "schedule: warmup_epochs is longer"),
        ("eval: [{task: gapp, data: [x]}]", "eval.0.task: expected one of"),
        ("eval: [{task: gap}]", "eval.0.data: this key is required"),
        ("seeds: [a]", "seeds: expected a list of whole numbers"),
        ("grid: {optimizer.lr: 3}", "grid: expected dotted keys"),
        (
            "name: a b",
            "name: expected letters, digits and . _ + = , - with a letter or digit first; got 'a b'",
        ),
        (
            "name: 2026-11-28",
            "name: expected text: in quotes where YAML reads a number, a date or true and false; got",
        ),
        ("data: {train: a}", "data.train: expected a list, [a, b]; got 'a'"),
        ("temperature: fixed", "temperature: expected keys with values, {key: value}; got 'fixed'"),
        ("eval: [gap]", "eval.0: expected keys with values, {key: value}; got 'gap'"),
        ("schedule: {steps: 1.5, batch_size: 8}", "schedule.steps: expected a whole number; got 1.5"),
        ("compute: {channels_last: maybe}", "compute.channels_last: expected true or false; got 'maybe'"),
        (
            "temperature: {rule: exp, tau: 1}",
            "temperature.tau: unknown key; it goes with rule: fixed; valid here: init,",
        ),
        (
            "temperature:\n\trule: exp",
            "line 6: not valid YAML: found character '\\t' that cannot start any token (indent",
        ),
        ("name x", "not valid YAML: could not find expected ':' (each key needs a colon and a space"),
        ("name: 'x", "found unexpected end of stream (a quote or bracket is not closed)"),
        ("extends: nowhere.yaml", "extends: no such file"),
        ("name: x\nname: y", "key 'name' appears twice"),
        ("{", "not valid YAML"),
        ("[1, 2]", "a recipe is a mapping"),
        ("model: {inline: {vision: {image_size: 33}}}", "image_size must be a multiple of 32"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, text: str, expected: str) -> None:
    own = text.split(":")[0]
    lines = [line for line in BASE.strip().splitlines() if not line.startswith(f"{own}:")]
    content = text if text in ("{", "[1, 2]") or text.startswith("name: x") else "\n".join([*lines, text])
    path = write(tmp_path, content)
    message = fails(path)
    assert expected in message and str(path) in message


def test_what_was_set_is_named_beside_the_file(tmp_path: Path) -> None:
    """The file alone is without fault."""
    path = write(tmp_path, BASE)
    message = fails(path, "schedule.batch_size=8", "optimizer.lrr=1")
    assert message == f"{path} with --set optimizer.lrr: optimizer.lrr: unknown key; did you mean lr?"
    assert fails(path, "data={train: a}").startswith(f"{path} with --set data: data.train: expected a list")
    assert fails(path, "optimizer.lr=.inf").startswith(
        f"{path} with --set optimizer.lr: optimizer.lr: inf is"
    )
    assert fails(write(tmp_path, BASE + "foo: 1"), "optimizer.lr=1").startswith(f"{path}: foo: unknown key")


def test_missing_file_and_circle(tmp_path: Path) -> None:
    write(tmp_path, BASE, "baseline.yaml")
    assert "did you mean" in fails(tmp_path / "basline.yaml")
    circle = write(tmp_path, "extends: circle.yaml\nname: c", "circle.yaml")
    assert "extends itself" in fails(circle)


@pytest.mark.parametrize("bad", ["optimizer.lr", "=3", "optimizer..lr=3", "a b=1"])
def test_bad_overrides(tmp_path: Path, bad: str) -> None:
    assert "expected key.path=value" in fails(write(tmp_path, BASE), bad)


def test_two_recipes_of_one_name_are_refused(tmp_path: Path) -> None:
    write(tmp_path, BASE, "a.yaml")
    write(tmp_path, BASE + "optimizer: {lr: 1}", "b.yaml")
    assert "give each its own name" in fails(write(tmp_path, "recipes: [a.yaml, b.yaml]", "sweep.yaml"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("temperature: {rule: exp, init: 5}", "temperature.init: 5 would be moved in the first step"),
        ("temperature: {rule: softplus, init: 0.001}", "temperature.init: 0.001 would be moved"),
        ("temperature: null", "temperature: null says nothing; leave the key out, or write {rule: exp}"),
        ("swap: null", "swap: null says nothing; leave the key out, or write {rule: none}"),
        ("optimizer: {lr: .inf}", "optimizer.lr: inf is not a finite number"),
        ("optimizer: {lr: inf}", "optimizer.lr: inf is not a finite number"),
        ("optimizer: {weight_decay: .nan}", "optimizer.weight_decay"),
        ("optimizer: {lr: 1e400}", "optimizer.lr: inf is not a finite number"),
        ("schedule: {epochs: .inf, batch_size: 8}", "schedule.epochs: inf is not a finite number"),
        ("seeds: [9223372036854775808]", "below 2**63"),
        (
            f"grid: {{optimizer.lr: {[k / 1e6 for k in range(1, 6000)]}}}\nseeds: [0, 1]",
            "11,998 jobs with its seeds",
        ),
        ("optimizer: {lr: 1, lr: 2}", "key 'lr' appears twice"),
        ("optimizer: {lr: yes}", "optimizer.lr: expected a number, got true"),
        (
            "schedule: {steps: 99999999999999999999, batch_size: 8}",
            "schedule.steps: 99999999999999999999 is too",
        ),
        ("data: {train: [a, b, {set: a, weight: 2}]}", "train: a is named twice"),
        ("optimizer: {betas: [0.9, off]}", "optimizer.betas.1: expected a number, got false"),
        ("data: {train: [a], workers: on}", "data.workers: expected a number, got true"),
        ("optimizer: {lr: 1:30}", "optimizer.lr: expected a number; got '1:30'"),
        ("seeds: [010]", "seeds: expected a list of whole numbers"),
        ("seeds: [1:30]", "seeds: expected a list of whole numbers"),
        ("grid: {1: [2]}", "grid: 1 is no name of a key"),
        (
            "grid: {optimizer.lr: [0.1], optimizer: [{lr: 0.2}]}",
            "optimizer.lr is a part of optimizer: a point would have two values for it",
        ),
        ("1: 2", "1 is no name of a key"),
        ("description: \0", "not valid YAML: unacceptable character"),
        ("description: &a [*a]", "nested deeper than"),
        ("description: " + "[" * 100 + "]" * 100, "nested deeper than"),
        ("description: " + "[" * 5000 + "]" * 5000, "nested deeper than"),
    ],
)
def test_what_would_be_ignored_or_has_no_end_is_refused(tmp_path: Path, text: str, expected: str) -> None:
    own = text.split(":")[0]
    lines = [line for line in BASE.strip().splitlines() if not line.startswith(f"{own}:")]
    assert expected in fails(write(tmp_path, "\n".join([*lines, text])))


@pytest.mark.parametrize(
    ("grid", "setting"),
    [
        ("optimizer.lr: [0.1, 0.2]", "optimizer.lr=0.5"),
        ("optimizer.lr: [0.1, 0.2]", "optimizer={lr: 0.5}"),
        ("temperature: [{rule: fixed, tau: 0.1}, {rule: softplus}]", "temperature.rule=exp"),
    ],
)
def test_a_setting_that_the_grid_would_hide_is_refused(tmp_path: Path, grid: str, setting: str) -> None:
    path = write(tmp_path, f"{BASE}grid: {{{grid}}}")
    key = setting.partition("=")[0]
    assert f"setting {'optimizer.lr' if key == 'optimizer' else key} would do nothing" in fails(path, setting)
    sweep = f"recipes: [baseline.yaml]\nset: {{{setting.replace('=', ': ', 1)}}}"
    write(tmp_path, f"{BASE}grid: {{{grid}}}", "baseline.yaml")
    assert "would do nothing" in fails(write(tmp_path, sweep, "sweep.yaml"))
    assert len(load_jobs(path, ["optimizer.eps=1e-7", "grid=null"])) == 1
    assert len(load_jobs(path, ["optimizer.eps=1e-7"])) == 2


@pytest.mark.parametrize(
    ("sweep", "expected"),
    [
        ("base: 3", "base: expected the path"),
        ("base: [baseline.yaml]", "base: expected the path"),
        ("set: {1: 2}", "set: 1 is no name of a key"),
        ("set: {schedule: 3, schedule.steps: 4}", "sweep.yaml: set: schedule.steps: schedule was set"),
    ],
)
def test_a_sweeps_own_keys_are_named(tmp_path: Path, sweep: str, expected: str) -> None:
    write(tmp_path, BASE, "baseline.yaml")
    assert expected in fails(write(tmp_path, f"recipes: [baseline.yaml]\n{sweep}", "sweep.yaml"))


def test_an_entry_of_a_sweep_at_fault_is_named(tmp_path: Path) -> None:
    write(tmp_path, BASE, "a.yaml")
    for setting, said in (
        ("optimizer.lr: fast", "optimizer.lr"),
        ("seeds: [-1]", "seeds"),
        ("grid: [1]", "grid"),
    ):
        sweep = f"recipes: [a.yaml, {{recipe: a.yaml, set: {{name: b, {setting}}}}}]"
        assert f"sweep.yaml: recipes.1 (a.yaml): {said}" in fails(write(tmp_path, sweep, "sweep.yaml"))


def test_parts_shared_by_a_yaml_merge_and_numbers_with_a_nought_before_them(tmp_path: Path) -> None:
    text = BASE + "optimizer: {<<: {lr: 0.25, eps: 1e-7}, lr: 0.5, weight_decay: 010}"
    optimizer = load_recipe(write(tmp_path, text)).optimizer
    assert (optimizer.lr, optimizer.eps, optimizer.weight_decay) == (0.5, 1e-7, 10.0)
    assert "expected the path of a recipe file" in fails(write(tmp_path, BASE), "extends=null")


def test_no_clamp_and_the_clamps_own_ends_are_no_reason(tmp_path: Path) -> None:
    for rule in (
        "{rule: exp, init: 5, max_beta: null}",
        "{rule: exp, init: 1}",
        "{rule: softplus, init: 0.01}",
    ):
        load_jobs(write(tmp_path, BASE + f"temperature: {rule}"))


def test_aliases_that_multiply_are_bounded(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{k}: &a{k} [{', '.join([f'*a{k - 1}'] * 10)}]" for k in range(1, 9)]
    assert "values with its aliases written out, more than" in fails(write(tmp_path, "\n".join(lines)))


def test_a_chain_of_parents_is_bounded(tmp_path: Path) -> None:
    write(tmp_path, BASE, "r0.yaml")
    for k in range(1, 40):
        write(tmp_path, f"extends: r{k - 1}.yaml\nname: r{k}", f"r{k}.yaml")
    assert load_jobs(tmp_path / "r15.yaml")[0].recipe.name == "r15"
    assert "a chain of more than 20 files" in fails(tmp_path / "r39.yaml")


def test_a_grid_over_lists_and_mappings_names_its_jobs(tmp_path: Path) -> None:
    text = BASE + (
        "grid:\n  data.train: [[coco/train], [coco/train, flickr30k/train]]\n"
        "  temperature: [{rule: fixed, tau: 0.04}, {rule: exp}]"
    )
    jobs = load_jobs(write(tmp_path, text))
    assert [job.recipe.name for job in jobs] == [
        f"base-train={train},temperature={rule}"
        for train in ("coco-train", "coco-train+flickr30k-train")
        for rule in ("rule=fixed+tau=0.04", "rule=exp")
    ]
    assert jobs[-1].recipe.data.train == ["coco/train", "flickr30k/train"]


def test_a_recipe_twice_in_a_sweep_must_be_the_same(tmp_path: Path) -> None:
    write(tmp_path, BASE, "a.yaml")
    sweep = write(tmp_path, "recipes: [a.yaml, a.yaml]", "sweep.yaml")
    assert len(load_jobs(sweep)) == 1
    changed = "recipes: [a.yaml, {recipe: a.yaml, set: {eval: [{task: gap, data: [coco/test]}]}}]"
    assert "stands there twice, with other eval" in fails(write(tmp_path, changed, "sweep.yaml"))
    assert "unknown key in a sweep" in fails(write(tmp_path, "recipes: [a.yaml]\nseed: [1]", "sweep.yaml"))
