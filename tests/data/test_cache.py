"""The decoded cache: the same bytes from every kind, damage decoded again, all that decides them in its name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from gaprun.data.cache import DecodedCache
from gaprun.data.pool import Pool
from gaprun.data.split import open_split
from gaprun.errors import UserError


def bytes_of(pool: Pool) -> list[bytes]:
    return [pool.picture(i).tobytes() for i in range(len(pool))]


def test_memory_disk_and_no_cache_give_the_same_bytes(scenes: Path, tmp_path: Path) -> None:
    split = open_split("scenes/train", scenes)
    for side in (32, 8):  # whole, and kept smaller
        plain = bytes_of(Pool([split], side))
        assert len(set(map(len, plain))) == 1 and (len(plain[0]) < 3 * 32 * 32) == (side == 8)
        for folder in (None, tmp_path):
            pool = Pool([split], side)
            pool.use_cache(folder)
            assert bytes_of(pool) == plain and bytes_of(pool) == plain
            assert pool.cache is not None and pool.cache.sound.all()


def filled(scenes: Path, folder: Path) -> tuple[Pool, list[bytes], Path]:
    pool = Pool([open_split("scenes/train", scenes)], 32)
    pool.use_cache(folder)
    kept = bytes_of(pool)
    (path,) = folder.iterdir()
    return pool, kept, path


def reopened(scenes: Path, folder: Path, monkeypatch) -> tuple[Pool, list[int]]:
    """The pool with the file found again, and the list of pictures that it decodes from now on."""
    pool = Pool([open_split("scenes/train", scenes)], 32)
    pool.use_cache(folder)
    decoded: list[int] = []
    original = Pool._decoded
    monkeypatch.setattr(Pool, "_decoded", lambda self, i: decoded.append(i) or original(self, i))
    return pool, decoded


def test_a_file_is_found_again_and_nothing_is_decoded(scenes: Path, tmp_path: Path, monkeypatch) -> None:
    _, kept, _ = filled(scenes, tmp_path)
    pool, decoded = reopened(scenes, tmp_path, monkeypatch)
    assert bytes_of(pool) == kept and not decoded and len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("damage", ["flip", "zeros", "checksums", "cut"])
def test_damage_in_the_file_is_decoded_again(damage: str, scenes: Path, tmp_path: Path, monkeypatch) -> None:
    _, kept, path = filled(scenes, tmp_path)
    content = bytearray(path.read_bytes())
    pictures = 4 * len(kept)
    if damage == "flip":
        content[pictures + 3 * 32 * 32 * 7 + 100] ^= 1
    elif damage == "zeros":
        content[pictures + 3 * 32 * 32 * 7 : pictures + 3 * 32 * 32 * 8] = bytes(3 * 32 * 32)
    elif damage == "checksums":
        content[4 * 7 : 4 * 8] = bytes(4)
    else:
        content = content[:-1]
    path.write_bytes(content)
    pool, decoded = reopened(scenes, tmp_path, monkeypatch)
    assert bytes_of(pool) == kept
    assert decoded == ([7] if damage != "cut" else list(range(len(kept))))
    decoded.clear()
    assert bytes_of(reopened(scenes, tmp_path, monkeypatch)[0]) == kept and not decoded  # and mended


def test_whatever_changes_the_pixels_changes_the_files_name(
    scenes: Path, tmp_path: Path, monkeypatch
) -> None:
    train, test = open_split("scenes/train", scenes), open_split("scenes/test", scenes)

    def name(splits, *settings: object) -> str:
        pool = Pool(splits, *settings)  # type: ignore[arg-type]
        pool.use_cache(tmp_path / "c")
        assert pool.cache is not None
        (path,) = (tmp_path / "c").iterdir()
        path.unlink()
        return path.name

    monkeypatch.setattr("gaprun.data.pool.version", lambda package: "1")
    names = [
        name([train], 8),
        name([test], 8),
        name([train, test], 8),
        name([test, train], 8),
        name([train], 14),
        name([train], 8, (0.5, 1.0)),
        name([train], 8, (0.9, 1.0), 1.5),
    ]
    monkeypatch.setattr("gaprun.data.pool.version", lambda package: "2")
    names.append(name([train], 8))
    assert len(set(names)) == len(names) and name([train], 8) == names[-1]


def test_a_cache_that_does_not_fit_is_refused_before_it_starts(monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setattr("gaprun.data.cache.free_memory", lambda: 2**20)
    with pytest.raises(UserError, match="do not fit into the 0.0 GiB that are free; set data.cache to disk"):
        DecodedCache(np.full((1000, 2), 32), None)
    with pytest.raises(UserError, match="set data.cache to none"):
        DecodedCache(np.array([[10**6, 10**8]]), tmp_path / "new" / "c.u8")
    assert not (tmp_path / "new").exists()
