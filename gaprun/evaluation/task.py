"""What every measuring task is: recipe options, protocols, and a key under which its values are stored."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field

from gaprun.data.split import open_split
from gaprun.errors import UserError
from gaprun.store.values import EvaluationKey

if TYPE_CHECKING:
    import numpy as np

    from gaprun.data.split import Split
    from gaprun.evaluation.embeddings import Embeddings

POOL = 512
POOL_SEED = 2412_07909  # one series of pools for all runs, so that they are compared on the same pairs
Needs = Literal["captions", "labels", "a composition set"]


class Source(Protocol):
    """Images and texts to embed: a `Split`, or a composition benchmark's folder."""

    @property
    def dataset(self) -> str:
        """Name of the data set."""
        ...

    @property
    def split(self) -> str:
        """Name of the part of it."""
        ...

    @property
    def fingerprint(self) -> str:
        """sha256 of the content."""
        ...

    @property
    def samples(self) -> int:
        """Number of images."""
        ...

    @property
    def keys(self) -> list[str]:
        """Names of the images."""
        ...

    @property
    def captions(self) -> list[list[str]]:
        """Texts of each image."""
        ...

    def read_image(self, i: int) -> bytes:
        """The picture file of image `i`."""
        ...


class Embedder(Protocol):
    """Gives embeddings of splits and prompts; encodes each image at most once."""

    def embeddings(self, source: Source) -> Embeddings:
        """Unit embeddings of all images and captions of `source`."""
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
    needs: ClassVar[Needs] = "captions"
    task: str
    data: list[str] = Field(min_length=1, description="Split folders to measure on, e.g. coco/test.")

    def open(self, ref: str) -> Any:
        """The data named `ref`: a Split here, other tasks may read other things. Raises UserError."""
        return open_split(ref)

    def options(self, split: Any) -> dict[str, Any]:
        """What the values depend on beside the model, `split` and the protocol."""
        return self.model_dump(mode="json", exclude={"data", "task"})

    def accepts(self, split: Any) -> bool:
        """Whether `split` has what the task needs."""
        if self.needs == "labels":
            return split.classes is not None
        return any(split.captions)

    def protocols(self, split: Any) -> list[str]:
        """Ids of the ways in which this task measures on `split`."""
        return ["full"]

    def key(self, split: Any, protocol: str, checkpoint_hash: str, step: int) -> EvaluationKey:
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

    def measure(self, embedder: Embedder, split: Any, protocol: str) -> Measured:
        """Measure on `split` by `protocol`."""
        raise TypeError(f"{type(self).__name__} measures nothing")


def pool_protocol(split: Split) -> str:
    """`pool512`, or `pool<n>` where the split has only n captioned images: another number, another name."""
    return f"pool{min(POOL, sum(1 for captions in split.captions if captions))}"


def sibling(split: Split) -> str:
    """Path of the training split that lies beside a test split (`test` -> `train`, also within a longer name)."""
    name = split.path.name
    for part in ("test", "val"):
        if part in name:
            return str(split.path.with_name(name.replace(part, "train")))
    raise UserError(f"{split.path}: no training split beside it is known; name one in the recipe's eval task")
