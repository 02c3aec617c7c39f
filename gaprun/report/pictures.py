"""What needs a checkpoint and the data: two clouds before and after training, and retrieval with its pictures.

The towers before training are built again from the run's seed, as training did; both are measured on the same pairs.
"""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from gaprun.data.decode import decode_rgb
from gaprun.data.errors import DamagedSample
from gaprun.data.split import Split, open_split
from gaprun.errors import GaprunError
from gaprun.evaluation.embed import StoredEmbedder
from gaprun.jobs.load import load_model
from gaprun.model.towers import Towers, build_towers

if TYPE_CHECKING:
    from gaprun.store import Store

PAIRS = 512  # the gallery of the examples; the paper's likely one
DRAWN = 200  # pairs drawn in a cloud
SEED = 2412_07909
TOP, EXAMPLES = 3, 6
SETTLING = 128  # pictures that untrained batch normalisation takes its statistics from
LARGEST = 224  # pixels of a picture in the page
Array = np.ndarray


@dataclass(frozen=True)
class Example:
    """One picture (a data URI) with its best captions: (text, right or not, cosine), best first."""

    key: str
    picture: str
    small: bool
    captions: tuple[tuple[str, bool, float], ...]
    rank: int


@dataclass(frozen=True)
class RunPictures:
    """One run's clouds by side (`before`, `after`: images, texts (P, 2), gap) and its retrieval examples."""

    run: str
    place: str
    names: tuple[str, ...]
    sides: dict[str, tuple[Array, Array, float]]
    examples: tuple[Example, ...]


class _Subset:
    """Some pairs of a split, one caption an image, as something that an embedder reads."""

    def __init__(self, split: Split, chosen: list[int]) -> None:
        self.split_, self.chosen = split, chosen
        self.dataset, self.split = split.dataset, split.split
        self.fingerprint = f"{split.fingerprint}/{len(chosen)}"
        self.samples = len(chosen)
        self.keys = [split.keys[i] for i in chosen]
        self.captions = [[split.captions[i][0]] for i in chosen]

    def read_image(self, i: int) -> bytes:
        """The picture file of pair `i`."""
        return self.split_.read_image(self.chosen[i])


def read_pictures(store: Store, run: str) -> RunPictures | str:
    """The clouds and examples of `run` on its first captioned evaluation split, or why there are none."""
    try:
        loaded = load_model(store, run, None, None)
        if loaded.recipe is None or loaded.seed is None:
            return f"{run}: not a checkpoint of a recipe"
        split = _captioned(loaded.resolved)
        if split is None:
            return f"{run}: its recipe measures nothing with captions"
        usable = [i for i, captions in enumerate(split.captions) if captions]
        chosen = sorted(np.random.default_rng(SEED).permutation(usable)[:PAIRS].tolist())
        subset = _Subset(split, chosen)
        after = _embed(loaded.towers, subset)
        torch.manual_seed(loaded.seed)
        before = _embed(
            _settled(
                build_towers(loaded.recipe.model, loaded.towers.vocabulary, loaded.recipe.data.normalisation),
                subset,
            ),
            subset,
        )
        examples = _examples(split, chosen, *after)
    except (GaprunError, DamagedSample, OSError) as error:
        return str(error)
    drawn = np.linspace(0, len(chosen) - 1, min(DRAWN, len(chosen))).round().astype(int)
    return RunPictures(
        run,
        f"{split.dataset}/{split.split}",
        tuple(subset.captions[i][0] for i in drawn),
        {side: _plane(*pair, drawn) for side, pair in (("before", before), ("after", after))},
        examples,
    )


def principal_plane(images: Array, texts: Array) -> tuple[Array, Array]:
    """Both clouds (P, D) in the plane (P, 2) of the two main components of their union, images to the right."""
    both = np.concatenate([images, texts]).astype(np.float64)
    centred = both - both.mean(axis=0)
    axes = np.linalg.svd(centred, full_matrices=False)[2][:2]
    plane = centred @ axes.T
    plane *= np.where(plane[: len(images)].mean(axis=0) < plane[len(images) :].mean(axis=0), -1.0, 1.0)
    return plane[: len(images)], plane[len(images) :]


def _captioned(recipe: dict[str, Any]) -> Split | None:
    for task in recipe.get("eval", []):
        if task["task"] in ("retrieval", "gap"):
            split = open_split(task["data"][0])
            return split if any(split.captions) else None
    return None


def _embed(towers: Towers, subset: _Subset) -> tuple[Array, Array]:
    found = StoredEmbedder(towers, "", None, torch.device("cpu")).embeddings(subset)
    return found.images, found.texts


@torch.no_grad()
def _settled(towers: Towers, subset: _Subset) -> Towers:
    """`towers` with the batch statistics of these pictures: untrained running averages would collapse them."""
    norms = [m for m in towers.clip.modules() if isinstance(m, torch.nn.modules.batchnorm._BatchNorm)]
    if norms:
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # plain averages
        transform = towers.preprocess()
        pictures = [transform(decode_rgb(subset.read_image(i))) for i in range(min(subset.samples, SETTLING))]
        towers.clip.train()
        towers.clip.encode_image(torch.stack(pictures))
        towers.clip.eval()
    return towers


def _plane(images: Array, texts: Array, drawn: Array) -> tuple[Array, Array, float]:
    gap = float(np.linalg.norm(images.mean(axis=0) - texts.mean(axis=0)))
    a, b = principal_plane(images, texts)
    return a[drawn], b[drawn], gap


def _examples(split: Split, chosen: list[int], images: Array, texts: Array) -> tuple[Example, ...]:
    """Half of them found at once, half missed, each in a fixed order; fewer where one kind is rare."""
    scores = images @ texts.T
    captions = [split.captions[i][0] for i in chosen]
    # Two drawn scenes may have the same words: a caption is right if its words are among the picture's own.
    right = np.array([[text in split.captions[i] for text in captions] for i in chosen])
    ranks = 1 + (scores > np.where(right, scores, -np.inf).max(axis=1, keepdims=True)).sum(axis=1)
    order = np.random.default_rng(SEED).permutation(len(chosen))
    hit, missed = ([int(i) for i in order if (ranks[i] == 1) == wanted] for wanted in (True, False))
    few = min(len(missed), EXAMPLES // 2)
    picked = hit[: EXAMPLES - few] + missed[: EXAMPLES - min(len(hit), EXAMPLES - few)]
    found = []
    for i in picked[:EXAMPLES]:
        best = np.argsort(-scores[i], kind="stable")[:TOP]
        uri, small = _picture(split.read_image(chosen[i]))
        lines = tuple((captions[j], bool(right[i, j]), float(scores[i, j])) for j in best)
        found.append(Example(split.keys[chosen[i]], uri, small, lines, int(ranks[i])))
    return tuple(found)


def _picture(data: bytes) -> tuple[str, bool]:
    image = decode_rgb(data)
    small = max(image.size) <= 96
    image.thumbnail((LARGEST, LARGEST))
    buffer = io.BytesIO()
    image.save(buffer, "PNG" if small else "JPEG")
    kind = "png" if small else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}", small
