"""The zero-shot task: classification by prompts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from gaprun.evaluation.outcomes import within
from gaprun.evaluation.task import TASKS, Embedder, Measured, Needs, Task
from gaprun.metrics import NONE, Metric, percentage
from gaprun.protocols import Protocol

if TYPE_CHECKING:
    from gaprun.data.split import Split


@TASKS.register
class ZeroShot(Task):
    """Zero-shot classification: the class whose prompts' mean embedding is nearest to the image."""

    task: Literal["zeroshot"] = "zeroshot"
    needs: ClassVar[Needs] = "labels"
    metrics: ClassVar[tuple[Metric, ...]] = (
        percentage("zeroshot_top1", "zero-shot top-1", outcome=within("class_rank", 1)),
        percentage("zeroshot_top5", "zero-shot top-5", outcome=within("class_rank", 5)),
        percentage("zeroshot_mean_class", "zero-shot top-1, mean over classes"),
        percentage(
            "zeroshot_chance", "share of the largest class, which one answer for all gets", direction=NONE
        ),
    )
    templates: str | list[str] | None = Field(
        None,
        description="`simple`, `openai`, or own prompts with {}; null takes the data set's, else simple.",
    )

    def measure(self, embedder: Embedder, split: Split, protocol: Protocol) -> Measured:
        """What `zero_shot` measures, in percent; details: correct or not, an image."""
        from gaprun.evaluation.zeroshot import zero_shot

        embeddings = embedder.embeddings(split)
        assert embeddings.labels is not None
        vectors = class_embeddings(embedder, split, self.templates)
        result = zero_shot(embeddings.images, vectors, embeddings.labels)
        details = {"class_rank": result.rank}
        return Measured(result.metrics, len(embeddings.images), embeddings.dim, details)


def class_embeddings(embedder: Embedder, split: Split, templates: str | list[str] | None) -> Any:
    """Unit (classes, D) prompt means of a labelled split; templates None takes the data set's own, else `simple`."""
    from gaprun.evaluation.templates import prompts
    from gaprun.evaluation.zeroshot import class_vectors

    assert split.classes is not None
    choice = templates if templates is not None else split.templates or "simple"
    return class_vectors(embedder.prompts(prompts(split.classes, choice)), len(split.classes))
