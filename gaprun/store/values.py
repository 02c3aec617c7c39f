"""What callers hand to the store: a run that begins, and the key that identifies an evaluation."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import Any

from gaprun.protocols import Protocol


@dataclass(frozen=True)
class NewRun:
    """A run about to start. `folder` is absolute, or relative to the parent of the store's artifacts."""

    id: str
    recipe: str
    kind: str
    seed: int | None
    recipe_hash: str
    resolved_recipe: dict[str, Any]
    environment: dict[str, Any]
    code_version: str
    folder: str
    total_steps: int


@dataclass(frozen=True)
class EvaluationKey:
    """Everything that decides an evaluation's values. Two keys that are equal ask for the same numbers.

    `step`, `device` and the names `dataset` and `split` are labels: the hashes of checkpoint and model and the data's
    fingerprint identify. `model_hash` is that of `gaprun.model.identity`, "" where a program does not say.
    `definition` is the version of the task's formulas; `options` holds only what changes the values.
    """

    checkpoint_hash: str
    step: int
    task: str
    dataset: str
    split: str
    data_fingerprint: str
    protocol: Protocol
    options: dict[str, Any] = field(default_factory=dict)
    definition: int = 1
    model_hash: str = ""
    device: str = ""

    @property
    def options_hash(self) -> str:
        """sha256 of the options as canonical JSON (sorted keys), hexadecimal."""
        canonical = json.dumps(self.options, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()

    def columns(self) -> dict[str, Any]:
        """What the database keeps of it, by column: the protocol's id and the parts that readers ask for."""
        own = {name: getattr(self, name) for name in self.__dataclass_fields__}
        protocol = {"protocol": self.protocol.id, "pool": self.protocol.pool, "transform": self.protocol.done}
        return own | protocol | {"options_hash": self.options_hash}
