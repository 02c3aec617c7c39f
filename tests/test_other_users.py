"""A folder of runs that several people share: what one of them may not write or read stops nobody else's work."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from gaprun.arrays import RefusedArrays, new_arrays, read_arrays
from gaprun.data.cache import DecodedCache
from gaprun.data.identity import content_hashes, file_state
from gaprun.data.split import open_split
from gaprun.errors import Failure, UserError
from gaprun.evaluation.embed import StoredEmbedder
from gaprun.evaluation.run import keep_details
from gaprun.evaluation.task import Measured
from gaprun.files import file_sha256, refusal
from gaprun.jobs.attempt import claim
from gaprun.model.saved import newest_checkpoint
from gaprun.store import EvaluationKey, NewRun, Store, open_store
from gaprun.store.folders import own
from gaprun.store.removal import remove_run
from gaprun.training.captions import caption_tokens
from tests.protocols import named

Unprivileged = Callable[[Callable[[], Any]], Any]


class Pictures:
    """As much of a split as an embedder's folder is asked for."""

    dataset, split, fingerprint = "scenes", "test", "f"


class Counting(StoredEmbedder):
    """Encodes nothing, and counts how often it was asked to."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.remarks, self._memory, self.times = folder, [], {}, 0

    def _key(self, split: Any) -> str:
        return "key"

    def _encode(self, split: Any) -> Any:
        from gaprun.evaluation.embeddings import Embeddings

        self.times += 1
        rows = np.eye(3, dtype=np.float32)
        return Embeddings(images=rows, texts=rows, owner=np.arange(3))


def test_embeddings_that_may_not_be_kept_are_used_all_the_same(
    read_only_folder: Path, unprivileged: Unprivileged
) -> None:
    read_only_folder.chmod(0o555)
    embedder = Counting(read_only_folder)
    found = unprivileged(lambda: embedder.embeddings(Pictures()))
    assert len(found.images) == 3 and embedder.times == 1
    assert "could not be written (Permission denied); ask its owner for the right" in embedder.remarks[0]
    assert list(read_only_folder.iterdir()) == []


def test_what_another_user_keeps_from_being_read_is_not_called_damaged(
    read_only_folder: Path, unprivileged: Unprivileged
) -> None:
    first = Counting(read_only_folder)
    first.embeddings(Pictures())
    kept = read_only_folder / "key"
    kept.chmod(0o000)
    second = Counting(read_only_folder)
    assert len(unprivileged(lambda: second.embeddings(Pictures())).images) == 3 and second.times == 1
    assert "cannot be read (Permission denied): ask its owner" in second.remarks[0]
    with pytest.raises(RefusedArrays, match="cannot be read"):
        unprivileged(lambda: read_arrays(kept, ["images"]))
    kept.chmod(0o755)
    third = Counting(read_only_folder)
    assert len(third.embeddings(Pictures()).images) == 3 and (third.times, third.remarks) == (0, [])


def test_captions_are_tokenised_where_nothing_can_be_kept(
    read_only_folder: Path, unprivileged: Unprivileged
) -> None:
    import open_clip

    tokenizer = open_clip.get_tokenizer("ViT-B-32")
    read_only_folder.chmod(0o555)

    def work() -> Any:
        return caption_tokens(["a cat"], tokenizer, 8, read_only_folder, lambda done, total: None)

    assert unprivileged(work)[0].tolist() == tokenizer(["a cat"], 8)[0].tolist()


def test_the_way_out_is_not_free_space(read_only_folder: Path, unprivileged: Unprivileged) -> None:
    read_only_folder.chmod(0o555)
    key = EvaluationKey("c0", 1, "gap", "scenes", "test", "f", named("full"))
    measured = Measured({}, 1, 1, {"rank": np.arange(3)})

    def features() -> None:
        with new_arrays(read_only_folder / "x", "features"):
            pass

    for write in (features, lambda: keep_details(read_only_folder / "details", key, measured)):
        with pytest.raises(
            Failure, match="Permission denied[)]?[;:] ask its owner for the right to write there"
        ):
            unprivileged(write)
    with pytest.raises(
        UserError, match="Permission denied.: set data.cache to memory or none, or ask its owner"
    ):
        unprivileged(lambda: DecodedCache(np.array([[4, 4]]), read_only_folder / "x.u8"))


def test_nothing_is_measured_that_could_not_be_stored(tmp_path: Path) -> None:
    open_store(str(tmp_path / "results.db")).close()
    store = open_store(str(tmp_path / "results.db"), create=False, write=False)
    job: Any = SimpleNamespace(id="a-s0")
    for begin in (store.check_may_store, lambda: claim(job, store, job, {}, "", print, ExitStack())):
        with pytest.raises(UserError, match="read-only: copy it"):
            begin()
    assert not store.artifacts.exists(), "no folder is made for a run that cannot begin"


@pytest.mark.parametrize(("umask", "mode"), [(0o002, 0o664), (0o022, 0o644), (0o077, 0o600)])
def test_a_new_database_has_the_rights_that_the_umask_says(tmp_path: Path, umask: int, mode: int) -> None:
    """SQLite alone made one that no group could write."""
    before = os.umask(umask)
    try:
        store = open_store(str(tmp_path / "results.db"))
        store.begin_run(NewRun("a-s0", "a", "train", 0, "h", {"name": "a"}, {}, "0.1.0", "runs/a-s0", 1))
    finally:
        os.umask(before)
    assert {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {
        f"results.db{ending}": mode for ending in ("", "-wal", "-shm")
    }


def begun(folder: Path) -> tuple[Store, Path]:
    """A store in `folder` with a finished run, and the run's folder."""
    store = open_store(str(folder / "results.db"))
    run = NewRun("a-s0", "a", "train", 0, "h", {"name": "a"}, {}, "0.1.0", "runs/a-s0", 1)
    store.begin_run(run)
    store.finish_run("a-s0", "finished")
    place = own(store, "a-s0", {"seed": 0})
    (place / "checkpoints").mkdir()
    return store, place


def test_a_run_whose_files_another_user_owns_is_removed_with_them_or_not_at_all(
    read_only_folder: Path, unprivileged: Unprivileged
) -> None:
    store, place = begun(read_only_folder)
    (place / "checkpoints").chmod(0o555)
    with pytest.raises(UserError, match="no right to write in .*; nothing was removed: .*--keep-files"):
        unprivileged(lambda: remove_run(store, store.run("a-s0")))
    assert store.run("a-s0").status == "finished" and (place / "run.json").exists()
    assert remove_run(store, store.run("a-s0"), keep_files=True) == "removed a-s0" and place.exists()


def test_a_run_that_a_process_is_at_is_not_removed_though_it_looks_dead(tmp_path: Path) -> None:
    store, place = begun(tmp_path)
    code = (
        "import sys, time; from pathlib import Path; from gaprun.store.lock import locked\n"
        f"with locked(Path({str(place)!r}), 'a-s0'): print('held', flush=True); time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        assert process.stdout.readline().strip() == "held"
        with pytest.raises(UserError, match="already running: another process holds"):
            remove_run(store, store.run("a-s0"))
        assert store.run("a-s0").status == "finished" and (place / "checkpoints").is_dir()
    finally:
        process.kill()
        process.wait()
    assert remove_run(store, store.run("a-s0")).endswith(f"and {place}") and not place.exists()


def test_a_user_without_a_home_works_and_a_home_that_is_unknown_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one whom a container gave a number that it knows no name of."""

    def unknown(self: Path) -> Path:
        if str(self).startswith("~"):
            raise RuntimeError("Could not determine home directory.")
        return self

    monkeypatch.setattr(Path, "expanduser", unknown)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    (tmp_path / "samples.jsonl").write_text("{}")
    states = {"samples.jsonl": file_state(tmp_path / "samples.jsonl")}
    assert content_hashes(tmp_path, states) == {"samples.jsonl": file_sha256(tmp_path / "samples.jsonl")}
    with pytest.raises(
        UserError, match="^~/results.db: no such home folder is known here: write the whole path$"
    ):
        open_store("~/results.db")


def test_a_checkpoint_that_may_not_be_read_is_not_called_damaged(
    read_only_folder: Path, unprivileged: Unprivileged
) -> None:
    path = read_only_folder / "step-00000001.pt"
    path.write_bytes(b"weights")
    note = path.with_suffix(".json")
    note.write_text(json.dumps({"sha256": file_sha256(path)}))
    for private in (path, note):
        private.chmod(0o600)
        with pytest.raises(
            UserError, match=f"^{private}: Permission denied: ask its owner for the right to it$"
        ):
            unprivileged(lambda: newest_checkpoint(read_only_folder))
        private.chmod(0o644)
    assert unprivileged(lambda: newest_checkpoint(read_only_folder)) == (path, [])


@pytest.mark.parametrize("private", ["index.json", "samples.jsonl", "00000.tar", "."])
def test_data_that_may_not_be_read_are_one_line_and_not_to_be_written_again(
    scenes: Path, read_only_folder: Path, unprivileged: Unprivileged, private: str
) -> None:
    folder = read_only_folder / "scenes" / "test"
    shutil.copytree(scenes / "scenes" / "test", folder)
    for path in (folder.parent, *folder.parent.rglob("*")):
        path.chmod(0o755)
    (folder / ".checked.json").unlink(missing_ok=True)
    (folder / private).chmod(0o000)
    with pytest.raises((UserError, PermissionError)) as caught:
        unprivileged(lambda: open_split(folder).captions)
    said = refusal(caught.value) or str(caught.value)
    assert (
        said.endswith("Permission denied: ask its owner for the right to it")
        and str(folder / private) in said
    )


def test_what_may_not_be_read_is_one_line_wherever_it_turns_up() -> None:
    code = (
        "import gaprun.cli.main as main\n"
        "def refused(): raise PermissionError(13, 'Permission denied', '/home/a/x')\n"
        "main.application = lambda words: refused\n"
        "main.main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    said = "error: /home/a/x: Permission denied: ask its owner for the right to it\n"
    assert (done.returncode, done.stderr) == (2, said)
