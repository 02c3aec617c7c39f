"""What can be measured: each task is one class with its recipe options, its protocols and how it measures.

A task reads embeddings and never runs an encoder itself, so five tasks encode each image once. Adding a task:
one class, and its name in `TASKS`. The classes are read with the recipe: no torch at import time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from gaprun.data.split import open_split
from gaprun.errors import UserError
from gaprun.evaluation.composition_tasks import Mmvp, SugarCrepe, Winoground
from gaprun.evaluation.task import POOL, POOL_SEED, Embedder, Measured, Needs, Task, pool_protocol, sibling

if TYPE_CHECKING:
    from gaprun.data.split import Split
    from gaprun.evaluation.embeddings import Embeddings


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
            details = {
                "image_rank": found.image_rank,
                "text_rank": found.text_rank,
                "owner": embeddings.owner,
            }
            return Measured(found.metrics(), images, embeddings.dim, details)
        pooled = retrieval.pool_retrieval(
            embeddings, pool=images, draws=self.draws, seed=POOL_SEED, ties=self.ties
        )
        return Measured(pooled.metrics, images, embeddings.dim)


class ZeroShot(Task):
    """Zero-shot classification: the class whose prompts' mean embedding is nearest to the image."""

    task: Literal["zeroshot"] = "zeroshot"
    needs: ClassVar[Needs] = "labels"
    templates: str | list[str] | None = Field(
        None,
        description="`simple`, `openai`, or own prompts with {}; null takes the data set's, else simple.",
    )

    def measure(self, embedder: Embedder, split: Split, protocol: str) -> Measured:
        """zeroshot_top1, zeroshot_top5, zeroshot_mean_class in percent; details: correct or not, an image."""
        from gaprun.evaluation.zeroshot import zero_shot

        embeddings = embedder.embeddings(split)
        assert embeddings.labels is not None
        vectors = class_embeddings(embedder, split, self.templates)
        result = zero_shot(embeddings.images, vectors, embeddings.labels)
        details = {"class_rank": result.rank}
        return Measured(result.metrics, len(embeddings.images), embeddings.dim, details)


class Probe(Task):
    """Linear probe: multinomial logistic regression on image embeddings, its penalty chosen on held-out training
    images."""

    task: Literal["probe"] = "probe"
    needs: ClassVar[Needs] = "labels"
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


class Shift(Task):
    """Liang's experiment: move both clouds along the gap vector (and centre them) and measure again at each distance.

    The gap vector is fitted on other pairs than are measured. No encoder runs again for it.
    """

    task: Literal["shift"] = "shift"
    fractions: list[float] = Field(
        [-0.5, 0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0],
        description="Shares of the gap to move by: 0 is the model as it is, at 1 the centroids meet.",
    )
    means: str | None = Field(
        None,
        description="Split whose matched pairs the gap vector is fitted on; null takes the `train` sibling.",
    )

    def accepts(self, split: Split) -> bool:
        """Captioned splits, and labelled ones if `means` names captioned pairs."""
        return any(split.captions) or (split.classes is not None and self.means is not None)

    def options(self, split: Split) -> dict[str, Any]:
        """The fingerprint of what the means are fitted on; the distance is in the protocol."""
        return {"means_fingerprint": self._pairs(split).fingerprint}

    def _pairs(self, split: Split) -> Split:
        return open_split(self.means if self.means else sibling(split))

    def protocols(self, split: Split) -> list[str]:
        """`shift=<fraction>` for each distance, and `centred`."""
        return [f"shift={fraction:g}" for fraction in self.fractions] + ["centred"]

    def measure(self, embedder: Embedder, split: Split, protocol: str) -> Measured:
        """Gap, recalls and median ranks of the moved clouds; zero-shot where the split has classes."""
        from gaprun.evaluation import shift

        means = shift.fit_means(embedder.embeddings(self._pairs(split)))
        change: shift.Shift | shift.Centre = shift.Centre(means)
        if protocol != "centred":
            change = shift.Shift(means, float(protocol.removeprefix("shift=")))
        embeddings = embedder.embeddings(split)
        values: dict[str, float] = {}
        if any(split.captions):
            values |= self._captioned(shift.move(embeddings, change))
        if split.classes is not None:
            from gaprun.evaluation.zeroshot import zero_shot

            assert embeddings.labels is not None
            vectors = class_embeddings(embedder, split, None)
            values |= zero_shot(
                change.images(embeddings.images), change.texts(vectors), embeddings.labels
            ).metrics
        return Measured(values, len(embeddings.images), embeddings.dim)

    def _captioned(self, moved: Embeddings) -> dict[str, float]:
        from gaprun.evaluation.geometry import gap
        from gaprun.evaluation.moments import pair_moments
        from gaprun.evaluation.retrieval import full_retrieval

        return {"gap": gap(pair_moments(*moved.pairs())), **full_retrieval(moved).metrics()}


def class_embeddings(embedder: Embedder, split: Split, templates: str | list[str] | None) -> Any:
    """Unit (classes, D) prompt means of a labelled split; templates None takes the data set's own, else `simple`."""
    from gaprun.evaluation.templates import prompts
    from gaprun.evaluation.zeroshot import class_vectors

    assert split.classes is not None
    choice = templates if templates is not None else split.templates or "simple"
    return class_vectors(embedder.prompts(prompts(split.classes, choice)), len(split.classes))


TASKS = Gap | Retrieval | ZeroShot | Probe | Shift | SugarCrepe | Winoground | Mmvp
AnyTask = Annotated[TASKS, Field(discriminator="task")]
TASK_CLASSES: dict[str, type[Task]] = {
    "gap": Gap,
    "retrieval": Retrieval,
    "zeroshot": ZeroShot,
    "probe": Probe,
    "shift": Shift,
    "sugarcrepe": SugarCrepe,
    "winoground": Winoground,
    "mmvp": Mmvp,
}
DEFAULT_TASKS = ("gap", "retrieval", "zeroshot", "probe")
