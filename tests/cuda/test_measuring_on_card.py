"""Embedding and retrieval on a card that is not there."""

import io
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
import torch
from PIL import Image

from gaprun.evaluation.embed import StoredEmbedder
from gaprun.evaluation.probe import _Problem, linear_probe
from gaprun.evaluation.retrieval import TIES, ranks
from gaprun.model.towers import build_towers
from tests.cuda.card import HiddenWait, WrongDevice, fake_card
from tests.cuda.steps import CARD, recipe_of


@dataclass
class Pictures:
    """Two grey pictures with a caption each."""

    dataset: str = "grey"
    split: str = "test"
    fingerprint: str = "f"
    samples: int = 2
    keys: list[str] = field(default_factory=lambda: ["a", "b"])
    captions: list[list[str]] = field(default_factory=lambda: [["one"], ["two", "three words here"]])

    def read_image(self, i: int) -> bytes:
        buffer = io.BytesIO()
        Image.new("RGB", (40, 32), (9 * i, 9, 9)).save(buffer, "PNG")
        return buffer.getvalue()


def test_pictures_and_captions_are_embedded_there() -> None:
    towers = build_towers(recipe_of("baseline").model)
    with fake_card() as watch:
        with watch.waiting():
            embedder = StoredEmbedder(towers, "hash", None, CARD)
            found = embedder.embeddings(Pictures())
        assert {p.device.type for p in towers.clip.parameters()} == {"cuda"}
        assert watch.seen >= {"convolution", "embedding", "linalg_vector_norm"}
    assert found.images.shape == (2, 16) and found.texts.shape == (3, 16) and found.images.dtype == np.float32


def test_towers_left_behind_are_caught(monkeypatch) -> None:
    towers = build_towers(recipe_of("baseline").model)
    with pytest.raises(WrongDevice, match="convolution"), fake_card() as watch, watch.waiting():
        embedder = StoredEmbedder(towers, "hash", None, CARD)
        towers.clip.visual.to("cpu")
        embedder.embeddings(Pictures())


@pytest.mark.parametrize("ties", TIES)
def test_ranks_are_counted_there(ties: str) -> None:
    rows = np.eye(70, 8, dtype=np.float32)
    with fake_card() as watch:
        with watch.waiting():
            found = ranks(rows, rows, np.arange(70), ties=ties, device="cuda", memory_mb=1)
        assert "mm" in watch.seen and "scatter_reduce_" in watch.seen
        with pytest.raises(HiddenWait):
            ranks(rows, rows, np.arange(70), ties=ties, device="cuda")
    assert found.image_rank.shape == found.text_rank.shape == (70,)


def test_a_probe_is_fitted_there() -> None:
    """Only sums come back: the products over all rows are the card's, and none of them is waited for."""
    rows, labels = np.eye(40, 8, dtype=np.float32), np.arange(40) % 4
    with fake_card() as watch:
        with watch.waiting():
            found = linear_probe(rows, labels, rows, labels, penalties=(0.1, 1.0), device="cuda")
        assert watch.seen >= {"_linalg_eigh", "mm", "_log_softmax", "index_put_"}
        with watch.waiting():
            problem = _Problem(rows, labels, "cuda")
            weight = torch.zeros(8, 4, dtype=torch.float64, device="cuda")
        loss, by_weight, by_bias = problem._loss(weight, weight[0])
    assert found.model.weight.shape == (8, 4) and found.model.weight.dtype == np.float64
    assert {part.device.type for part in (loss, by_weight, by_bias)} == {"cuda"}


def test_another_arithmetic_is_another_model_to_measure() -> None:
    """bf16 and channels-last change the numbers a little, and what they are kept under."""
    towers, cpu = build_towers(recipe_of("baseline").model), torch.device("cpu")
    plain = StoredEmbedder(towers, "hash", None, cpu)
    exact = plain.embeddings(Pictures())
    quick = StoredEmbedder(replace(towers, autocast="bf16", channels_last=True), "hash", None, cpu)
    found = quick.embeddings(Pictures())
    assert (plain.identity.ran_on, quick.identity.ran_on) == ("cpu fp32", "cpu bf16-autocast channels-last")
    assert quick.identity.model_hash != plain.identity.model_hash
    assert quick.identity.model_id == plain.identity.model_id
    for ours, theirs in ((found.images, exact.images), (found.texts, exact.texts)):
        assert ours.dtype == np.float32 and 0 < np.abs(ours - theirs).max() < 0.05
