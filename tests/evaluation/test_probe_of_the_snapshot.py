"""The probe as in the authors' snapshot: scikit-learn's logistic regression, C = 0.316, on features as they are."""

from __future__ import annotations

import warnings
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from gaprun.data.split import open_split
from gaprun.errors import UserError
from gaprun.evaluation.embed import StoredEmbedder
from gaprun.evaluation.embeddings import Embeddings
from gaprun.evaluation.keep import read_embeddings, write_embeddings
from gaprun.evaluation.tasks.probe import Probe
from gaprun.model.spec import Inline, Model
from gaprun.model.towers import build_towers
from gaprun.protocols import FULL
from gaprun.recipe import load_recipe
from tests.conftest import RECIPES


def rows(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Features whose length tells as much as their direction, and their classes."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 4, n)
    centres = np.random.default_rng(9).standard_normal((4, 6))
    features = (centres[labels] + 0.8 * rng.standard_normal((n, 6))) * (1 + labels)[:, None]
    return features.astype(np.float32), labels


def embedded(features: np.ndarray, labels: np.ndarray, known: bool = True) -> Embeddings:
    norms = np.linalg.norm(features, axis=1).astype(np.float32)
    none = np.zeros((0, 6), np.float32), np.zeros(0, np.int64)
    return Embeddings(features / norms[:, None], *none, labels, norms if known else None)


def probed(task: Probe, train: Embeddings, test: Embeddings) -> dict[str, float]:
    splits = {
        name: SimpleNamespace(path=name, fingerprint=name, classes=["a", "b", "c", "d"])
        for name in ("fit", "seen")
    }
    found = {"fit": train, "seen": test}
    embedder = SimpleNamespace(device=torch.device("cpu"), embeddings=lambda split: found[split.path])
    object.__setattr__(task, "source", lambda option, split: splits["fit"])
    return task.measure(embedder, splits["seen"], FULL).values


def test_raw_features_at_a_fixed_penalty_are_scikit_learns() -> None:
    (x, labels), (x_test, test_labels) = rows(600, 0), rows(2000, 1)
    task = Probe(data=["c/test"], normalise=False, C=0.316)
    found = probed(task, embedded(x, labels), embedded(x_test, test_labels))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = LogisticRegression(C=0.316, max_iter=20_000, tol=1e-9).fit(x.astype(float), labels)
        unit = x / np.linalg.norm(x, axis=1, keepdims=True)
        normalised = LogisticRegression(C=0.316, max_iter=20_000).fit(unit.astype(float), labels)
    assert found["probe_penalty"] == 0.316
    assert found["probe_top1"] == pytest.approx(100 * theirs.score(x_test, test_labels), abs=0.2)
    usual = probed(Probe(data=["c/test"], C=0.316), embedded(x, labels), embedded(x_test, test_labels))
    unit_test = x_test / np.linalg.norm(x_test, axis=1, keepdims=True)
    assert usual["probe_top1"] == pytest.approx(100 * normalised.score(unit_test, test_labels), abs=0.2)
    assert found["probe_top1"] > usual["probe_top1"] + 2


def test_it_never_stands_in_the_usual_probes_place() -> None:
    usual, other = Probe(data=["c/test"]), Probe(data=["c/test"], normalise=False, C=0.316)
    for task, name in ((usual, "full"), (other, "full,normalise=false,C=0.316")):
        object.__setattr__(task, "source", lambda option, split: SimpleNamespace(fingerprint="f"))
        assert [p.id for p in task.all_protocols(None)] == [name]
    assert usual.options(None, FULL) == {
        "shots": None,
        "train_fingerprint": "f",
    }  # so that earlier values are found


def test_what_has_no_length_is_refused() -> None:
    x, labels = rows(60, 0)
    task = Probe(data=["c/test"], normalise=False)
    with pytest.raises(UserError, match="not known"):
        probed(task, embedded(x, labels, known=False), embedded(x, labels))
    probe = "[{task: probe, data: [scenes/classes-test], normalise: false, transforms: [{name: centre}]}]"
    with pytest.raises(UserError, match="leave transforms out"):
        load_recipe(RECIPES / "base" / "scenes.yaml", [f"eval={probe}"])


def test_the_lengths_are_the_image_towers_own(scenes: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    towers = build_towers(Model(inline=Inline()))
    split = open_split("scenes/classes-test", scenes)
    found = StoredEmbedder(towers, "c", tmp_path, torch.device("cpu")).embeddings(split)
    preprocess = towers.preprocess()
    from gaprun.data.decode import decode_rgb

    pictures = torch.stack([preprocess(decode_rgb(split.read_image(i))) for i in range(8)])
    with torch.inference_mode():
        wanted = towers.clip.eval().encode_image(pictures).numpy()
    assert found.image_norms is not None and found.image_norms.shape == (split.samples,)
    np.testing.assert_allclose(found.images[:8] * found.image_norms[:8, None], wanted, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(found.images, axis=1), 1, rtol=1e-5)
    write_embeddings(tmp_path / "again", found)
    again = read_embeddings(tmp_path / "again")
    assert again is not None and np.array_equal(again.image_norms, found.image_norms)
