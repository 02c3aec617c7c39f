"""A training that is done is found again, whatever its recipe is called now."""

import dataclasses

import pytest

from gaprun.data import columns, split
from gaprun.errors import UserError
from gaprun.jobs.plan import plan_rows
from gaprun.jobs.preflight import finished_as, is_finished, prepare_job
from gaprun.recipe.jobs import load_jobs
from gaprun.store import NewRun, open_store

RECIPE = """
name: {name}
model: {{arch: RN50}}
data: {{train: [{data}]}}
schedule: {{steps: {steps}, warmup_steps: 1, batch_size: 8}}
temperature: {{rule: fixed, tau: 0.04}}
"""


@pytest.fixture
def job(scenes, tmp_path):
    """A maker of jobs: `job(name="flt")`, no measurements asked for."""

    def make(name="flt", steps=10, seed=3):
        path = tmp_path / f"{name}.yaml"
        path.write_text(RECIPE.format(name=name, steps=steps, data=scenes / "scenes" / "train"))
        return load_jobs(path, [], [seed])[0]

    return make


@pytest.fixture
def trained(tmp_path):
    """A maker of finished runs of a job."""
    store = open_store(str(tmp_path / "results.db"))

    def make(job, data=None, status="finished"):
        data = prepare_job(job).fingerprints if data is None else data
        run = NewRun(
            id=job.id,
            recipe=job.recipe.name,
            kind="train",
            seed=job.seed,
            recipe_hash=job.recipe_hash,
            resolved_recipe=job.recipe.model_dump(mode="json"),
            environment={"data": data},
            code_version="0",
            folder="runs/x",
            total_steps=10,
        )
        store.begin_run(run)
        store.finish_run(job.id, status)
        return store

    return make


def test_the_same_training_under_another_name_is_done(job, trained):
    store = trained(job("flt"))
    assert is_finished(store, job("flt-tau=0.04"))
    (row,) = plan_rows([job("flt-tau=0.04")], store.url)
    assert (row["status"], row["known_as"]) == ("finished", job("flt").id)
    assert finished_as(store, job("flt-tau=0.04")) == finished_as(store, job("flt")) == row["known_as"]


def test_a_process_that_read_other_plugin_code_than_its_job_names_does_not_train_it(job):
    """As one that a sweep begins after the file was edited."""
    made = job("flt")
    assert made.recipe.plugins is None
    recipe = made.recipe.model_copy(update={"plugins": {"temperature rule fixed": "0" * 64}})
    object.__setattr__(made, "recipe", recipe)
    with pytest.raises(
        UserError, match="the temperature rule fixed is not by the code .* expected 000000000000"
    ):
        prepare_job(made)


def test_another_seed_length_or_data_is_not_done(job, trained):
    store = trained(job("flt"))
    assert not is_finished(store, job("flt", seed=4))
    assert not is_finished(store, job("flt", steps=11))
    other = trained(job("older", steps=12), data={"scenes/train": "0" * 64})
    assert not is_finished(other, job("older2", steps=12))


def test_a_run_that_failed_is_not_done(job, trained):
    assert not is_finished(trained(job("flt"), status="failed"), job("flt"))


def test_what_is_not_measured_yet_is_not_done(job, trained, scenes):
    store = trained(job("flt"))
    asked = job("flt")
    task = {"task": "gap", "data": [str(scenes / "scenes" / "test")]}
    recipe = asked.recipe.model_validate(asked.recipe.model_dump() | {"eval": [task]})
    assert not is_finished(store, dataclasses.replace(asked, recipe=recipe))


def test_the_data_of_a_table_are_parsed_once_a_command(job, trained, monkeypatch):
    read = []
    parse = columns.columns_of
    monkeypatch.setattr(columns, "columns_of", lambda folder, sha: read.append(folder) or parse(folder, sha))
    split._columns_of.cache_clear()
    jobs = [job(f"flt{number}", seed=number) for number in range(3)]
    store = trained(jobs[0])
    for one in jobs:
        prepare_job(one)
        is_finished(store, one)
        assert prepare_job(one, store).splits[0].captions[0]
    assert len(read) == 1
    # A file that was written again is another file.
    samples = read[0] / "samples.jsonl"
    samples.write_bytes(samples.read_bytes())
    assert prepare_job(jobs[0]).splits[0].captions and len(read) == 2
