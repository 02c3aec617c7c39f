"""Files are replaced whole or not at all, and only where they are gaprun's own."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from gaprun.arrays import new_arrays, read_arrays
from gaprun.errors import Failure, UserError
from gaprun.files import (
    MANIFEST,
    PAGE_MARK,
    check_owned,
    check_page,
    content_hash,
    is_page,
    plain_name,
    replace_archive,
    replace_file,
    replace_folder,
    replace_page,
    write_atomically,
)


def test_a_failed_write_leaves_the_old_file_and_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "page"
    path.write_text("good")

    def breaks(target: Path) -> None:
        target.write_text("half")
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError):
        write_atomically(path, breaks)
    assert [p.name for p in tmp_path.iterdir()] == ["page"] and path.read_text() == "good"


def test_processes_of_one_number_write_beside_each_other(tmp_path: Path) -> None:
    """In containers on a shared disk, where each process may be number 1."""
    path = tmp_path / "index"

    def first(target: Path) -> None:
        target.write_text("first")
        write_atomically(
            path, lambda other: other.write_text("second")
        )  # as another machine's, in the midst of it
        assert path.read_text() == "second" and target.read_text() == "first"

    write_atomically(path, first)
    assert path.read_text() == "first" and [p.name for p in tmp_path.iterdir()] == ["index"]
    folder = tmp_path / "rows"
    with new_arrays(folder, "rows") as one:
        np.save(one / "a.npy", np.arange(3))
        with new_arrays(folder, "rows") as other:
            np.save(other / "a.npy", np.arange(3))
        assert (one / "a.npy").exists()
    assert read_arrays(folder, ["a"])["a"].tolist() == [0, 1, 2]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["index", "rows"]


def test_a_file_is_replaced_only_where_it_bears_the_mark(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    replace_file(path, lambda target: target.write_text("<!-- ours --> 1"), b"<!-- ours -->")
    replace_file(path, lambda target: target.write_text("<!-- ours --> 2"), b"<!-- ours -->")
    assert path.read_text().endswith("2")
    path.write_text("a thesis")
    with pytest.raises(UserError, match="report.html was not written"):
        replace_file(path, lambda target: target.write_text("<!-- ours -->"), b"<!-- ours -->")
    assert path.read_text() == "a thesis"


def test_a_folder_is_replaced_only_while_it_holds_nothing_but_ours(tmp_path: Path) -> None:
    folder = tmp_path / "export"
    replace_folder(folder, lambda made: (made / "a.csv").write_text("1"), force=False)
    assert {p.name for p in folder.iterdir()} == {"a.csv", MANIFEST}
    with pytest.raises(UserError, match="exists"):
        replace_folder(folder, lambda made: (made / "a.csv").write_text("2"), force=False)
    replace_folder(folder, lambda made: (made / "b.csv").write_text("2"), force=True)
    assert {p.name for p in folder.iterdir()} == {"b.csv", MANIFEST}
    (folder / "thesis.tex").write_text("years")
    with pytest.raises(UserError, match="thesis.tex"):
        replace_folder(folder, lambda made: (made / "b.csv").write_text("3"), force=True)
    assert (folder / "b.csv").read_text() == "2" and (folder / "thesis.tex").exists()


def test_a_folder_that_could_not_be_made_leaves_the_old_one(tmp_path: Path) -> None:
    folder = tmp_path / "export"
    replace_folder(folder, lambda made: (made / "a.csv").write_text("1"), force=False)

    def breaks(made: Path) -> None:
        (made / "a.csv").write_text("half")
        raise OSError(28, "No space left on device")

    with pytest.raises(Failure, match="kept"):
        replace_folder(folder, breaks, force=True)
    assert (folder / "a.csv").read_text() == "1"
    assert [p.name for p in tmp_path.iterdir()] == ["export"]


@pytest.mark.parametrize(
    "name", ["../x", "/etc", "a/b", "", ".", "..", "a\0b", "a\nb", "-rf", "x" * 201, "ä b"]
)
def test_names_from_elsewhere_are_never_paths(name: str) -> None:
    with pytest.raises(UserError):
        plain_name(name, "run")


def test_ids_of_runs_are_plain_names() -> None:
    assert plain_name("flt-tau=0.04-s0-1a2b3c4d", "run") == "flt-tau=0.04-s0-1a2b3c4d"


def test_content_hash_goes_by_content_and_not_by_order() -> None:
    assert content_hash({"a": 1, "b": [1, 2]}) == content_hash({"b": [1, 2], "a": 1})
    assert content_hash({"a": 1}) != content_hash({"a": 1.5})


def test_an_empty_folder_is_nobodys(tmp_path: Path) -> None:
    check_owned(tmp_path)


def test_an_archive_is_replaced_only_while_it_is_the_one_that_was_written(tmp_path: Path) -> None:
    path = tmp_path / "out.zip"

    def make(text: str) -> Callable[[Path], object]:
        return lambda folder: (folder / "a.csv").write_text(text)

    replace_archive(path, make("1"), force=False)
    with pytest.raises(UserError, match="exists"):
        replace_archive(path, make("2"), force=False)
    replace_archive(path, make("2"), force=True)
    with zipfile.ZipFile(path, "a") as archive:
        assert archive.namelist() == [MANIFEST, "a.csv"] and archive.read("a.csv") == b"2"
        archive.writestr("thesis.tex", "years")
    before = path.read_bytes()
    with pytest.raises(UserError, match="was not written by this command"):
        replace_archive(path, make("3"), force=True)
    assert path.read_bytes() == before
    path.write_bytes(b"PK no zip")
    with pytest.raises(UserError, match="was not written by this command"):
        replace_archive(path, make("3"), force=True)
    assert [p.name for p in tmp_path.iterdir()] == ["out.zip"]


HEAD = '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
PAGES = {
    f"{HEAD}{PAGE_MARK}<title>x</title>": True,
    f"{HEAD}<meta name='viewport'><title>Modality gap report: results.db</title>": True,  # of an earlier version
    f"{HEAD}<title>The first steps</title><style> body {{ font: 16px/1.55 system-ui, sans-serif; max-width": True,
    f"{HEAD}<title>My thesis on the modality gap</title>": False,
    f"notes: {PAGE_MARK}": False,
    "": False,
}


@pytest.mark.parametrize(("text", "ours"), PAGES.items())
def test_pages_are_known_by_their_content(tmp_path: Path, text: str, ours: bool) -> None:
    path = tmp_path / "page.html"
    path.write_text(text)
    assert is_page(path) is ours
    if ours:
        replace_page(path, "new")
    else:
        with pytest.raises(UserError, match="page.html was not written"):
            replace_page(path, "new")
    assert path.read_text() == ("new" if ours else text)


def test_a_link_stays_a_link_and_what_it_names_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "site").mkdir()
    page, link = tmp_path / "site" / "page.html", tmp_path / "link.html"
    link.symlink_to(page)
    with pytest.raises(UserError, match="was not written"):
        replace_page(link, "dangling")
    page.write_text(f"{HEAD}{PAGE_MARK}")
    replace_page(link, "new")
    assert link.is_symlink() and page.read_text() == "new"
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(UserError, match="loop"):
        replace_page(tmp_path / "loop", "new")


def test_a_full_disk_keeps_the_good_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = tmp_path / "page.html"
    replace_page(page, f"{HEAD}{PAGE_MARK} good")

    def full(fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("gaprun.files.os.fsync", full)
    with pytest.raises(Failure, match="No space left on device; what was there is kept"):
        replace_page(page, f"{HEAD}{PAGE_MARK} new")
    assert page.read_text().endswith("good") and [p.name for p in tmp_path.iterdir()] == ["page.html"]


def test_a_page_that_names_a_file_of_no_utf8_is_written(tmp_path: Path) -> None:
    replace_page(tmp_path / "page.html", f"{PAGE_MARK} caf\udce9.db é")
    assert (tmp_path / "page.html").read_text(encoding="utf-8") == f"{PAGE_MARK} caf\\udce9.db é"


def test_a_page_is_not_written_under_another_kinds_name(tmp_path: Path) -> None:
    for name in ("report.html", "REPORT.HTM", "report", "report.v2"):
        assert check_page(tmp_path / name) == tmp_path / name
    with pytest.raises(UserError, match="report.pdf: a page is HTML: name it report.html"):
        check_page(tmp_path / "report.pdf")
