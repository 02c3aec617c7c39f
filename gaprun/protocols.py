"""A way of measuring, as a value: what a task declares, the store keeps beside each number, and readers choose by.

Its id is made here, once, and never taken apart again: who needs a part (is it of a pool, was something done to the
embeddings?) reads that part. Bottom layer: standard library only.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_SHORT = re.compile(r"[\w./-]{1,40}")


@dataclass(frozen=True)
class Protocol:
    """One way of measuring. Two that are equal ask the same question of a model and a split.

    name: `full`, `pool`, ...; pool: number of pairs, of a pool; options: those of the task that change the number and
    are not at their defaults, as `told` says them; transform: label of the map that the embeddings went through before;
    moved: label of the map that the task itself makes (the name says it).
    """

    name: str
    pool: int | None = None
    options: tuple[str, ...] = ()
    transform: str = ""
    moved: str = ""

    @property
    def id(self) -> str:
        """`full`, `pool512`, `full,shots=5`; `full+centre` on transformed embeddings."""
        first = self.name if self.pool is None else f"{self.name}{self.pool}"
        named = ",".join([first, *self.options])
        return f"{named}+{self.transform}" if self.transform else named

    @property
    def done(self) -> str:
        """All that was done to the embeddings before anything was counted: "" where they are the model's own.

        Another transform is another experiment: its values stand nowhere for those of the model as it is.
        """
        return "+".join(filter(None, (self.transform, self.moved)))

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Protocol:
        """The protocol that `dataclasses.asdict` took apart. Raises TypeError for what is none."""
        return cls(**{**document, "options": tuple(document["options"])})


FULL = Protocol("full")
FINAL = Protocol("final")  # what training itself says at its last step


def pool_of(pairs: int) -> Protocol:
    """The protocol of pools of that many pairs, all options at their defaults."""
    return Protocol("pool", pairs)


def told(option: str, value: Any) -> str:
    """An option's part of an id: `shots=5`; of what is no short word or number a hash, `templates=own-1f2e3d4c`."""
    text = (
        shortest(value)
        if isinstance(value, float)
        else value
        if isinstance(value, str)
        else json.dumps(value)
    )
    if not _SHORT.fullmatch(text):
        text = "own-" + hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:8]
    return f"{option}={text}"


def shortest(number: float) -> str:
    """A number in as few digits as name it and no other: 1.0 is `1`."""
    return text if float(text := f"{number:g}") == number else repr(number)
