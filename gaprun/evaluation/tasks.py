"""What can be measured: each task is one class with its recipe options, its protocols and how it measures.

A task reads embeddings and never runs an encoder itself, so five tasks encode each image once. Adding a task:
one class here and its name in `TASKS`. The classes are read with the recipe: no torch at import time.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field

from gaprun.errors import UserError
from gaprun.store.values import EvaluationKey

if TYPE_CHECKING:
    import numpy as np

    from gaprun.data.split import Split
    from gaprun.evaluation.embeddings import Embeddings

POOL = 512
POOL_SEED = (
    2412_07909  # the draws of every pool, fixed for all runs so that they are compared on the same pairs
)


class Embedder(Protocol):
    """Gives embeddings of splits and prompts; encodes each split at most once."""

    def embeddings(self, split: Split) -> Embeddings:
        """Unit embeddings of all images and captions of `split`."""
        ...

    def prompts(self, texts: list[str]) -> np.ndarray:
        """Unit float32 (len(texts), D) embeddings of `texts`."""
        ...


@dataclass
class Measured:
    """Values by metric name, over n items of dimension d; `details` are arrays kept a query or an image."""

    values: dict[str, float]
    n: int
    d: int
    details: dict[str, Any] = field(default_factory=dict)


class Task(BaseModel):
    """Options that every task has."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    definition: ClassVar[int] = 1  # raised when the meaning of a stored value changes
    needs: ClassVar[Literal["captions", "labels"]] = "captions"
    task: str
    data: list[str] = Field(min_length=1, description="Split folders to measure on, e.g. coco/test.")

    def options(self, split: Split) -> dict[str, Any]:
        """What the values depend on beside the model, `split` and the protocol."""
        return self.model_dump(mode="json", exclude={"data", "task"})

    def accepts(self, split: Split) -> bool:
        """Whether `split` has what the task needs."""
        if self.needs == "labels":
            return split.classes is not None
        return any(split.captions)

    def protocols(self, split: Split) -> list[str]:
        """Ids of the ways in which this task measures on `split`."""
        return ["full"]

    def key(self, split: Split, protocol: str, checkpoint_hash: str, step: int) -> EvaluationKey:
        """What identifies this measurement of one checkpoint in the store."""
        return EvaluationKey(
            checkpoint_hash=checkpoint_hash,
            step=step,
            task=self.task,
            dataset=split.dataset,
            split=split.split,
            data_fingerprint=split.fingerprint,
            protocol=protocol,
            options=self.options(split),
            definition=self.definition,
        )

    def measure(self, embedder: Embedder, split: Split, protocol: str) -> Measured:
        """Measure on `split` by `protocol`."""
        raise TypeError(f"{type(self).__name__} measures nothing")


def pool_protocol(split: Split) -> str:
    """`pool512`, or `pool<n>` where the split has only n captioned images: another number, another name."""
    return f"pool{min(POOL, sum(1 for captions in split.captions if captions))}"


class Gap(Task):
    """Gap geometry of matched pairs, one caption an image: over 512 fixed random pairs and over the whole split."""

    task: Literal["gap"] = "gap"

    def protocols(self, split: Split) -> list[str]:
        """The paper's likely protocol (a fixed pool of 512 pairs) and all images, each with its first caption."""
        return [pool_protocol(split), "full"]

    def measure(self, embedder: Embedder, split: Split, protocol: str) -> Measured:
        """All measures of docs/metrics.md's geometry section."""
        from gaprun.evaluation.geometry import measure_geometry

        embeddings = embedder.embeddings(split)
        if protocol == "full":
            images, texts = embeddings.pairs()
        else:
            images, texts = embeddings.draw(POOL, POOL_SEED).pairs()
        return Measured(measure_geometry(images, texts), len(images), embeddings.dim)


class Retrieval(Task):
    """Image and text retrieval: recall@{1,5,10} and median rank, in the full gallery and in pools of 512 pairs."""

    task: Literal["retrieval"] = "retrieval"
    ties: Literal["pessimistic", "expected", "optimistic"] = Field(
        "pessimistic", description="Rank among equal scores; pessimistic gives a collapsed model no credit."
    )
    draws: int = Field(10, ge=1, le=1000, description="Fixed draws of 512 pairs that pool512 averages over.")

    def protocols(self, split: Split) -> list[str]:
        """`full`: every image and caption, any-hit; `pool512`: the paper's likely gallery."""
        return ["full", pool_protocol(split)]

    def measure(self, embedder: Embedder, split: Split, protocol: str) -> Measured:
        """Recalls in percent and median ranks; details: the rank of every query."""
        from gaprun.evaluation import retrieval

        embeddings = embedder.embeddings(split)
        images = int(protocol.removeprefix("pool")) if protocol != "full" else len(embeddings.images)
        if protocol == "full":
            found = retrieval.full_retrieval(embeddings, ties=self.ties)
            details = {"image_rank": found.image_rank, "text_rank": found.text_rank}
            return Measured(found.metrics(), images, embeddings.dim, details)
        pooled = retrieval.pool_retrieval(
            embeddings, pool=images, draws=self.draws, seed=POOL_SEED, ties=self.ties
        )
        return Measured(pooled.metrics, images, embeddings.dim)


class ZeroShot(Task):
    """Zero-shot classification: the class whose prompts' mean embedding is nearest to the image."""

    task: Literal["zeroshot"] = "zeroshot"
    needs: ClassVar[Literal["captions", "labels"]] = "labels"
    templates: str | list[str] | None = Field(
        None,
        description="`simple`, `openai`, or own prompts with {}; null takes the data set's, else simple.",
    )

    def measure(self, embedder: Embedder, split: Split, protocol: str) -> Measured:
        """zeroshot_top1, zeroshot_top5, zeroshot_mean_class in percent; details: correct or not, an image."""
        from gaprun.evaluation.templates import prompts
        from gaprun.evaluation.zeroshot import class_vectors, zero_shot

        assert split.classes is not None
        choice = self.templates if self.templates is not None else split.templates or "simple"
        embeddings = embedder.embeddings(split)
        assert embeddings.labels is not None
        vectors = class_vectors(embedder.prompts(prompts(split.classes, choice)), len(split.classes))
        result = zero_shot(embeddings.images, vectors, embeddings.labels)
        details = {"class_rank": result.rank}
        return Measured(result.metrics, len(embeddings.images), embeddings.dim, details)


class Probe(Task):
    """Linear probe: multinomial logistic regression on image embeddings, its penalty chosen on held-out training
    images."""

    task: Literal["probe"] = "probe"
    needs: ClassVar[Literal["captions", "labels"]] = "labels"
    train: str | None = Field(
        None, description="Split to fit on; null takes the `train` sibling of the measured split."
    )
    shots: int | None = Field(
        None, ge=1, description="Few-shot: this many seeded images a class; null for all."
    )

    def options(self, split: Split) -> dict[str, Any]:
        """The options, with the fingerprint of what the probe is fitted on."""
        return {"shots": self.shots, "train_fingerprint": self._fitted(split).fingerprint}

    def _fitted(self, split: Split) -> Split:
        from gaprun.data.split import open_split

        return open_split(self.train if self.train else sibling(split))

    def measure(self, embedder: Embedder, split: Split, protocol: str) -> Measured:
        """probe_top1 in percent and the chosen penalty; details: correct or not, an image."""
        from gaprun.evaluation.probe import linear_probe

        fitted = self._fitted(split)
        if fitted.classes != split.classes:
            raise UserError(f"probe: {fitted.path} and {split.path} have different classes; set train")
        if fitted.fingerprint == split.fingerprint:
            raise UserError(
                f"probe: {split.path} cannot be fitted and measured on the same images; set train"
            )
        train, test = embedder.embeddings(fitted), embedder.embeddings(split)
        assert train.labels is not None and test.labels is not None
        result = linear_probe(train.images, train.labels, test.images, test.labels, shots=self.shots)
        return Measured(result.metrics, len(test.images), test.dim, {"correct": result.correct})


def sibling(split: Split) -> str:
    """Path of the training split that lies beside a test split (`test` -> `train`, also within a longer name)."""
    name = split.path.name
    for part in ("test", "val"):
        if part in name:
            return str(split.path.with_name(name.replace(part, "train")))
    raise UserError(f"probe: {split.path}: no training split named; set train to the split to fit on")


TASKS = Gap | Retrieval | ZeroShot | Probe
AnyTask = Annotated[TASKS, Field(discriminator="task")]
TASK_CLASSES: dict[str, type[Task]] = {
    "gap": Gap,
    "retrieval": Retrieval,
    "zeroshot": ZeroShot,
    "probe": Probe,
}
