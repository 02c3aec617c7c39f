"""What every measuring task is: recipe options, protocols, and a key under which its values are stored."""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal
from typing import Protocol as Interface

from pydantic import Field
from pydantic_core import to_jsonable_python

from gaprun.data.division import SPLIT_WORDS
from gaprun.data.split import open_split
from gaprun.errors import UserError
from gaprun.evaluation.transforms import TRANSFORMS, AnyTransform, Identity, Transform
from gaprun.metrics import Metric
from gaprun.protocols import FULL, Protocol, pool_of, told
from gaprun.registry import Registry
from gaprun.section import Section
from gaprun.store.values import EvaluationKey

if TYPE_CHECKING:
    import numpy as np
    import torch

    from gaprun.data.split import Split
    from gaprun.evaluation.embeddings import Embeddings

POOL = 512
POOL_SEED = 2412_07909  # one series of pools for all runs, so that they are compared on the same pairs
Needs = Literal["captions", "labels", "a composition set"]


class Source(Interface):
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
    def keys(self) -> Sequence[str]:
        """Names of the images."""
        ...

    @property
    def captions(self) -> Sequence[list[str]]:
        """Texts of each image."""
        ...

    def read_image(self, i: int) -> bytes:
        """The picture file of image `i`."""
        ...


class Embedder(Interface):
    """Gives embeddings of splits and prompts; encodes each image at most once."""

    @property
    def device(self) -> torch.device | str:
        """Where it encodes, and where a task's own arithmetic may run."""
        ...

    def embeddings(self, source: Source) -> Embeddings:
        """Unit embeddings of all images and captions of `source`."""
        ...

    def prompts(self, texts: list[str]) -> np.ndarray:
        """Unit float32 (len(texts), D) embeddings of `texts`."""
        ...


def _as_they_are() -> list[Transform]:
    return [Identity()]


@dataclass
class Measured:
    """Values by metric name, over n items of dimension d; `details` are arrays kept a query or an image."""

    values: dict[str, float]
    n: int
    d: int
    details: dict[str, Any] = field(default_factory=dict)


class Task(Section):
    """Options that every task has."""

    definition: ClassVar[int] = 1  # raised when the meaning of a stored value changes
    needs: ClassVar[Needs] = "captions"
    metrics: ClassVar[
        tuple[Metric, ...]
    ] = ()  # what `measure` gives and no other task declares, in tables' order
    fitted: ClassVar[str] = ""  # the option that names the split which the task itself fits on
    family: ClassVar[str] = ""  # what stands for all of them on the command line; the task's name where ""
    task: str
    data: list[str] = Field(min_length=1, description="Split folders to measure on, e.g. coco/test.")
    transforms: list[AnyTransform] = Field(
        default_factory=_as_they_are,
        min_length=1,
        description="What is done to the embeddings first; everything is measured after each of them.",
    )
    fit: str | None = Field(
        None,
        description="Split whose captioned pairs transforms are fitted on; null takes the `train` sibling of what is "
        "measured.",
    )
    along: bool = Field(
        True, description="Whether it is measured along training too, as often as `eval_every` says."
    )

    def open(self, ref: str) -> Any:
        """The data named `ref`: a Split here, other tasks may read other things. Raises UserError."""
        return open_source(ref)

    def options(self, split: Any, protocol: Protocol) -> dict[str, Any]:
        """What the values by `protocol` depend on beside the model, `split` and what a transform was fitted on.

        Those that are fields of the task and not at their defaults become part of the protocol's id.
        """
        return self.model_dump(mode="json", exclude={"data", "task", "transforms", "fit", "along"})

    def accepts(self, split: Any) -> bool:
        """Whether `split` has what the task needs."""
        if self.needs == "labels":
            return split.classes is not None
        return any(split.captions)

    def protocols(self, split: Any) -> list[Protocol]:
        """The ways in which this task measures on `split`, embeddings as they are, options at their defaults."""
        return [FULL]

    def all_protocols(self, split: Any) -> list[Protocol]:
        """Each of them with the task's options and each of its transforms. Raises UserError as `source` does."""
        return [
            self._named(p, split, transform) for p in self.protocols(split) for transform in self.transforms
        ]

    def _named(self, protocol: Protocol, split: Any, transform: Transform) -> Protocol:
        plain = isinstance(transform, Identity)
        options = [
            told(name, value)
            for name, value in self.options(split, protocol).items()
            if (field := type(self).model_fields.get(name)) is not None
            and value != to_jsonable_python(field.get_default(call_default_factory=True))
        ]
        sources = [*([self.fitted] if self.fitted else []), *([] if plain else ["fit"])]
        options += [told(name, other) for name in sources if (other := self._unusual(name, split))]
        return replace(protocol, options=tuple(options), transform="" if plain else transform.label)

    def source(self, option: str, split: Any) -> Split:
        """What `option` names to fit on, the training split beside `split` for null. Raises UserError."""
        named: str | None = getattr(self, option)
        return open_source(named if named else sibling(split))

    def _unusual(self, option: str, split: Any) -> str:
        """`dataset/split` of what `option` names, "" where that is what null would mean."""
        if getattr(self, option) is None:
            return ""
        found = self.source(option, split)
        try:
            usual = open_source(sibling(split)).fingerprint
        except UserError:
            usual = ""
        return "" if found.fingerprint == usual else f"{found.dataset}/{found.split}"

    def transform(self, protocol: Protocol) -> Transform:
        """The transform that `protocol` names."""
        return next((t for t in self.transforms if t.label == protocol.transform), Identity())

    def fitted_on(self, split: Any) -> Split:
        """The split that transforms are fitted on. Raises UserError where it is not known or is `split` itself."""
        found = self.source("fit", split)
        if found.fingerprint == split.fingerprint:
            raise UserError(
                f"{self.task}: a transform cannot be fitted and measured on {split.path}; set fit"
            )
        return found

    def key(self, split: Any, protocol: Protocol, checkpoint_hash: str, step: int) -> EvaluationKey:
        """What identifies this measurement of one checkpoint in the store."""
        options, transform = self.options(split, protocol), self.transform(protocol)
        if protocol.transform:
            options |= {
                "transform": transform.model_dump(mode="json"),
                "fit_fingerprint": self.fitted_on(split).fingerprint,
            }
        if code := TASKS.code_of(type(self)) | TRANSFORMS.code_of(type(transform)):
            options |= {"plugins": code}
        return EvaluationKey(
            checkpoint_hash=checkpoint_hash,
            step=step,
            task=self.task,
            dataset=split.dataset,
            split=split.split,
            data_fingerprint=split.fingerprint,
            protocol=protocol,
            options=options,
            definition=self.definition,
        )

    @abstractmethod
    def measure(self, embedder: Embedder, split: Any, protocol: Protocol) -> Measured:
        """Measure on `split` by `protocol`, the transform of which `embedder` has applied already."""


TASKS: Registry[Task] = Registry("task", "task")
AnyTask = Annotated[Task, TASKS]
TRANSFORMS.used_by(TASKS)


def open_source(ref: str) -> Any:
    """The split, or the file of embeddings, that `ref` names. Raises UserError."""
    from gaprun.evaluation.given import is_given, read_given

    return read_given(Path(ref)) if is_given(ref) else open_split(ref)


def pool_protocol(split: Split) -> Protocol:
    """`pool512`, or `pool<n>` where the split has only n captioned images: another number, another name."""
    pool = min(POOL, sum(1 for captions in split.captions if captions))
    return pool_of(pool)


def sibling(split: Split) -> str:
    """Path of the training split that lies beside a test split: the last word of its name that means test (else
    validation) becomes `train`; where no word does, a `test` or `val` that ends one (`minitest`)."""
    name = split.path.name
    kinds = ("test", "val")
    words = ["|".join(sorted(SPLIT_WORDS[kind], key=len, reverse=True)) for kind in kinds]
    for pattern in (*(rf"(?<![A-Za-z])(?:{one})" for one in words), *kinds):
        if match := re.match(rf"(.*){pattern}(?![A-Za-z])", name):
            return str(split.path.with_name(f"{match[1]}train{name[match.end() :]}"))
    raise UserError(f"{split.path}: no training split beside it is known; name one in the recipe's eval task")
