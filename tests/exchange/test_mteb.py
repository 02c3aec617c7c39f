"""mteb's own code over a gaprun run gives gaprun's own numbers, and its result files bring them back."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gaprun.data.split import open_split
from gaprun.errors import UserError
from gaprun.exchange.mteb import encoder
from gaprun.exchange.results import import_files
from gaprun.store import open_store
from tests.conftest import RECIPES, TINY, run_gaprun

SIDES = {"image": "T2I", "text": "I2T"}  # what is found, and mteb's word for the direction


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, scenes: Path) -> Path:
    """A database with one run, measured by gaprun on scenes/test."""
    folder = tmp_path_factory.mktemp("mteb")
    words = [
        *TINY,
        "--set",
        "eval=[{task: retrieval, data: [scenes/test]}]",
        "--seeds",
        "0",
        "--db",
        "results.db",
    ]
    done = run_gaprun(
        "train", f"{RECIPES}/baseline.yaml", *words, cwd=folder, env={"GAPRUN_DATA": str(scenes)}
    )
    assert done.returncode == 0, done.stderr
    return folder / "results.db"


def tasks(split: Any) -> list[Any]:
    """mteb's two retrieval tasks over a split's pictures and captions."""
    from datasets import Dataset
    from mteb.abstasks.retrieval import AbsTaskRetrieval
    from mteb.abstasks.task_metadata import TaskMetadata
    from PIL import Image

    images = {f"i{i}": Image.open(io.BytesIO(split.read_image(i))) for i in range(split.samples)}
    texts = {f"t{i}.{k}": text for i, own in enumerate(split.captions) for k, text in enumerate(own)}
    pictures = Dataset.from_dict({"id": list(images), "image": list(images.values())})
    captions = Dataset.from_dict({"id": list(texts), "text": list(texts.values())})
    owner = {name: f"i{name[1:].partition('.')[0]}" for name in texts}
    relevant: dict[str, dict[str, dict[str, int]]] = {"T2I": {t: {i: 1} for t, i in owner.items()}, "I2T": {}}
    for text, image in owner.items():
        relevant["I2T"].setdefault(image, {})[text] = 1

    def task(side: str) -> Any:
        class Scenes(AbsTaskRetrieval):
            metadata = TaskMetadata(
                name=f"Scenes{side}Retrieval", description="drawn", type="Any2AnyRetrieval", category=side.lower(),
                dataset={"path": "none", "revision": "1"}, eval_splits=["test"], eval_langs=["eng-Latn"],
                main_score="recall_at_1", modalities=["image", "text"], reference=None,
            )  # fmt: skip

            def load_data(self, **more: Any) -> None:
                corpus, queries = (pictures, captions) if side == "T2I" else (captions, pictures)
                data = {
                    "corpus": corpus,
                    "queries": queries,
                    "relevant_docs": relevant[side],
                    "top_ranked": None,
                }
                self.dataset, self.data_loaded = {"default": {"test": data}}, True

        return Scenes()

    return [task("T2I"), task("I2T")]


@pytest.fixture(scope="module")
def evaluated(trained: Path, scenes: Path) -> dict[str, Any]:
    """What mteb makes of the run: `scores` by direction, the `folder` of its result files."""
    mteb = pytest.importorskip("mteb", reason="needs gaprun[mteb]")
    from mteb.cache import ResultCache

    split = open_split(scenes / "scenes/test")
    (run,) = open_store(str(trained)).runs()
    made = encoder(run.id, db=str(trained), device="cpu")
    cache = ResultCache(cache_path=trained.parent / "mteb")
    result = mteb.evaluate(made, tasks(split), cache=cache, co2_tracker=False, show_progress_bar=False)
    scores = {one.task_name[6:9]: one.scores["test"][0] for one in result.task_results}
    return {
        "scores": scores,
        "run": run.id,
        "encoder": made,
        "split": split,
        "folder": trained.parent / "mteb",
    }


def test_mteb_gives_gapruns_own_recalls(evaluated: dict[str, Any], trained: Path) -> None:
    rows = open_store(str(trained)).metrics(evaluated["run"])
    ours = {row["metric"]: row["value"] for row in rows if row["protocol"] == "full"}
    for k in (1, 5, 10):
        for side, direction in SIDES.items():
            theirs = evaluated["scores"][direction][f"hit_rate_at_{k}"]  # of five digits
            assert theirs == round(ours[f"{side}_recall@{k}"] / 100, 5), (side, k)
    assert 0 < ours["image_recall@10"] < 100
    assert evaluated["scores"]["T2I"]["recall_at_5"] == evaluated["scores"]["T2I"]["hit_rate_at_5"]


def test_mtebs_files_bring_its_numbers_back(
    evaluated: dict[str, Any], scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GAPRUN_DATA", str(scenes))
    store = open_store(str(tmp_path / "results.db"))
    files = sorted((evaluated["folder"] / "results").glob("*/*/*.json"))
    assert [file.name for file in files] == [
        "ScenesI2TRetrieval.json",
        "ScenesT2IRetrieval.json",
        "model_meta.json",
    ]
    refused = import_files(lambda: store, files, "scenes/test").refused
    assert len(refused) == 2 and "measured on mteb-scenes, not on scenes" in refused[0]
    report = import_files(lambda: store, files, "scenes/test", same_data=True)
    assert report.refused == [] and [one.values for one in report.done] == [7, 7]
    (run,) = store.runs()
    assert run.recipe == f"gaprun-{evaluated['run']}@mteb"
    made = evaluated["encoder"].mteb_model_meta
    assert run.resolved_recipe["model"] == {"name": made.name, "revision": made.revision}
    rows = {row["metric"]: row for row in store.metrics(run.id)}
    for side, direction in SIDES.items():
        for k in (1, 5, 10, 100):
            row = rows[f"{side}_recall@{k}"]
            assert row["value"] == 100 * evaluated["scores"][direction][f"hit_rate_at_{k}"]
            assert (row["dataset"], row["split"], row["protocol"]) == ("scenes", "test", "full")
            assert row["data_fingerprint"] == evaluated["split"].fingerprint
    left_out = report.left_out[str(files[0])]
    assert "recall_at_k" in left_out and "nauc_*" in left_out and len(left_out) < 12


def test_the_encoder_gives_gapruns_rows_and_nothing_else(evaluated: dict[str, Any], trained: Path) -> None:
    import torch
    from PIL import Image

    from gaprun.evaluation.embed import StoredEmbedder
    from gaprun.jobs.load import load_model

    made, split = evaluated["encoder"], evaluated["split"]
    store = open_store(str(trained))
    loaded = load_model(store, evaluated["run"], None, None)
    embedder = StoredEmbedder(loaded.towers, loaded.checkpoint_hash, None, torch.device("cpu"))
    ours = embedder.embeddings(split)
    pictures = [Image.open(io.BytesIO(split.read_image(i))) for i in range(split.samples)]
    rows = made.encode([{"image": pictures[:50]}, {"image": pictures[50:]}])
    assert rows.dtype == np.float32 and np.array_equal(rows, ours.images)
    texts = [text for own in split.captions for text in own]
    assert np.array_equal(made.encode([{"text": texts[:7]}, {"text": texts[7:]}]), ours.texts)
    assert np.allclose(made.similarity(rows[:3], rows[:2]), rows[:3] @ rows[:2].T)
    assert np.allclose(made.similarity_pairwise(rows[:3], rows[1:4]), (rows[:3] * rows[1:4]).sum(1))
    for batch, said in (
        ({"image": pictures[:1], "text": ["a"]}, "image and text in one"),
        ({"audio": [1]}, "audio"),
    ):
        with pytest.raises(UserError, match=said):
            made.encode([batch])
    with pytest.raises(UserError, match="int8"):
        made.encode([{"text": ["a"]}], precision="int8")


def test_a_file_of_embeddings_is_no_encoder(tmp_path: Path) -> None:
    np.savez(tmp_path / "rows.npz", images=np.eye(3, dtype=np.float32), texts=np.eye(3, dtype=np.float32))
    with pytest.raises(UserError, match="without the pictures and words .* name the model that made them"):
        encoder(str(tmp_path / "rows.npz"))


def result(folder: Path, task: str, scores: Any, meta: Any = "clip") -> Path:
    """A file in the shape that mteb writes, in its folders."""
    place = folder / "results" / "openai__clip" / "3d74acf"
    place.mkdir(parents=True, exist_ok=True)
    if meta == "clip":
        meta = {"name": "openai/clip", "revision": "3d74acf", "experiment_kwargs": None}
    if meta is not None:
        (place / "model_meta.json").write_text(json.dumps(meta))
    path = place / f"{task}.json"
    path.write_text(
        json.dumps({"task_name": task, "dataset_revision": "1", "mteb_version": "2.26.24", "scores": scores})
    )
    return path


def entry(subset: str = "default", **scores: Any) -> dict[str, Any]:
    return {"main_score": 0.5, "hf_subset": subset, "languages": ["eng-Latn"], **scores}


def stored(store: Any) -> dict[tuple[str, str, str], float]:
    """Values of the only run by metric, data set and split."""
    (run,) = store.runs()
    return {(r["metric"], r["dataset"], r["split"]): round(r["value"], 9) for r in store.metrics(run.id)}


def options(store: Any, task: str) -> list[Any]:
    with store.engine.connect() as connection:
        rows = connection.exec_driver_sql(f"SELECT options FROM evaluations WHERE task = '{task}'")
        return [json.loads(row[0]) for row in rows]


def test_what_each_task_becomes(tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "results.db"))
    hits = {"recall_at_1": 0.25, "hit_rate_at_1": 0.25}
    half = {"recall_at_1": 0.5, "hit_rate_at_1": 0.5}
    drawn = [{"accuracy": 0.5}] * 5
    files = [
        result(tmp_path, "Flickr30kT2IRetrieval", {"test": [entry(**hits)], "dev": [entry(**half)]}),
        result(tmp_path, "Flickr30kI2TRetrieval", {"test": [entry(recall_at_1=0.1, cv_recall_at_1=0.5)]}),
        result(tmp_path, "XFlickr30kCoT2IRetrieval", {"test": [entry("de", **hits), entry("en", **hits)]}),
        result(tmp_path, "MSCOCOT2IRetrieval", {"test": [entry(recall_at_1=0.24, hit_rate_at_1=0.25)]}),
        result(tmp_path, "CIRRIT2IRetrieval", {"test": [entry(**hits)]}),
        result(tmp_path, "CIFAR10ZeroShot", {"test": [entry(accuracy=0.75, recall=0.7)]}),
        result(tmp_path, "CIFAR10", {"test": [entry(accuracy=0.5, scores_per_experiment=drawn)]}),
        result(tmp_path, "Banking77Classification", {"test": [entry(accuracy=0.5, scores_per_experiment=drawn)]}),
    ]  # fmt: skip
    report = import_files(lambda: store, files)
    assert report.refused == []
    assert stored(store) == {
        ("image_recall@1", "mteb-flickr30k", "test"): 25.0,
        ("image_recall@1", "mteb-flickr30k", "dev"): 50.0,
        ("text_recall@1", "mteb-flickr30k", "test"): 50.0,
        ("image_recall@1", "mteb-xflickr30kco-de", "test"): 25.0,
        ("image_recall@1", "mteb-xflickr30kco-en", "test"): 25.0,
        ("zeroshot_top1", "mteb-cifar10", "test"): 75.0,
        ("probe_top1", "mteb-cifar10", "test"): 50.0,
    }
    assert options(store, "zeroshot") == [{"templates": "mteb"}]
    assert options(store, "probe") == [{"solver": "mteb", "experiments": 5, "shots": 16}]
    left_out = {Path(file).stem: names for file, names in report.left_out.items()}
    assert left_out["MSCOCOT2IRetrieval"] == ["recall_at_k", "hit_rate_at_k"]
    assert left_out["CIRRIT2IRetrieval"] == ["all of CIRRIT2IRetrieval"]
    assert left_out["CIFAR10ZeroShot"] == ["recall"]
    with pytest.raises(UserError, match=r"several splits \(dev, test\)"):
        import_files(lambda: store, files[:1], "flickr30k/test", same_data=True)
    assert import_files(lambda: store, files).done and len(store.runs()) == 1


BAD = {
    "percent": ({"test": [entry(hit_rate_at_1=25.0)]}, "clip", "hit_rate_at_1 is 25, which is no share .*percent"),
    "twice": ({"test": [entry(), entry()]}, "clip", "says subset 'default' of test twice"),
    "no list": ({"test": {"default": entry()}}, "clip", "no lists by split"),
    "no mapping": ({"test": [0.5]}, "clip", "no mappings"),
    "no subset": ({"test": [{"main_score": 1}]}, "clip", "its hf_subset is null and not a name"),
    "split": ({"../x": [entry(hit_rate_at_1=0.5)]}, "clip", "its split '../x' cannot be a name"),
    "subset": ({"test": [entry("a/b", hit_rate_at_1=0.5)]}, "clip", "cannot be a name"),
    "meta": ({"test": [entry()]}, {"revision": "1"}, "model_meta.json: its name is null"),
    "meta list": ({"test": [entry()]}, [], "model_meta.json: damaged"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_damaged_results_get_one_line_and_the_others_come_in(tmp_path: Path, name: str) -> None:
    scores, meta, said = BAD[name]
    store = open_store(str(tmp_path / "results.db"))
    good = result(
        tmp_path / "good", "XI2TRetrieval", {"test": [entry(hit_rate_at_5=0.5, hit_rate_at_1=float("nan"))]}
    )
    bad = result(tmp_path, "XI2TRetrieval", scores, meta)
    report = import_files(lambda: store, [bad, good])
    assert [one.file for one in report.done] == [str(good)]
    assert report.odd[str(good)] == ["hit_rate_at_1 (NaN)"]
    with pytest.raises(UserError, match=said):
        raise UserError(*report.refused)
    assert "\n" not in report.refused[0]


def test_which_model_it_is_must_be_said(tmp_path: Path) -> None:
    scores = {"test": [entry(hit_rate_at_5=0.5)]}
    path = result(tmp_path, "XI2TRetrieval", scores, None)
    store = open_store(str(tmp_path / "results.db"))
    assert import_files(lambda: store, [path]).refused == []
    assert store.runs()[0].resolved_recipe["model"] == {"name": "openai/clip", "revision": "3d74acf"}
    moved = tmp_path / "XI2TRetrieval.json"
    moved.write_text(path.read_text())
    old = tmp_path / "Old.json"
    old.write_text(json.dumps({"mteb_dataset_name": "Old", "test": {}}))
    refused = import_files(lambda: store, [moved, old]).refused
    assert "does not say which model it is of" in refused[0] and "before 1.11" in refused[1]
