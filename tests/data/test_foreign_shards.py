"""Shards as img2dataset's and open_clip's users have them: any picture kind, captions in txt or json, anywhere."""

import io
import json
import tarfile

import pytest

from gaprun.data.check import check_split
from gaprun.data.foreign import index_folder
from gaprun.data.linked import expand, link_shards
from gaprun.data.split import open_split
from gaprun.errors import UserError
from tests.conftest import TINY, run_gaprun


@pytest.fixture
def write_shard(make_picture):
    """`write_shard(path, first, kind, words)`: four samples, numbered from `first`, with txt, json or both."""

    def write(path, first=0, kind="JPEG", words="txt"):
        path.parent.mkdir(parents=True, exist_ok=True)
        with tarfile.open(path, "w") as tar:
            for number in range(first, first + 4):
                members = {"jpg" if kind == "JPEG" else kind.lower(): make_picture(number, kind=kind)}
                if words != "json":
                    members["txt"] = f"caption {number}".encode()
                if words != "txt":
                    meta = {
                        "caption": f"caption {number}",
                        "url": "http://x",
                        "status": "success",
                        "width": 32,
                    }
                    members["json"] = json.dumps(meta).encode()
                for extension, data in members.items():
                    member = tarfile.TarInfo(f"{number:09}.{extension}")
                    member.size = len(data)
                    tar.addfile(member, io.BytesIO(data))
        return path

    return write


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("words", ["txt", "json", "both"])
def test_every_picture_kind_with_txt_or_json(write_shard, make_picture, tmp_path, kind, words):
    write_shard(tmp_path / "cc" / "train" / "00000.tar", 0, kind, words)
    index = index_folder(tmp_path / "cc" / "train")
    assert (index["samples"], index["captions"], index["report"]) == (4, 4, {})
    split = open_split(tmp_path / "cc" / "train")
    assert split.captions == [[f"caption {n}"] for n in range(4)]
    assert [split.read_image(i) for i in range(4)] == [make_picture(n, kind=kind) for n in range(4)]
    assert check_split(split.path).damage == []


def test_a_brace_pattern_and_several_folders_become_one_split_without_a_copy(write_shard, tmp_path):
    for number in range(5):
        write_shard(tmp_path / "a" / f"{number:05}.tar", 4 * number)
    write_shard(tmp_path / "b" / "00001.tar", 0, "WEBP", "json")  # the same file name and keys again
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.tar")}
    (tmp_path / "a").chmod(0o555)
    out = tmp_path / "data" / "cc" / "train"
    words = [str(tmp_path / "a" / "{00001..00003}.tar"), str(tmp_path / "b"), "--out", str(out), "--json"]
    done = run_gaprun("data", "index", *words)
    assert done.returncode == 0, done.stderr
    split = open_split(out)
    assert [captions[0] for captions in split.captions] == [
        f"caption {n}" for n in [*range(4, 16), *range(4)]
    ]
    assert len(set(split.keys)) == 16 and (split.dataset, split.split) == ("cc", "train")
    assert check_split(out).damage == []
    assert sum(path.stat(follow_symlinks=False).st_size for path in out.glob("*.tar")) < 1000, (
        "links, no copies"
    )
    assert {path: path.stat().st_mtime_ns for path in before} == before
    again = run_gaprun("data", "index", *words)
    assert again.returncode == 2 and "--force" in again.stderr
    fewer = run_gaprun("data", "index", words[0], *words[2:], "--force")
    assert fewer.returncode == 0 and open_split(out).samples == 12, fewer.stderr


def test_the_training_stream_reads_linked_shards(write_shard, tmp_path):
    write_shard(tmp_path / "a" / "0.tar")
    write_shard(tmp_path / "b" / "0.tar", 4, "PNG")
    link_shards([str(tmp_path / "a"), str(tmp_path / "b")], tmp_path / "cc" / "train")
    index_folder(tmp_path / "cc" / "train")
    words = [*TINY, "--set", f"data.train=[{tmp_path / 'cc' / 'train'}]", "--set", "schedule.batch_size=8"]
    words += ["--set", "eval=[]", "--seeds", "0"]
    (tmp_path / "tiny.yaml").write_text("name: tiny\n")
    done = run_gaprun("train", "tiny.yaml", *words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def test_patterns_mean_what_webdataset_means_by_them(write_shard, tmp_path):
    for number in (0, 1, 10):
        write_shard(tmp_path / f"s{number:02}.tar")
    names = lambda *patterns: [path.name for path in expand([str(tmp_path / p) for p in patterns])]  # noqa: E731
    assert names("s{00..01}.tar") == ["s00.tar", "s01.tar"] == names("s0?.tar")
    assert names("s{10,00}.tar") == ["s10.tar", "s00.tar"] and names("*.tar") == names(".")
    for patterns, said in (
        (["s{00..02}.tar"], "s02.tar: no .tar shard is there"),
        (["s00.tar", "s{00..01}.tar"], "s00.tar is named twice"),
        (["x*.tar"], "no .tar shard is there"),
        (["s{00.tar"], "Unbalanced"),
    ):
        with pytest.raises(UserError, match=said):
            names(*patterns)
    (tmp_path / "s.tar.gz").touch()
    with pytest.raises(UserError, match="unpacked to .tar first"):
        names("s.tar.gz")


def test_a_folder_with_other_files_is_left_alone(write_shard, tmp_path):
    write_shard(tmp_path / "a" / "0.tar")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").touch()
    with pytest.raises(UserError, match="no links to shards .notes.txt.: choose another --out"):
        link_shards([str(tmp_path / "a")], tmp_path / "mine")
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["notes.txt"]
    done = run_gaprun("data", "index", str(tmp_path / "a" / "0.tar"))
    assert done.returncode == 2 and "say with --out" in done.stderr
