"""Picture files and class folders as people have them: which file a name means, what is no picture, what is a split."""

from __future__ import annotations

import io
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import gaprun.data.pictures as pictures
from gaprun.data.captioned import captioned_plans
from gaprun.data.classes import class_plans
from gaprun.data.decode import decode_rgb
from gaprun.data.division import Division
from gaprun.data.errors import DamagedSample
from gaprun.data.folders import Folders
from gaprun.data.split import open_split
from gaprun.data.tables import Entry
from gaprun.data.write import write_splits
from gaprun.errors import UserError
from tests.data.conftest import picture_bytes


def put(path: Path, seed: int = 0, kind: str = "JPEG") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(picture_bytes(seed, 12, 10, kind=kind))
    return path


def captions_of(folders: list[Path], names: list[str], out: Path):
    """(picture file's bytes by caption, report) after writing a set in which each name is its own caption."""
    entries = [Entry(name, [name]) for name in names]
    plans = captioned_plans("captions", out, entries, Folders(folders), Path("c.csv"), Division())
    [(index, _)] = write_splits(plans)
    split = open_split(out / "train")
    return {texts[0]: split.read_image(i) for i, texts in enumerate(split.captions)}, index["report"]


def test_folders_that_number_alike_keep_their_pictures_apart(tmp_path):
    for seed, name in enumerate(("a/0.jpg", "a/1.jpg", "b/0.jpg", "b/1.jpg")):
        put(tmp_path / name, seed)
    names = ["a/0.jpg", "b/0.jpg", "b/1.jpg"]
    found, report = captions_of([tmp_path / "a", tmp_path / "b"], names, tmp_path / "out")
    assert found == {name: (tmp_path / name).read_bytes() for name in names} and report == {"no_caption": 1}
    (tmp_path / "b" / "0.jpg").unlink()
    found, report = captions_of([tmp_path / "a", tmp_path / "b"], names, tmp_path / "less")
    assert sorted(found) == ["a/0.jpg", "b/1.jpg"] and report == {"caption_without_image": 1, "no_caption": 1}
    found, report = captions_of([tmp_path / "a"], names, tmp_path / "one")
    assert found == {"a/0.jpg": (tmp_path / "a/0.jpg").read_bytes()}, (
        "b/1.jpg is not a/1.jpg where a's names are known"
    )


@pytest.mark.parametrize("root", ["a", "link", "a/../a"])
def test_absolute_names_below_a_folder_are_its_files(tmp_path, root):
    for seed, name in enumerate(("a/x/0.jpg", "a/0.jpg")):
        put(tmp_path / name, seed)
    (tmp_path / "link").symlink_to(tmp_path / "a")
    names = [f"{tmp_path}/a/x/0.jpg", f"{tmp_path}/a/0.jpg", f"{tmp_path}/a/2.jpg"]
    if root == "a":
        found, report = captions_of([tmp_path / root], names, tmp_path / "out")
        assert found == {name: Path(name).read_bytes() for name in names[:2]}
        assert report == {"caption_without_image": 1}
    else:
        folders = Folders([tmp_path / root])
        assert (
            folders.find(names[0], tmp_path).file.relative == "x/0.jpg"
            and folders.find(names[2], tmp_path) is None
        )
    with pytest.raises(UserError, match="outside --images: refused"):
        Folders([tmp_path / root]).find(f"{tmp_path}/b/0.jpg", tmp_path)


def test_a_short_name_that_several_folders_have_is_ambiguous_and_counted(tmp_path):
    for seed, name in enumerate(("a/0.jpg", "b/0.jpg", "b/1.jpg")):
        put(tmp_path / name, seed)
    found, report = captions_of([tmp_path / "a", tmp_path / "b"], ["0.jpg", "1.jpg"], tmp_path / "out")
    assert list(found) == ["1.jpg"] and report == {"ambiguous_name": 1, "no_caption": 2}


def test_two_names_that_could_mean_one_file_are_both_refused_it(tmp_path):
    put(tmp_path / "pictures" / "0.jpg")
    put(tmp_path / "pictures" / "1.jpg", 1)
    names = ["x/0.jpg", "y/0.jpg", "x/1.jpg"]
    with pytest.raises(UserError, match="ambiguous_name 3"):
        captions_of([tmp_path / "pictures"], names, tmp_path / "out")
    found, report = captions_of([tmp_path / "pictures"], ["x/0.jpg", "y/1.jpg"], tmp_path / "out")
    assert list(found) == ["x/0.jpg", "y/1.jpg"] and report == {}, "folders whose names differ may lie in one"


PLACES = st.lists(
    st.sampled_from([f"{a}/{b}/{n}.jpg" for a in "pq" for b in "ab" for n in "01"]), unique=True, min_size=1
)


@given(files=PLACES, roots=st.sampled_from([["p/a", "p/b", "q/a", "q/b"], ["p/a", "p/b"], ["p", "q"], ["."]]))
def test_a_name_with_its_folders_never_means_another_folders_file(tmp_path_factory, files, roots):
    base = tmp_path_factory.mktemp("f")
    for name in files:
        (base / name).parent.mkdir(parents=True, exist_ok=True)
        (base / name).touch()
    given_roots = [base / root for root in roots if (base / root).is_dir()]
    try:
        folders = Folders(given_roots)
    except UserError:
        return
    for name in (f"{a}/{b}/{n}.jpg" for a in "pq" for b in "ab" for n in "01"):
        if not any(name.startswith(f"{root}/") or root == "." for root in roots if (base / root).is_dir()):
            continue  # nothing here tells that folder from another
        match = folders.find(name, Path("c"))
        listed = name in files and any(root == "." or name.startswith(f"{root}/") for root in roots)
        assert (match.file.path == str(base / name)) if listed else match is None, name


def test_decomposed_names_and_composed_ones_are_the_same(tmp_path):
    put(tmp_path / "i" / unicodedata.normalize("NFD", "café/été.jpg"))
    found, report = captions_of(
        [tmp_path / "i"], [unicodedata.normalize("NFC", "café/été.jpg")], tmp_path / "out"
    )
    assert len(found) == 1 and report == {}


def test_what_is_no_picture_is_counted_and_links_are_followed(tmp_path):
    put(tmp_path / "elsewhere" / "x.jpg")
    for name in (
        "a.jpg",
        "._a.jpg",
        ".cache/b.jpg",
        "__MACOSX/a.jpg",
        "@eaDir/a.jpg",
        "Thumbs.db",
        "notes.txt",
    ):
        put(tmp_path / "i" / name)
    (tmp_path / "i" / "linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "i" / "loop").symlink_to(tmp_path / "i")
    folders = Folders([tmp_path / "i"])
    assert [file.relative for file in folders.files] == ["a.jpg", "linked/x.jpg"]
    assert folders.tally.counts == {"hidden": 5, "no_picture": 1}
    assert folders.tally.examples["hidden"][:3] == [".cache", "@eaDir", "__MACOSX"] or set(
        folders.tally.examples["hidden"]
    ) == {".cache", "@eaDir", "__MACOSX", "._a.jpg", "Thumbs.db"}


def classes_below(tmp_path, names: dict[str, int], **options):
    """The splits' class names and sample counts of a folder with so many pictures at each path."""
    for name, count in names.items():
        for i in range(count):
            put(tmp_path / "c" / name / f"{i}.jpg", i)
    results = write_splits(class_plans(str(tmp_path / "c"), tmp_path / "out", **options))
    return {index["split"]: (index["classes"], index["samples"]) for index, _ in results}, results[0][0][
        "report"
    ]


@pytest.mark.parametrize(
    ("train", "other", "split"),
    [
        ("train", "test", "test"),
        ("training", "testing", "test"),
        ("Train", "validation", "val"),
        ("train", "val", "val"),
    ],
)
def test_known_layouts_are_splits(tmp_path, train, other, split):
    names = {f"{train}/cat": 3, f"{train}/dog": 2, f"{other}/cat": 1, f"{other}/dog": 2, ".git/x": 1}
    found, report = classes_below(tmp_path, names)
    assert found == {"train": (["cat", "dog"], 5), split: (["cat", "dog"], 3)} and report == {}


def test_a_class_of_a_splits_name_is_a_class_and_unclear_layouts_are_refused(tmp_path):
    found, _ = classes_below(tmp_path, {"train": 4, "car": 4}, test_share=0.5)
    assert found == {"train": (["car", "train"], 4), "test": (["car", "train"], 4)}
    for names, said in (
        ({"train": 2, "test": 2}, "splits or classes"),
        ({"val/a": 1, "validation/a": 1, "train/a": 1}, "two folders for val"),
        ({"images/a": 1, "images/b": 1}, "one class only .images."),
    ):
        with pytest.raises(UserError, match=said):
            classes_below(tmp_path / said[:3], names)


def test_hidden_folders_are_no_classes_and_loose_pictures_are_counted(tmp_path):
    found, report = classes_below(
        tmp_path, {"cat": 3, "dog": 3, ".ipynb_checkpoints": 3, "__MACOSX": 3, ".": 1}
    )
    assert found == {"train": (["cat", "dog"], 4), "test": (["cat", "dog"], 2)}
    assert report == {"hidden": 2, "no_class": 1}
    assert "MACOSX" not in (tmp_path / "out" / "train" / "index.json").read_text()


def test_names_that_are_no_utf8_are_shown_and_are_no_class_names(tmp_path):
    for name in ("cat", "dog"):
        for i in range(2):
            put(tmp_path / "c" / name / f"{i}\udce9.jpg", i)
    put(tmp_path / "c" / "\udce9.jpg")
    results = write_splits(class_plans(str(tmp_path / "c"), tmp_path / "out"))
    assert results[0][0]["examples"]["no_class"] == ["\ufffd.jpg"]
    assert open_split(tmp_path / "out" / "train").samples == 2
    put(tmp_path / "c" / "caf\udce9" / "0.jpg")
    with pytest.raises(UserError, match="class folder caf\ufffd is no UTF-8"):
        class_plans(str(tmp_path / "c"), tmp_path / "out")


def test_options_that_a_source_has_no_use_for_are_refused(tmp_path):
    put(tmp_path / "c" / "train" / "a" / "0.jpg")
    put(tmp_path / "c" / "train" / "b" / "0.jpg")
    for source, options, said in (
        (str(tmp_path / "c"), {"test_share": 0.3}, "leave --test-share out"),
        ("cifar10", {"test_share": 0.3}, "leave --test-share out"),
        ("digits", {"download": True}, "--root and --download are for cifar10"),
    ):
        with pytest.raises(UserError, match=said):
            class_plans(source, tmp_path / "out", **options)


def tiff(values: np.ndarray, kind: str = "TIFF") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, kind)
    return buffer.getvalue()


RAMP = np.linspace(0, 1, 12).reshape(3, 4)


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (tiff(RAMP.astype(np.float32)), "float_pixels"),
        (tiff((RAMP * 255).astype(np.float32)), "float_pixels"),
        (tiff((RAMP * 1e6).astype(np.int32)), "integer_pixels"),
        (b"", "undecodable"),
    ],
)
def test_pixels_of_unknown_range_are_refused_and_counted_by_kind(tmp_path, data, kind):
    with pytest.raises(DamagedSample) as caught:
        decode_rgb(data)
    assert caught.value.kind == kind
    (tmp_path / "f.tif").write_bytes(data)
    outcome = pictures.picture_outcome(pictures.Picture(str(tmp_path / "f.tif"), "f"), None, 95)
    assert (outcome.sample, outcome.reasons, outcome.name) == (None, (kind,), "f.tif")


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
def test_sixteen_bit_grey_is_scaled_in_every_format_and_counted(tmp_path, kind):
    values = np.array([[0, 256, 32768, 65535]], dtype=np.uint16)
    path = tmp_path / f"x.{kind.lower()}"
    path.write_bytes(tiff(values, kind))
    outcome = pictures.picture_outcome(pictures.Picture(str(path), "x"), None, 95)
    assert "sixteen_bit" in outcome.reasons
    assert np.asarray(decode_rgb(outcome.sample.image))[0, :, 0].tolist() == [0, 1, 128, 255]


def test_pictures_that_are_too_large_are_left_out_by_name(tmp_path, monkeypatch):
    put(tmp_path / "x.jpg")
    picture = pictures.Picture(str(tmp_path / "x.jpg"), "x")
    monkeypatch.setattr(pictures, "MAX_BYTES", 100)
    assert pictures.picture_outcome(picture, None, 95).reasons == ("too_large",)
    monkeypatch.undo()
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 50)
    outcome = pictures.picture_outcome(picture, None, 95)
    assert (outcome.sample, outcome.reasons, outcome.name) == (None, ("too_large",), "x.jpg")


def test_a_film_gives_its_first_frame_and_is_counted(tmp_path):
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "x.gif", save_all=True, append_images=frames[1:])
    outcome = pictures.picture_outcome(pictures.Picture(str(tmp_path / "x.gif"), "x"), None, 95)
    assert "animated" in outcome.reasons and "recoded" in outcome.reasons
    assert np.asarray(decode_rgb(outcome.sample.image))[0, 0].tolist() == [255, 0, 0]


@pytest.mark.parametrize(
    "orientation, counted", [(None, False), (1, False), (3, True), (6, True), (9, False)]
)
def test_a_picture_that_exif_turns_is_kept_as_stored_and_counted(tmp_path, orientation, counted):
    exif = Image.Exif()
    if orientation is not None:
        exif[274] = orientation
    Image.new("RGB", (16, 8), "red").save(tmp_path / "x.jpg", exif=exif)
    outcome = pictures.picture_outcome(pictures.Picture(str(tmp_path / "x.jpg"), "x"), None, 95)
    assert ("turned" in outcome.reasons) == counted
    assert (outcome.sample.width, outcome.sample.height) == (16, 8)
    assert decode_rgb(outcome.sample.image).size == (16, 8)


def test_broken_exif_is_no_damage(tmp_path):
    Image.new("RGB", (16, 8), "red").save(tmp_path / "x.jpg", exif=b"Exif\x00\x00II*\x00\xff\xff\xff\xff")
    outcome = pictures.picture_outcome(pictures.Picture(str(tmp_path / "x.jpg"), "x"), None, 95)
    assert outcome.sample is not None and outcome.reasons == ()
