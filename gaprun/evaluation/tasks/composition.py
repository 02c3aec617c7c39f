"""Compositional reasoning as tasks: SugarCrepe, Winoground and MMVP-VLM from a local folder (docs/composition.md)."""

from __future__ import annotations

import hashlib
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field

from gaprun.data.split import data_root
from gaprun.errors import UserError
from gaprun.evaluation.composition_data import CompositionSet, read_composition
from gaprun.evaluation.outcomes import hits
from gaprun.evaluation.task import TASKS, Embedder, Measured, Needs, Task
from gaprun.metrics import Metric, percentage
from gaprun.protocols import Protocol


class CompositionSource:
    """A benchmark's images and texts as the embedder takes them; each text belongs to its question's image."""

    split = "test"

    def __init__(self, questions: CompositionSet) -> None:
        """`questions` as `read_composition` gives them."""
        self.questions, self.dataset = questions, questions.name
        self.samples = len(questions.images)

    @cached_property
    def _order(self) -> list[tuple[int, int]]:
        """(image, text) for every text, sorted by image as embeddings are."""
        pairs = []
        for item in self.questions.items:
            for position, text in enumerate(item.texts):
                pairs.append((item.images[min(position, len(item.images) - 1)], text))
        return sorted(pairs)

    @cached_property
    def fingerprint(self) -> str:
        """sha256 over questions and picture files."""
        digest = hashlib.sha256(repr((self.questions.texts, self.questions.items)).encode())
        for path in self.questions.images:
            digest.update(path.read_bytes())
        return digest.hexdigest()

    @property
    def keys(self) -> list[str]:
        """Paths of the pictures."""
        return [str(path) for path in self.questions.images]

    @property
    def captions(self) -> list[list[str]]:
        """Texts of each image."""
        texts: list[list[str]] = [[] for _ in self.questions.images]
        for image, text in self._order:
            texts[image].append(self.questions.texts[text])
        return texts

    def read_image(self, i: int) -> bytes:
        """The picture file of image `i`."""
        return self.questions.images[i].read_bytes()

    def text_rows(self, texts: Any) -> Any:
        """Embedded `texts` (M, D) brought from embedding order to the questions' own order."""
        rows = texts.copy()
        rows[[text for _, text in self._order]] = texts
        return rows


class Composition(Task):
    """What the three benchmarks share: a folder in the published layout, scored from embeddings."""

    needs: ClassVar[Needs] = "a composition set"
    data: list[str] = Field(
        min_length=1, description="Folders in the published layout (docs/composition.md)."
    )
    images: str | None = Field(None, description="Folder of the pictures where it is not the published one.")

    def open(self, ref: str) -> CompositionSource:
        """The benchmark in folder `ref`, relative to the data root or the working folder. Raises UserError."""
        folders = [data_root() / ref, Path(ref)]
        folder = next((folder for folder in folders if folder.is_dir()), None)
        if folder is None:
            raise UserError(f"{self.task}: no folder {ref}; docs/composition.md says where to get it")
        return CompositionSource(
            read_composition(self.task, folder, Path(self.images) if self.images else None)
        )

    def options(self, split: Any, protocol: Protocol) -> dict[str, Any]:
        """Nothing beside the data."""
        return {}

    def accepts(self, split: Any) -> bool:
        """Any folder that could be read."""
        return isinstance(split, CompositionSource)

    def measure(self, embedder: Embedder, split: CompositionSource, protocol: Protocol) -> Measured:
        """Scores in percent; details: right or wrong, a question."""
        from gaprun.evaluation.composition import score_composition

        embeddings = embedder.embeddings(split)
        texts = split.text_rows(embeddings.texts)
        result = score_composition(split.questions, embeddings.images, texts)
        return Measured(result.metrics, len(split.questions.items), embeddings.dim, dict(result.correct))


@TASKS.register
class SugarCrepe(Composition):
    """SugarCrepe (Hsieh et al. 2023): is the image nearer to its caption than to the hard negative?"""

    task: Literal["sugarcrepe"] = "sugarcrepe"
    metrics: ClassVar[tuple[Metric, ...]] = (
        percentage("sugarcrepe", "SugarCrepe, mean over categories"),
        *(
            percentage(f"sugarcrepe_{category}", f"SugarCrepe, {category.replace('_', ' ')}")
            for category in (
                "add_att",
                "add_obj",
                "replace_att",
                "replace_obj",
                "replace_rel",
                "swap_att",
                "swap_obj",
            )
        ),
    )


@TASKS.register
class Winoground(Composition):
    """Winoground (Thrush et al. 2022): text, image and group score of two images with swapped captions."""

    task: Literal["winoground"] = "winoground"
    metrics: ClassVar[tuple[Metric, ...]] = tuple(
        percentage(f"winoground_{score}", f"Winoground, {score} score", outcome=hits(f"winoground_{score}"))
        for score in ("text", "image", "group")
    )


@TASKS.register
class Mmvp(Composition):
    """MMVP-VLM (Tong et al. 2024): pairs of images that CLIP takes for alike, by visual pattern."""

    task: Literal["mmvp"] = "mmvp"
    metrics: ClassVar[tuple[Metric, ...]] = (
        percentage("mmvp", "MMVP-VLM, mean over patterns"),
        *(
            percentage(f"mmvp_{pattern}", f"MMVP-VLM, {pattern.replace('_', ' ')}")
            for pattern in (
                "camera_perspective",
                "color",
                "orientation",
                "presence",
                "quantity",
                "spatial",
                "state",
                "structural_character",
                "text",
            )
        ),
    )
