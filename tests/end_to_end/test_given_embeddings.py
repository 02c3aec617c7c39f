"""`gaprun eval --embeddings`: rows of other programs, measured like any model's and kept beside them."""

import json
from pathlib import Path

import numpy as np
import pytest

from gaprun.data.foreign import index_folder
from gaprun.errors import UserError
from gaprun.evaluation.given import read_given
from tests.conftest import run_gaprun
from tests.data.conftest import picture_bytes
from tests.data.test_shard_reading import write_tar


def unit(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def arrays(n=60, k=3, seed=0):
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % k
    z = 2 * np.eye(8)[labels] + rng.standard_normal((n, 8))
    return {
        "images": (z + np.eye(8)[7]).astype(np.float32),
        "texts": (np.repeat(z, 2, 0) + 0.3 * rng.standard_normal((2 * n, 8)) - np.eye(8)[7]).astype(
            np.float32
        ),
        "owner": np.repeat(np.arange(n), 2),
        "labels": labels,
        "class_texts": np.eye(8)[:k].astype(np.float32),
        "class_names": np.array(["cat", "dog", "owl"][:k]),
    }


def written(folder: Path, kind: str, data: dict) -> Path:
    if kind == "npz":
        np.savez(folder / "mine.npz", **data)
        return folder / "mine.npz"
    if kind == "npy":
        (folder / "mine").mkdir()
        for name, array in data.items():
            np.save(folder / "mine" / f"{name}.npy", array)
        return folder / "mine"
    import pyarrow
    import pyarrow.parquet

    rows = [
        *(
            {"modality": "image", "embedding": r, "label": int(v)}
            for r, v in zip(data["images"].tolist(), data["labels"], strict=True)
        ),
        *(
            {"modality": "text", "embedding": r, "owner": int(v)}
            for r, v in zip(data["texts"].tolist(), data["owner"], strict=True)
        ),
        *(
            {"modality": "class", "embedding": r, "name": str(v)}
            for r, v in zip(data["class_texts"].tolist(), data["class_names"], strict=True)
        ),
    ]
    keys = ("modality", "embedding", "label", "owner", "name")
    pyarrow.parquet.write_table(
        pyarrow.table({key: [row.get(key) for row in rows] for key in keys}), folder / "mine.parquet"
    )
    return folder / "mine.parquet"


def measured(*args, cwd):
    done = run_gaprun("eval", *args, "--json", cwd=cwd)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    return {(m["dataset"], m["protocol"], m["metric"]): m["value"] for m in found["metrics"]}, found


@pytest.mark.parametrize("kind", ["npz", "npy", "parquet"])
def test_every_kind_of_file_gives_the_same_rows(tmp_path, kind):
    data = arrays()
    given = read_given(written(tmp_path, kind, data))
    assert np.allclose(given.rows.images, unit(data["images"]), atol=1e-6)
    assert (given.rows.owner == data["owner"]).all() and (given.rows.labels == data["labels"]).all()
    assert given.classes == ["cat", "dog", "owl"] and given.class_texts.shape == (3, 8)
    (tmp_path / "other").mkdir()
    again = read_given(written(tmp_path / "other", "npz", data))
    assert again.content == given.content


def test_values_against_numpy(tmp_path):
    data = arrays()
    path = written(tmp_path, "npz", data)
    values, found = measured("--embeddings", str(path), cwd=tmp_path)
    x, y = (unit(data[name].astype(np.float64)) for name in ("images", "texts"))
    first = y[::2]
    assert values["mine", "full", "gap"] == pytest.approx(np.linalg.norm(x.mean(0) - first.mean(0)), abs=1e-6)
    scores = x @ y.T
    hits = [(scores[:, t] >= scores[i, t]).sum() == 1 for t, i in enumerate(data["owner"])]
    assert values["mine", "full", "image_recall@1"] == pytest.approx(100 * np.mean(hits))
    right = (x @ np.eye(8)[:3].T).argmax(1) == data["labels"]
    assert values["mine", "full", "zeroshot_top1"] == pytest.approx(100 * right.mean())
    for metric in ("mixed_recall@10", "intra_map", "cluster_nmi"):
        assert ("mine", "full", metric) in values
    # Asked again it is found; other content is another run.
    assert measured("--embeddings", str(path), cwd=tmp_path)[1] == found
    np.savez(path, **(data | {"images": data["images"][::-1]}))
    assert measured("--embeddings", str(path), cwd=tmp_path)[1]["run"] != found["run"]


def test_two_models_on_the_same_data_share_a_column(tmp_path):
    for seed in (0, 1):
        np.savez(tmp_path / f"model{seed}.npz", **arrays(seed=seed))
        measured("--embeddings", f"model{seed}.npz", "--data", "birds/test", "--tasks", "gap", cwd=tmp_path)
    done = run_gaprun("compare", "--metric", "gap", "--protocol", "full", "--json", cwd=tmp_path)
    rows = json.loads(done.stdout)
    assert {(row["recipe"], row["dataset"]) for row in rows} == {("model0", "birds"), ("model1", "birds")}, (
        done.stderr
    )


def test_maps_and_tasks_that_fit_read_a_file_beside_it(tmp_path):
    np.savez(tmp_path / "mine-train.npz", **arrays(seed=1))
    np.savez(tmp_path / "mine-test.npz", **arrays(seed=2))
    asked = ["--embeddings", "mine-test.npz", "--tasks", "gap,probe,transfer", "--transform", "centre"]
    values, _ = measured(*asked, cwd=tmp_path)
    assert values["mine-test", "full+centre", "gap"] < 0.3 * values["mine-test", "full", "gap"]
    assert values["mine-test", "full", "probe_top1"] > 60
    assert ("mine-test", "full+centre", "transfer_kept") in values


def odd(change):
    data = arrays()
    change(data)
    return data


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (odd(lambda d: (d.pop("texts"), d.pop("class_texts"))), "no array `texts`"),
        (odd(lambda d: d.pop("texts")), "`owner` must be 0 whole numbers"),
        (odd(lambda d: d.update(image_norms=np.ones(3))), "`image_norms` must be"),
        (odd(lambda d: d.update(image_norms=-np.ones(len(d["images"])))), "`image_norms` must be"),
        (odd(lambda d: d.pop("owner")), "need an `owner`"),
        (odd(lambda d: d.update(owner=d["owner"] + 1)), "caption owners"),
        (odd(lambda d: d.update(labels=d["labels"] + 1)), "labels reach 3"),
        (odd(lambda d: d.update(labels=d["labels"].astype(float))), "whole numbers"),
        (odd(lambda d: d["images"].__setitem__((4, 2), np.nan)), "images embedding 4"),
        (odd(lambda d: d["texts"].__setitem__(9, 0)), "texts embedding 9"),
        (odd(lambda d: d.update(class_names=np.array(["a", "a", "b"]))), "a name twice"),
        (odd(lambda d: d.update(class_names=np.array("cat"))), "must be a list of names"),
        (odd(lambda d: d.update(class_names=np.array(["a", " ", "b"]))), "empty or no text: number 1"),
        (odd(lambda d: d.update(labels=d["labels"] - 2)), "number 0 is -2"),
        (odd(lambda d: d.update(labels=d["labels"].astype("u8") + 2**63)), "number 0 is 9223372036854775808"),
        (odd(lambda d: d.update(class_texts=d["class_texts"][:, :5])), "5 dimensions"),
        (odd(lambda d: d.update(texts=d["texts"][:, :5])), "different models"),
        (odd(lambda d: d.update(image=d["images"])), "unknown arrays image"),
        (odd(lambda d: d.update(images=np.array(["a", "b"], dtype=object))), "cannot be read"),
    ],
)
def test_odd_files_get_one_line(tmp_path, data, said):
    np.savez(tmp_path / "odd.npz", **data)
    with pytest.raises(UserError, match=said):
        read_given(tmp_path / "odd.npz")


def pairs(n=40, dim=6, seed=0):
    """Images and one text each that is like its own."""
    rng = np.random.default_rng(seed)
    images = rng.normal(size=(n, dim)).astype(np.float32)
    return images, images + 0.5 * rng.normal(size=(n, dim)).astype(np.float32)


@pytest.mark.parametrize("repeat", [np.repeat, lambda rows, k, axis: np.tile(rows, (k, 1))])
def test_an_image_that_stands_once_a_caption_is_refused(tmp_path, repeat):
    """As loops over pairs save them: of its five captions four would count as wrong."""
    images, _ = pairs()
    five = repeat(images, 5, axis=0)
    texts = five + 0.1 * np.random.default_rng(1).normal(size=five.shape)
    for more in ({}, {"owner": np.arange(len(five))}):
        path = written(tmp_path, "npz", {"images": five, "texts": texts} | more)
        with pytest.raises(
            UserError, match="200 rows of `images` are 40 different ones .* keep each image once"
        ):
            read_given(path)
    # Some photos that stand twice in a data set, and a model that gives one row for all, are measured.
    images[:5] = images[5:10]
    assert read_given(written(tmp_path, "npz", {"images": images, "texts": images})).samples == 40
    images[:] = images[0]
    assert read_given(written(tmp_path, "npz", {"images": images, "texts": images})).samples == 40


@pytest.mark.parametrize("kind", ["<f2", "<f4", "<f8"])
def test_rows_of_length_one_that_lie_on_their_side_are_refused(tmp_path, kind):
    images, texts = (unit(rows.astype(np.float64)).astype(kind) for rows in pairs())
    with pytest.raises(UserError, match=r"columns of `images` \(6, 40\) have length 1.* save images.T"):
        read_given(written(tmp_path, "npz", {"images": images.T, "texts": texts.T}))
    assert read_given(written(tmp_path, "npz", {"images": images, "texts": texts})).rows.dim == 6
    assert read_given(written(tmp_path, "npz", {"images": np.eye(6), "texts": np.eye(6)})).rows.dim == 6


def test_rows_in_another_order_are_said(tmp_path):
    images, texts = pairs()
    assert read_given(written(tmp_path, "npz", {"images": images, "texts": texts})).remarks == ()
    owner = np.random.default_rng(3).permutation(len(images))
    (said,) = read_given(written(tmp_path, "npz", {"images": images, "texts": texts[owner]})).remarks
    x, y = unit(images), unit(texts[owner])
    own, others = np.diag(x @ y.T).mean(), (x @ y.T)[~np.eye(len(x), dtype=bool)].mean()
    assert f"own image (mean cosine {own:.3f}) than like others ({others:.3f})" in said
    told = {"images": images, "texts": texts[owner], "owner": owner}
    assert read_given(written(tmp_path, "npz", told)).remarks == ()


@pytest.mark.parametrize("kind", [">f4", ">f8", "<f2", "<i2", "fortran", "mapped"])
def test_rows_of_any_number_type_and_layout_are_the_same_rows(tmp_path, kind):
    data = arrays()
    whole = {name: np.round(8 * data[name]) for name in ("images", "texts", "class_texts")}
    if kind == "mapped":
        (tmp_path / "mine").mkdir()
        for name, array in (data | whole).items():
            np.save(tmp_path / "mine" / f"{name}.npy", array)
        path = tmp_path / "mine"
    else:
        odd = {
            name: np.asfortranarray(a) if kind == "fortran" else a.astype(kind) for name, a in whole.items()
        }
        path = written(tmp_path, "npz", data | odd)
    given = read_given(path)
    np.testing.assert_array_equal(given.rows.images, unit(whole["images"].astype(float)).astype(np.float32))
    np.testing.assert_allclose(given.rows.image_norms, np.linalg.norm(whole["images"], axis=1), rtol=1e-6)
    assert ("int16, measured as it stands" in " ".join(given.remarks)) == (kind == "<i2")


@pytest.mark.parametrize("kind", ["<f4", ">f4", "<f8", "<f2"])
def test_rows_of_length_one_do_not_say_their_lengths_before(tmp_path, kind):
    data = arrays()
    changed = {"images": unit(data["images"]).astype(kind), "class_names": data["class_names"].astype("S")}
    found = read_given(written(tmp_path, "npz", data | changed))
    assert found.classes == ["cat", "dog", "owl"]
    assert found.rows.image_norms is None
    if kind == ">f4":
        np.testing.assert_array_equal(found.rows.images, unit(data["images"]).astype("<f4"))


def test_a_split_that_lies_here_tells_another_order_by_its_numbers(tmp_path, monkeypatch):
    monkeypatch.setenv("GAPRUN_DATA", str(tmp_path))
    members = []
    for i, count in enumerate((2, 1, 3)):
        members += [(f"{i}.jpg", picture_bytes(i, 8, 8, kind="JPEG")), (f"{i}.cls", str(i % 2).encode())]
        members += [(f"{i}.txt", b"\n".join(b"%d %d" % (i, k) for k in range(count)))]
    write_tar(tmp_path / "coco" / "test" / "0.tar", members)
    (tmp_path / "coco" / "test" / "classnames.txt").write_text("cat\ndog\n")
    index_folder(tmp_path / "coco" / "test")
    rng = np.random.default_rng(0)
    data = {
        "images": rng.normal(size=(3, 4)),
        "texts": rng.normal(size=(6, 4)),
        "owner": np.array([0, 0, 1, 2, 2, 2]),
    }
    assert len(read_given(written(tmp_path, "npz", data), "coco/test").fingerprint) == 64
    for change, said in (
        ({"owner": np.array([0, 1, 2, 2, 0, 1])}, "image 1 has 2 texts and in coco/test 1 texts: other data"),
        ({"labels": np.array([0, 0, 1])}, "image 1 has label 0 and in coco/test label 1: other data"),
    ):
        with pytest.raises(UserError, match=said):
            read_given(written(tmp_path, "npz", data | change), "coco/test")
        read_given(tmp_path / "mine.npz")


def test_a_table_of_pandas_with_empty_cells(tmp_path):
    pandas = pytest.importorskip("pandas")
    rows = [
        {"modality": "image", "embedding": [1.0, 0.0], "label": 0},
        {"modality": "image", "embedding": [0.0, 1.0]},
        {"modality": "text", "embedding": [1.0, 1.0], "owner": 1},
        {"modality": "class", "embedding": [1.0, 0.5], "name": "cat"},
    ]
    pandas.DataFrame(rows).to_parquet(tmp_path / "mine.parquet")
    given = read_given(tmp_path / "mine.parquet")
    assert given.labels.tolist() == [0, -1] and given.rows.owner.tolist() == [1] and given.classes == ["cat"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda rows: rows[0].update(id=3), "unknown columns id; known are modality"),
        (lambda rows: rows[1].update(embedding=[1.0]), "row 1: its embedding has 1 numbers, row 0 has 2"),
        (lambda rows: rows[1].update(embedding=None), "row 1: its embedding has None numbers"),
        (lambda rows: rows[0].update(owner=1), "row 0: image 0 has owner 1.0; owner is a text's"),
        (lambda rows: rows[0].update(modality="audio"), "modality 'audio' is none of"),
        (lambda rows: [row.update(label="cat") for row in rows], "`labels` must be 2 whole numbers"),
        (lambda rows: rows[0].update(label=0.5), "`labels` must be 2 whole numbers"),
    ],
)
def test_tables_that_could_mean_something_else_are_refused(tmp_path, change, said):
    pandas = pytest.importorskip("pandas")
    rows = [
        {"modality": kind, "embedding": [1.0, float(i)], **({"owner": i} if kind == "text" else {})}
        for kind in ("image", "text")
        for i in range(2)
    ]
    pandas.DataFrame(rows).to_parquet(tmp_path / "mine.parquet")
    assert read_given(tmp_path / "mine.parquet").rows.owner.tolist() == [0, 1]
    change(rows)
    pandas.DataFrame(rows).to_parquet(tmp_path / "mine.parquet")
    with pytest.raises(UserError, match=said):
        read_given(tmp_path / "mine.parquet")


@pytest.mark.parametrize("name", ["mine.npy", "mine.pt", "mine.safetensors", "mine.h5", "mine.pkl"])
def test_files_of_other_kinds_are_named_with_the_way_out(tmp_path, name):
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(UserError, match=r"is not read: save the arrays .* by numpy.savez as .npz"):
        read_given(tmp_path / name)


def test_lengths_of_rows_and_files_of_classes_alone(tmp_path):
    """Rows of length 1 stay as they are, to the bit; others tell their lengths; no text is needed beside class rows."""
    data = arrays()
    np.savez(tmp_path / "raw.npz", **data)
    raw = read_given(tmp_path / "raw.npz")
    np.testing.assert_allclose(raw.rows.image_norms, np.linalg.norm(data["images"], axis=1), rtol=1e-6)
    unit_rows = {"images": raw.rows.images, "labels": data["labels"], "class_texts": raw.class_texts}
    np.savez(tmp_path / "unit.npz", **unit_rows)
    found = read_given(tmp_path / "unit.npz")
    assert np.array_equal(found.rows.images, raw.rows.images) and found.rows.image_norms is None
    assert found.rows.texts.shape == (0, raw.rows.dim) and not any(found.captions)
    np.savez(tmp_path / "both.npz", **unit_rows, image_norms=raw.rows.image_norms)
    assert np.array_equal(read_given(tmp_path / "both.npz").rows.image_norms, raw.rows.image_norms)


def test_requests_that_cannot_be_met(tmp_path):
    (tmp_path / "text.npz").write_text("hello")
    np.savez(tmp_path / "plain.npz", images=np.eye(4), texts=np.eye(4))
    for words, said in (
        (["--embeddings", "none.npz"], "no such file"),
        (["--embeddings", "text.npz"], "cannot be read"),
        (["--embeddings", "plain.npz", "--ckpt", "x"], "stands alone"),
        (["--embeddings", "plain.npz", "--workers", "2"], "stands alone"),
        (["--embeddings", "plain.npz", "--tasks", "zeroshot"], "needs labels"),
        (["--embeddings", "plain.npz", "--name", "../x"], "cannot be a name"),
        (["--embeddings", "plain.npz", "--data", "coco"], "DATASET/SPLIT"),
    ):
        done = run_gaprun("eval", *words, cwd=tmp_path)
        assert done.returncode == 2 and said in done.stderr and "Traceback" not in done.stderr, done.stderr


def test_a_real_clip(tmp_path, real_data):
    """The published embeddings' known answers, and what maps fitted on other pairs do to them (docs/findings.md)."""
    path = real_data / "embeddings" / "clip_vit_coco500.npz"
    values, _ = measured("--embeddings", str(path), "--tasks", "gap,retrieval", cwd=tmp_path)
    known = {"gap": 0.8514, "matched_cosine": 0.3099, "text_recall@1": 55.2, "image_recall@1": 50.6}
    for metric, expected in known.items():
        assert values["clip_vit_coco500", "full", metric] == pytest.approx(expected, abs=1e-4), metric
    with np.load(path) as found:
        for name, half in (("train", slice(None, 250)), ("test", slice(250, None))):
            np.savez(tmp_path / f"clip-{name}.npz", images=found["images"][half], texts=found["texts"][half])
    maps = [word for name in ("centre", "realign", "shift") for word in ("--transform", name)]
    asked = ["--embeddings", "clip-test.npz", "--tasks", "gap,retrieval,mixed", *maps]
    values, _ = measured(*asked, cwd=tmp_path)
    shown = {
        protocol: tuple(
            round(values["clip-test", protocol, metric], places)
            for metric, places in (
                ("gap", 3),
                ("image_recall@1", 1),
                ("text_recall@1", 1),
                ("mixed_recall@10", 1),
            )
        )
        for protocol in ("full", "full+centre", "full+realign", "full+shift")
    }
    assert shown == {
        "full": (0.857, 60.8, 66.0, 0.0),
        "full+centre": (0.123, 63.2, 66.0, 68.8),
        "full+realign": (0.076, 38.8, 50.4, 52.0),
        "full+shift": (0.085, 46.8, 46.4, 54.4),
    }
