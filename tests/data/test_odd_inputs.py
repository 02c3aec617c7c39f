"""A folder of odd inputs, each as somebody has it, with what must come of it: pictures, captions, and every count."""

from __future__ import annotations

import io
import json
import unicodedata
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.conftest import run_gaprun
from tests.data.conftest import picture_bytes
from tests.data.test_shard_reading import write_tar


def saved(values: np.ndarray, kind: str) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, kind)
    return buffer.getvalue()


PICTURES = {
    "plain.jpg": picture_bytes(1, kind="JPEG"),
    "grey.jpg": picture_bytes(2, mode="L", kind="JPEG"),
    "cmyk.jpg": picture_bytes(3, mode="CMYK", kind="JPEG"),
    "glass.png": picture_bytes(4, mode="RGBA"),
    "one-bit.png": picture_bytes(5, mode="1"),
    "deep.png": saved(np.full((4, 4), 40_000, np.uint16), "PNG"),
    "float.tif": saved(np.linspace(0, 1, 16, dtype=np.float32).reshape(4, 4), "TIFF"),
    "whole.tif": saved(np.full((4, 4), 70_000, np.int32), "TIFF"),
    "broken.jpg": b"this is no picture",
    "empty.jpg": b"",
    unicodedata.normalize("NFD", "café.jpg"): picture_bytes(6, kind="JPEG"),
    "._plain.jpg": b"left by a Mac",
    "__MACOSX/plain.jpg": picture_bytes(7, kind="JPEG"),
    "Thumbs.db": b"left by Windows",
    "readme.txt": b"words",
}
NAMES = [
    unicodedata.normalize("NFC", name) for name in PICTURES if Path(name).suffix in (".jpg", ".png", ".tif")
]
NAMES = [name for name in NAMES if not name.startswith(("_", "."))]


def put_pictures(folder: Path) -> None:
    for name, data in PICTURES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)


def table(folder: Path) -> list[str]:
    put_pictures(folder / "p")
    rows = ["image,caption", *(f"{name},picture of {name}" for name in NAMES)]
    rows += [
        "plain.jpg,A dog, two cats",
        "plain.jpg,picture of plain.jpg",
        "plain.jpg,",
        "gone.jpg,nobody",
        "grey.jpg",
    ]
    (folder / "c.csv").write_bytes("\r\n".join(rows).encode("utf-16"))
    return ["captions", "--images", str(folder / "p"), "--captions", str(folder / "c.csv")]


PICTURE_COUNTS = {
    "alpha": 1,
    "cmyk": 1,
    "float_pixels": 1,
    "greyscale": 3,
    "hidden": 3,
    "integer_pixels": 1,
    "no_picture": 1,
    "sixteen_bit": 1,
    "undecodable": 2,
}


def classes(folder: Path) -> list[str]:
    put_pictures(folder / "c" / "training" / "cat")
    put_pictures(folder / "c" / "training" / "dog")
    (folder / "c" / "training" / ".ipynb_checkpoints").mkdir()
    (folder / "c" / "training" / "loose.jpg").write_bytes(picture_bytes(1, kind="JPEG"))
    (folder / "c" / "@eaDir").mkdir()
    return ["classes", str(folder / "c")]


def shards(folder: Path) -> list[str]:
    jpg = picture_bytes(1, kind="JPEG")
    members = [
        ("a.jpg", jpg), ("a.txt", b"\xef\xbb\xbfone\r\ntwo\r\n"),
        ("b.jpg", jpg), ("b.txt", b"first"), ("b.jpg", jpg), ("b.txt", b"second"),
        ("c.0.jpg", jpg), ("c.1.jpg", jpg), ("d.e.jpg", jpg), ("d.e.txt", b"dotted"),
        ("f.jpg", jpg), ("f.json", b'{"caption": "json"}'), ("f.txt", b"text"),
        ("g.jpg", jpg), ("g.json", b"{"), ("g.txt", b"caf\xe9"),
        ("h.tif", PICTURES["float.tif"]), ("i.jpg", b"broken"), ("j.png", PICTURES["deep.png"]),
        ("j.webp", picture_bytes(9, kind="WEBP")), ("README", b"no key"), ("a.jpg", jpg), ("a.txt", b"three"),
        ("k.jpg", jpg), ("k.cls", b"cat"), ("l.jpg", jpg), ("l.cls", b"4"),
    ]  # fmt: skip
    write_tar(folder / "s" / "0.tar", members)
    write_tar(folder / "s" / "1.tar", [("a.jpg", jpg), ("a.txt", b"four")])
    (folder / "s" / "1.tar").write_bytes((folder / "s" / "1.tar").read_bytes()[:3000])
    return ["index", str(folder / "s")]


def coco(folder: Path) -> list[str]:
    put_pictures(folder / "p")
    images = [{"id": n, "file_name": name} for n, name in enumerate(("plain.jpg", "café.jpg", "gone.jpg"))]
    texts = [(0, " two  spaces "), (0, "a\0b"), (0, "\ud800"), (0, ""), (1, "x"), (1, "x"), (2, "y")]
    notes = [{"id": n, "image_id": owner, "caption": text} for n, (owner, text) in enumerate(texts)]
    (folder / "captions_restrain.json").write_bytes(
        b"\xef\xbb\xbf" + json.dumps({"images": images, "annotations": notes}).encode()
    )
    return ["coco", "--images", str(folder / "p"), "--captions", str(folder / "captions_restrain.json")]


ODD: dict[str, tuple[Callable[[Path], list[str]], int, int, dict[str, int]]] = {
    "a table": (
        table, 7, 9, PICTURE_COUNTS | {
            "caption_without_image": 1, "empty_caption": 1, "repeated_caption": 1, "short_row": 1,
            "unquoted_delimiter": 1,
        },
    ),
    "class folders": (
        classes, 14, 0, {name: 2 * count for name, count in PICTURE_COUNTS.items()} | {"no_class": 1, "hidden": 7},
    ),
    "shards": (
        shards, 10, 7, {
            "caption_from_txt": 1, "caption_without_image": 1, "dotted_name": 2, "duplicate_member": 2,
            "further_picture": 1, "label_without_name": 1, "no_caption": 3, "repeated_key": 2, "sixteen_bit": 1,
            "stray_member": 1, "truncated_shard": 1, "undecodable": 1, "undecodable_caption": 1, "undecodable_json": 1,
            "unreadable_label": 1,
        },
    ),
    "COCO's captions": (
        coco, 2, 3, {
            "caption_whitespace": 1, "caption_without_image": 1, "empty_caption": 1, "hidden": 3, "no_caption": 9,
            "no_picture": 1, "repeated_caption": 1, "undecodable_caption": 2,
        },
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ODD)
def test_odd_inputs_give_what_they_mean_and_everything_else_is_counted(tmp_path, name):
    make, pictures, captions, report = ODD[name]
    words = make(tmp_path)
    place = [] if words[0] == "index" else ["--out", str(tmp_path / "out")]
    done = run_gaprun("data", *words, *place, "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    [made] = json.loads(done.stdout)
    assert made["report"] == report
    assert (made["samples"], made["captions"], made["split"]) == (
        pictures,
        captions,
        Path(made["folder"]).name,
    )
    assert all(made["examples"][reason] for reason in report), "every count has a name"
    checked = run_gaprun("data", "check", made["folder"], "--json", cwd=tmp_path)
    damage = [(one["shard"], one["problem"][:10]) for one in json.loads(checked.stdout)[0]["damage"]]
    assert damage == ([("1.tar", "broken tar")] if name == "shards" else [])
