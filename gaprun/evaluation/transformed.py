"""An embedder seen through a fitted map, so that every task measures transformed embeddings without knowing of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from gaprun.evaluation.transforms import Map

if TYPE_CHECKING:
    from gaprun.evaluation.embeddings import Embeddings
    from gaprun.evaluation.task import Embedder, Source


class Transformed:
    """Gives what `inner` gives, after `fitted`: image rows as images, captions and prompts as texts."""

    def __init__(self, inner: Embedder, fitted: Map) -> None:
        self.inner, self.fitted, self.device = inner, fitted, inner.device

    def embeddings(self, source: Source) -> Embeddings:
        """Unit embeddings of all images and captions of `source` after the map."""
        return self.fitted.apply(self.inner.embeddings(source))

    def prompts(self, texts: list[str]) -> np.ndarray:
        """Unit float32 (len(texts), D) embeddings of `texts` after the map."""
        return self.fitted.texts(self.inner.prompts(texts))
