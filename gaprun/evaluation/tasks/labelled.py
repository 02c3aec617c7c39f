"""Labelled texts beside labelled images: what the tasks that compare classes across modalities share."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gaprun.evaluation.task import Embedder

if TYPE_CHECKING:
    import numpy as np

    from gaprun.data.split import Split


def labelled_texts(
    embedder: Embedder, split: Split, templates: str | list[str] | None
) -> tuple[np.ndarray, np.ndarray]:
    """Unit text rows (M, D) and their classes (M,): captions of labelled images, else prompts of the class names.

    Prompts are in the order of the classes, the templates of one after the other; templates None takes the data set's
    own, else `openai`.
    """
    embeddings = embedder.embeddings(split)
    assert embeddings.labels is not None and split.classes is not None
    if len(embeddings.texts):
        return embeddings.texts, embeddings.labels[embeddings.owner]
    import numpy as np

    from gaprun.evaluation.templates import prompts

    texts = prompts(split.classes, templates if templates is not None else split.templates or "openai")
    return embedder.prompts(texts), np.repeat(np.arange(len(split.classes)), len(texts) // len(split.classes))
