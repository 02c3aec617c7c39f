"""Retrieval ranks: a slow reference, CLIP_benchmark's own functions, ties, tiles, files on disk, pools."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from measure_reference import clouds, unit
from measure_reference import ranks as slow_ranks

from gaprun.errors import UserError
from gaprun.evaluation import retrieval
from gaprun.evaluation.embeddings import Embeddings
from gaprun.evaluation.retrieval import TIES, full_retrieval, pool_retrieval, ranks


def captioned(images=120, captions=5, d=16, seed=0, noise=1.0):
    """Images with `captions` noisy copies each as captions, and the owners."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((images, d))
    owner = np.repeat(np.arange(images), captions)
    y = x[owner] + noise * rng.standard_normal((len(owner), d))
    return unit(x), unit(y), owner


def grid(n, d, seed):
    """Rows of few small integers: their float32 scores are exact, so equal scores are equal bits
    everywhere."""
    return np.random.default_rng(seed).integers(-2, 3, (n, d)).astype(np.float32)


SIZES = {"images": st.integers(1, 40), "texts": st.integers(1, 90), "tile": st.integers(1, 500)}


@pytest.mark.parametrize("ties", TIES)
@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), **SIZES)
def test_against_the_slow_reference_with_ties_and_any_number_of_captions(ties, seed, images, texts, tile):
    rng = np.random.default_rng(seed)
    x, y = grid(images, 3, seed), grid(texts, 3, seed + 1)
    owner = rng.integers(0, images, texts)  # some images get no caption, in no order
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(retrieval, "_CPU_TILE", tile)
        found = ranks(x, y, owner, ties=ties)
    image_rank, text_rank = slow_ranks(x @ y.T, owner, ties)
    np.testing.assert_array_equal(found.image_rank, image_rank)
    np.testing.assert_array_equal(found.text_rank, text_rank)


@pytest.mark.parametrize("captions", [1, 5])
def test_equal_to_clip_benchmark(captions):
    """The peer's own functions on the same embeddings give the same six recalls."""
    import torch
    from clip_benchmark.metrics import zeroshot_retrieval as peer

    x, y, owner = captioned(300, captions, noise=1.5)
    scores = torch.from_numpy(y) @ torch.from_numpy(x).T
    positive = torch.zeros_like(scores, dtype=torch.bool)
    positive[torch.arange(len(y)), torch.from_numpy(owner)] = True
    found = ranks(x, y, owner).metrics()
    for k in (1, 5, 10):
        images = peer.batchify(peer.recall_at_k, scores, positive, 64, "cpu", k=k) > 0
        texts = peer.batchify(peer.recall_at_k, scores.T, positive.T, 64, "cpu", k=k) > 0
        assert found[f"image_recall@{k}"] == pytest.approx(100 * float(images.double().mean()), abs=1e-12)
        assert found[f"text_recall@{k}"] == pytest.approx(100 * float(texts.double().mean()), abs=1e-12)
    assert 5 < found["image_recall@1"] < 95


def test_collapsed_model_finds_nothing_everything_or_half_way():
    x, y = clouds("collapsed", n=300, d=64)
    owner = np.arange(300)
    worst = ranks(x, y, owner).metrics()
    assert worst["image_recall@10"] == worst["text_recall@10"] == 0
    assert ranks(x, y, owner, ties="optimistic").metrics()["image_recall@1"] == 100
    assert ranks(x, y, owner, ties="expected").metrics()["text_median_rank"] == 150.5


@pytest.mark.parametrize("d", [8, 60, 128, 512])
def test_duplicates_tie_in_whichever_tile_they_fall(d, monkeypatch):
    """1,001 copies of one pair: every rank is the last, also where tiles end raggedly."""
    x, y = clouds("collapsed", n=1001, d=d)
    monkeypatch.setattr(retrieval, "_CPU_TILE", 90_000)
    found = ranks(x, y, np.arange(1001))
    assert (found.image_rank == 1001).all() and (found.text_rank == 1001).all()


def test_own_other_captions_are_not_counted_against_the_best():
    x = unit(np.eye(3))
    y = unit([[1, 0, 0], [1, 0, 0], [0, 1, 0], [0.1, 0, 1]])
    found = ranks(x, y, np.array([0, 0, 1, 2]))
    np.testing.assert_array_equal(found.text_rank, [1, 1, 1])
    np.testing.assert_array_equal(found.image_rank, [1, 1, 1, 1])


def test_images_without_captions_are_candidates_but_no_queries():
    x = unit([[1, 0], [0.9, 0.1], [0, 1]])
    found = ranks(x, unit([[0.9, 0.1]]), np.array([0]))
    np.testing.assert_array_equal(found.image_rank, [2])
    np.testing.assert_array_equal(found.text_rank, [1, 0, 0])
    assert found.metrics() == {
        "image_recall@1": 0,
        "image_median_rank": 2,
    }  # one caption is found by definition


def test_what_every_order_would_give_is_left_out():
    """recall@k says nothing among k candidates or fewer; an image's own other captions are no candidates."""
    rng = np.random.default_rng(0)

    def names(captions):
        owner = np.repeat(np.arange(len(captions)), captions)
        x, y = (unit(rng.normal(size=(count, 4))) for count in (len(captions), len(owner)))
        found = ranks(x, y, owner).metrics()
        return [
            [int(name.rpartition("@")[2]) for name in found if name.startswith(f"{side}_recall")]
            for side in ("image", "text")
        ]

    assert names([1] * 11) == [[1, 5, 10], [1, 5, 10]]
    assert names([1] * 10) == [[1, 5], [1, 5]]
    assert names([5, 5]) == [[1], [1, 5]]  # the worst rank of a caption is 6
    assert names([6, 0]) == [[1], []]
    assert names([6, 4]) == [[1], [1, 5]]  # the image with 4 captions has 6 others
    with pytest.raises(UserError, match="two images or more"):
        names([3])
    collapsed = ranks(np.ones((10, 1)), np.ones((10, 1)), np.arange(10)).metrics()
    assert collapsed == {
        "image_recall@1": 0,
        "image_recall@5": 0,
        "image_median_rank": 10,
        "text_recall@1": 0,
        "text_recall@5": 0,
        "text_median_rank": 10,
    }  # where recall@10 would have been 100


@pytest.mark.parametrize("memory_mb", [1, 4, 64])
def test_memory_bound_and_order_of_captions_do_not_change_ranks(memory_mb):
    x, y, owner = captioned(700, 3, d=32)
    whole = ranks(x, y, owner)
    shuffled = np.random.default_rng(0).permutation(len(y))
    part = ranks(x, y[shuffled], owner[shuffled], memory_mb=memory_mb)
    np.testing.assert_array_equal(part.image_rank, whole.image_rank[shuffled])
    np.testing.assert_array_equal(part.text_rank, whole.text_rank)


@pytest.mark.parametrize("shape", ["even", "heaped", "one image has most", "few captions"])
def test_tiles_cover_everything_and_stay_near_the_budget(shape):
    rng = np.random.default_rng(0)
    owner = {
        "even": np.repeat(np.arange(1000), 5),
        "heaped": np.sort(rng.integers(0, 50, 5000)),
        "one image has most": np.concatenate([np.full(4000, 500), np.arange(501, 1000)]),
        "few captions": np.array([3, 700]),
    }[shape]
    tiles = retrieval._tiles(owner, (1000, 8), budget=20_000)
    assert [tile.image_from for tile in tiles[1:]] == [tile.image_to for tile in tiles[:-1]]
    assert tiles[0].image_from == tiles[0].text_from == 0
    assert tiles[-1].image_to == 1000 and tiles[-1].text_to == len(owner)
    for tile in tiles:
        assert (owner[tile.text_from : tile.text_to] >= tile.image_from).all()
        assert (owner[tile.text_from : tile.text_to] < tile.image_to).all()
    tallest = max(tile.image_to - tile.image_from for tile in tiles)
    widest = max(tile.text_to - tile.text_from for tile in tiles)
    assert tallest * (widest if shape != "one image has most" else widest - 4000) <= 4.5 * 20_000


def test_reads_memory_mapped_files(tmp_path):
    x, y, owner = captioned(200, 2)
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "y.npy", y)
    x_file, y_file = (np.load(tmp_path / f"{name}.npy", mmap_mode="r") for name in "xy")
    np.testing.assert_array_equal(ranks(x_file, y_file, owner).image_rank, ranks(x, y, owner).image_rank)


def test_random_model_sits_at_chance():
    rng = np.random.default_rng(1)
    x, y = unit(rng.standard_normal((2000, 64))), unit(rng.standard_normal((2000, 64)))
    found = ranks(x, y, np.arange(2000)).metrics()
    assert found["image_recall@10"] == pytest.approx(0.5, abs=0.5)
    assert found["image_median_rank"] == pytest.approx(1000, rel=0.1)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6))
def test_rotation_keeps_ranks(seed):
    x, y, owner = captioned(60, 2, d=8, seed=seed)
    turn = np.linalg.qr(np.random.default_rng(seed).standard_normal((8, 8)))[0].astype(np.float32)
    plain, turned = ranks(x, y, owner), ranks(x @ turn, y @ turn, owner)
    assert (plain.image_rank != turned.image_rank).mean() < 0.02  # rounding may swap neighbours


def test_pool_is_the_mean_over_fixed_draws():
    embeddings = Embeddings(*captioned(600, 5))
    found = pool_retrieval(embeddings, draws=3, seed=9)
    assert found.protocol == "pool512"
    each = []
    for number in range(3):
        drawn = embeddings.draw(512, 9, number)
        assert len(drawn.images) == len(drawn.texts) == 512
        each.append(full_retrieval(drawn).metrics()["image_recall@1"])
    assert len(set(each)) > 1
    assert found.metrics["image_recall@1"] == pytest.approx(np.mean(each))
    assert found == pool_retrieval(embeddings, draws=3, seed=9)
    assert found.metrics["image_recall@1"] > full_retrieval(embeddings).metrics()["image_recall@1"]


def test_a_small_split_is_measured_whole_under_its_own_name():
    assert pool_retrieval(Embeddings(*captioned(100, 5)), draws=2).protocol == "pool100"


def test_bad_requests():
    x, y, owner = captioned(10, 1)
    for arguments, words in [
        ((x, y, owner[:5]), "owners"),
        ((x, y, owner + 1), "must lie in 0..9"),
        ((x, y[:0], owner[:0]), "needs captions"),
    ]:
        with pytest.raises(UserError, match=words):
            ranks(*arguments)
    with pytest.raises(UserError, match="tie rule"):
        ranks(x, y, owner, ties="lucky")
    with pytest.raises(UserError, match="memory_mb"):
        ranks(x, y, owner, memory_mb=0)
    x[7] = np.nan
    with pytest.raises(UserError, match="image embedding 7 is not finite"):
        ranks(x, y, owner)
