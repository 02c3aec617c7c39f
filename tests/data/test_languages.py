"""Captions in several languages are never mixed unsaid: tables, COCO's and Karpathy's JSON, shards of others."""

from __future__ import annotations

import io
import json
import tarfile
from collections import Counter

import pytest

from gaprun.data.foreign import index_folder
from gaprun.data.languages import languages_to_keep
from gaprun.data.readers.captions import Captions
from gaprun.data.readers.coco import Coco
from gaprun.data.split import open_split
from gaprun.data.words import sample_words
from gaprun.data.write import write_splits
from gaprun.errors import UserError
from tests.conftest import run_gaprun

ENGLISH, GERMAN = [["a dog 0"], ["a dog 1"]], [["ein Hund 0"], ["ein Hund 1"]]
BOTH = [["a dog 0", "ein Hund 0"], ["a dog 1", "ein Hund 1"]]


def table(column):
    rows = "".join(f"{n}.jpg,en,a dog {n}\n{n}.jpg,DE ,ein Hund {n}\n" for n in range(2))
    return "captions.csv", f"image,{column},caption\n{rows}"


def coco(key):
    notes = [
        {"id": 2 * n + k, "image_id": n, "caption": f"{text} {n}", key: language}
        for n in range(2)
        for k, (text, language) in enumerate((("a dog", "en"), ("ein Hund", "de")))
    ]
    images = [{"id": n, "file_name": f"{n}.jpg"} for n in range(2)]
    return "captions.json", json.dumps({"images": images, "annotations": notes})


SETS = [table("lang"), table("Language"), coco("language"), coco("lang")]


@pytest.fixture
def pictures(tmp_path, make_picture):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(2):
        (folder / f"{number}.jpg").write_bytes(make_picture(number, kind="JPEG"))
    return folder


@pytest.mark.parametrize(("name", "content"), SETS)
def test_several_languages_are_refused_or_chosen(tmp_path, pictures, name, content):
    (tmp_path / name).write_text(content)

    def captions(*language):
        reader = Captions(
            images=[pictures], captions=tmp_path / name, out=tmp_path / "x", language=list(language)
        )
        plans = reader.plans()
        write_splits(plans, force=True)
        return open_split(tmp_path / "x" / "train").captions, plans[0].report

    with pytest.raises(UserError, match=r"captions in 2 languages \(de 2, en 2\): .*--language") as caught:
        captions()
    assert name in str(caught.value) and "\n" not in str(caught.value)
    assert captions("en") == (ENGLISH, {"other_language": 2})
    assert captions("De") == (GERMAN, {"other_language": 2})
    assert captions("en", "de") == captions("all") == (BOTH, {})
    with pytest.raises(UserError, match=r"--language fr: .* \(it has: de 2, en 2\)"):
        captions("en", "fr")


def test_sentences_of_karpathy_s_file_say_their_language_too(tmp_path, pictures):
    sentences = [{"raw": "a dog", "lang": "en"}, {"raw": "ein Hund", "lang": "de"}]
    image = {"filename": "0.jpg", "split": "test", "cocoid": 7, "sentences": sentences}
    path = tmp_path / "dataset.json"
    path.write_text(json.dumps({"images": [image]}))
    with pytest.raises(UserError, match=r"2 languages \(de 1, en 1\)"):
        Coco(images=[pictures], karpathy=path, out=tmp_path / "x").plans()
    (plan,) = Coco(images=[pictures], karpathy=path, out=tmp_path / "x", language=["de"]).plans()
    assert [picture.captions for picture in plan.items] == [("ein Hund",)]


def test_the_official_captions_that_replace_karpathy_s_bring_their_languages(tmp_path, pictures):
    sentences = [{"raw": "one"}, {"raw": "two"}, {"raw": "three"}]
    image = {"filename": "0.jpg", "split": "test", "cocoid": 0, "sentences": sentences}
    (tmp_path / "dataset.json").write_text(json.dumps({"images": [image]}))
    (tmp_path / "captions.json").write_text(coco("lang")[1])
    given = {"images": [pictures], "karpathy": tmp_path / "dataset.json", "out": tmp_path / "x"}
    (plan,) = Coco(**given, captions=[tmp_path / "captions.json"], language=["en"]).plans()
    assert [picture.captions for picture in plan.items] == [("a dog 0",)]


def test_an_option_that_chooses_nothing_is_refused_and_silence_is_no_language(tmp_path, pictures):
    path = tmp_path / "t.csv"
    given = {"images": [pictures], "captions": path, "out": tmp_path / "x"}
    path.write_text("image,caption\n0.jpg,x\n")
    with pytest.raises(UserError, match="--language en: .*t.csv has no lang or language beside its captions"):
        Captions(**given, language=["en"]).plans()
    path.write_text("image,lang,caption\n0.jpg,en,x\n1.jpg,,y\n")
    assert [picture.captions for picture in Captions(**given).plans()[0].items] == [("x",), ("y",)]
    (plan,) = Captions(**given, language=["en"]).plans()
    assert [picture.captions for picture in plan.items] == [("x",)]
    path.write_text("image,lang\n0.jpg,a lang\n1.jpg,another\n")  # the captions themselves
    (plan,) = Captions(**given, caption_column="lang").plans()
    assert [picture.captions for picture in plan.items] == [("a lang",), ("another",)]


def test_many_languages_are_named_from_the_most_frequent():
    counts = Counter({f"l{number:02}": number for number in range(1, 101)})
    with pytest.raises(
        UserError, match=r"^cc has captions in 100 languages \(l100 100, l99 99, .*93 and 92 more\)"
    ):
        languages_to_keep(counts, [], "cc")


def shard(folder, picture, metas):
    folder.mkdir()
    with tarfile.open(folder / "0.tar", "w") as tar:
        for number, meta in enumerate(metas):
            for name, data in (
                ("jpg", picture(number, kind="JPEG")),
                ("json", json.dumps(meta).encode()),
                *([("txt", meta["caption"].encode())] if "caption" in meta else []),
            ):
                member = tarfile.TarInfo(f"{number}.{name}")
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
    return folder


def test_shards_that_say_a_sample_s_language(tmp_path, make_picture):
    metas = [{"caption": f"{n}", "LANGUAGE": "de" if n % 3 else "en"} for n in range(4)]
    folder = shard(tmp_path / "laion", make_picture, [*metas, {"label": 3, "LANGUAGE": "de"}])
    result = run_gaprun("data", "index", folder)
    assert result.returncode == 2 and result.stderr.count("\n") == 1
    assert "laion has captions in 2 languages (de 2, en 2): " in result.stderr
    result = run_gaprun("data", "index", folder, "--language", "de")
    assert result.returncode == 0, result.stderr
    split = open_split(folder)
    assert (split.captions, split.keys, split.labels.tolist()) == (
        [["1"], ["2"], []],
        ["1", "2", "4"],
        [-1, -1, 3],
    )
    index = json.loads((folder / "index.json").read_text())
    assert index["report"]["other_language"] == 2 and index["source"]["languages"] == ["de"]
    assert index["shards"][0]["samples"] == 3 and not (folder / ".indexing").exists()


def test_shards_whose_entries_say_their_language(tmp_path, make_picture):
    entries = [{"caption": "a dog", "lang": "en"}, {"caption": "ein Hund", "lang": "de"}, "?"]
    folder = shard(tmp_path / "x", make_picture, [{"captions": entries}] * 2)
    with pytest.raises(UserError, match=r"2 languages \(de 2, en 2\)"):
        index_folder(folder)
    assert index_folder(folder, languages=["en"])["report"]["other_language"] == 4
    assert open_split(folder).captions == [["a dog"]] * 2
    index_folder(folder, force=True, languages=["all"])
    assert open_split(folder).captions == [["a dog", "ein Hund", "?"]] * 2


@pytest.mark.parametrize(
    ("meta", "captions", "counted"),
    [
        ({"caption": "a dog", "caption_de": "ein Hund"}, ["a dog"], 1),
        ({"captions": ["a dog"], "TEXT": "another", "alt_text": "third"}, ["a dog"], 1),
        ({"caption": "a dog", "TEXT": " a  dog", "text": "", "caption_id": "7"}, ["a dog"], 0),
        ({"captions": ["a dog", "two"], "sentences": [{"raw": "two"}], "title": None}, ["a dog", "two"], 0),
    ],
)
def test_a_second_text_in_json_is_counted_where_it_says_something_else(meta, captions, counted):
    words = sample_words({"json": json.dumps(meta).encode()})
    assert (words.captions, words.reasons) == (captions, ["other_caption"] * counted)
