"""What is part of a protocol: two values of an option are two of them, defaults have plain names."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from gaprun.comparison import compare
from gaprun.errors import UserError
from gaprun.evaluation.given import read_given
from gaprun.evaluation.run import evaluate_given
from gaprun.evaluation.task import open_source, sibling
from gaprun.evaluation.tasks import TASKS
from gaprun.protocols import FULL, Protocol, pool_of, shortest, told
from gaprun.store import NewRun, open_store


def clouds(path, seed, count=40):
    """Embeddings of four classes with a caption and class texts, as a file."""
    generator = np.random.default_rng(seed)
    centres = np.random.default_rng(1).normal(size=(4, 16))
    labels = np.arange(count) % 4
    images, texts = (centres[labels] + 2 * generator.normal(size=(count, 16)) for _ in range(2))
    np.savez(path, images=images, texts=texts + 1, labels=labels, class_texts=centres)
    return str(path)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """`mine-test.npz`, its sibling `mine-train.npz`, and `other.npz`."""
    folder = tmp_path_factory.mktemp("given")
    return {
        name: clouds(folder / f"{name}.npz", seed)
        for seed, name in enumerate(("mine-test", "mine-train", "other"))
    }


def ids(files, task, **options):
    made = TASKS.get(task)(data=[files["mine-test"]], **options)
    return [protocol.id for protocol in made.all_protocols(open_source(files["mine-test"]))]


@pytest.mark.parametrize(
    "task, options, expected",
    [
        ("gap", {}, ["pool40", "full"]),
        ("retrieval", {}, ["full", "pool40"]),
        ("retrieval", {"ties": "pessimistic", "draws": 10}, ["full", "pool40"]),
        ("retrieval", {"ties": "expected"}, ["full,ties=expected", "pool40,ties=expected"]),
        ("retrieval", {"draws": 20}, ["full", "pool40,draws=20"]),  # nothing is drawn from the full gallery
        ("zeroshot", {"templates": "openai"}, ["full,templates=openai"]),
        ("zeroshot", {"templates": ["a {}", "the {}"]}, ["full,templates=own-d978f853"]),
        ("zeroshot", {"templates": ["the {}", "a {}"]}, ["full,templates=own-7492d19c"]),
        ("clustering", {"templates": "simple"}, ["full,templates=simple"]),
        ("transfer", {"templates": "simple"}, ["full,templates=simple"]),
        ("probe", {}, ["full"]),
        ("probe", {"shots": 5}, ["full,shots=5"]),
        ("probe", {"normalise": False, "C": 0.316}, ["full,normalise=false,C=0.316"]),
        ("probe", {"train": "mine-train"}, ["full"]),  # what null takes too
        ("probe", {"train": "other"}, ["full,train=other/embeddings"]),
        ("transfer", {"train": "other"}, ["full,train=other/embeddings"]),
        ("shift", {"fractions": [0.1, 0.10000001]}, ["shift=0.1", "shift=0.10000001", "centred"]),
        ("shift", {"fractions": [1], "means": "other"},
         [f"{n},means=other/embeddings" for n in ("shift=1", "centred")]),
        ("intra", {"transforms": [{"name": "shift", "fraction": 0.5}]}, ["full+shift,fraction=0.5"]),
        ("intra", {"transforms": [{"name": "centre"}], "fit": "mine-train"}, ["full+centre"]),
        ("intra", {"transforms": [{"name": "centre"}], "fit": "other"}, ["full,fit=other/embeddings+centre"]),
        ("intra", {"fit": "other"}, ["full"]),  # nothing is fitted
    ],
)  # fmt: skip
def test_names(files, task, options, expected):
    named = {
        key: files.get(value, value) if isinstance(value, str) else value for key, value in options.items()
    }
    assert ids(files, task, **named) == expected


def test_every_option_of_every_task_that_changes_a_number_is_named(files):
    """An option added to a task later is part of the name without a line for it."""
    silent = {
        "task",
        "data",
        "transforms",
        "fit",
        "train",
        "means",
        "fractions",
        "images",
        "along",
    }  # see test_names
    other = {
        "ties": "optimistic",
        "draws": 3,
        "templates": "simple",
        "shots": 2,
        "normalise": False,
        "C": 2.0,
    }
    own = [task for task in TASKS if task.__module__.startswith("gaprun.")]
    assert len(own) > 10
    for task in own:
        name = task.model_fields["task"].default
        for option in set(task.model_fields) - silent:
            assert ids(files, name, **{option: other[option]}) != ids(files, name), (name, option)
    assert ids(files, "gap", along=False) == ids(files, "gap")  # when something is measured is not how


def test_parts():
    moved = Protocol("shift=0.5", transform="centre", moved="shift,fraction=0.5")
    assert (moved.id, moved.done) == ("shift=0.5+centre", "centre+shift,fraction=0.5")
    assert (FULL.id, FULL.done, pool_of(96).id, pool_of(96).pool) == ("full", "", "pool96", 96)
    assert [shortest(x) for x in (1.0, 0.316, 1 / 3)] == ["1", "0.316", "0.3333333333333333"]
    assert told("train", "a b/c") != told("train", "a c/b") and told("k", True) == "k=true"
    assert told("k", [1, 2]) != told("k", [2, 1])


def test_values_by_two_options_stand_beside_each_other(files, tmp_path):
    """The later of two evaluations with different options hid the other under the same name."""
    store = open_store(str(tmp_path / "results.db"))
    store.begin_run(NewRun("m", "m", "external", None, "h", {"name": "m"}, {}, "1", "", 0))
    given = read_given(Path(files["mine-test"]))
    at = {"data": [files["mine-test"]]}
    probe, retrieval = TASKS.get("probe"), TASKS.get("retrieval")
    tasks = [
        probe(**at),
        probe(**at, shots=1),
        probe(**at, C=1e-4),
        retrieval(**at),
        retrieval(**at, draws=1),
    ]
    evaluate_given(given, tasks, store, "m").raise_failures()
    store.finish_run("m", "finished")
    found = compare(["probe_top1", "image_median_rank"], db=str(store.place.path))
    means = {(r["metric"], r["protocol"]): r["mean"] for r in found.records()}
    assert {p for m, p in means if m == "probe_top1"} == {"full", "full,shots=1", "full,C=0.0001"}
    assert {p for m, p in means if m != "probe_top1"} == {"full", "pool40", "pool40,draws=1"}
    for task in tasks:  # each value is what its task gives when it is alone
        alone = open_store(str(tmp_path / f"{len(list(tmp_path.iterdir()))}.db"))
        alone.begin_run(NewRun("m", "m", "external", None, "h", {"name": "m"}, {}, "1", "", 0))
        evaluate_given(given, [task], alone, "m").raise_failures()
        for row in alone.metrics("m"):
            if (key := (row["metric"], row["protocol"])) in means:
                assert row["value"] == means[key]
    asked = compare("probe_top1", db=str(store.place.path), protocol=["full,shots=1"])
    assert [r["mean"] for r in asked.records()] == [means["probe_top1", "full,shots=1"]]


@pytest.mark.parametrize(
    ("name", "train"),
    [
        ("test", "train"),
        ("classes-test", "classes-train"),
        ("latest-test.npz", "latest-train.npz"),
        ("test-of-val", "train-of-val"),
        ("x-validation.npz", "x-train.npz"),
        ("val2017", "train2017"),
        ("contest_valid", "contest_train"),
        ("minitest", "minitrain"),
        ("Testing", None),
        ("dev", "train"),
        ("photos", None),
    ],
)
def test_the_training_split_beside_a_test_split(name, train):
    split = SimpleNamespace(path=Path("data") / name)
    if train is None:
        with pytest.raises(UserError, match="no training split beside it"):
            sibling(split)
    else:
        assert sibling(split) == f"data/{train}"
