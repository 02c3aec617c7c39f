"""Finding the model that `gaprun eval` is asked about: a run, a checkpoint file, or an open_clip model."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from gaprun.errors import UserError
from gaprun.model.towers import Towers, build_towers, full_vocabulary
from gaprun.model.vocabulary import Vocabulary
from gaprun.recipe.load import validate
from gaprun.recipe.schema import Model, Recipe
from gaprun.store import Store
from gaprun.training.checkpoint import load_checkpoint, newest_checkpoint, weights_hash


@dataclass
class LoadedModel:
    """A model ready to be measured and the name under which its values are kept."""

    towers: Towers
    checkpoint_hash: str
    step: int
    run_id: str
    recipe: Recipe | None
    resolved: dict[str, Any]
    seed: int | None = None
    source: str = ""


def load_checkpoint_model(spec: str, store: Store | None) -> LoadedModel:
    """A run's id (its newest checkpoint) or the path of one of our checkpoint files.

    Raises UserError when neither is found, or the file is damaged or foreign.
    """
    path = Path(spec)
    if not path.exists():
        if store is None:
            raise UserError(f"--ckpt {spec}: no such file, and there is no database to look up a run in")
        run = store.run(spec)
        folder = store.folder(run) / "checkpoints"
        try:
            path, _ = newest_checkpoint(folder)
        except FileNotFoundError:
            raise UserError(
                f"run {run.id}: no usable checkpoint in {folder}; train it again or name a file"
            ) from None
    elif path.is_dir():
        raise UserError(f"--ckpt {spec}: is a folder; name a checkpoint file (step-*.pt) or a run's id")
    content = load_checkpoint(path)
    recipe = validate(json.loads(content["recipe"]), str(path))
    vocabulary = (
        Vocabulary(content["vocabulary"], full_vocabulary(recipe.model))
        if content["vocabulary"] is not None
        else None
    )
    towers = build_towers(recipe.model.model_copy(update={"pretrained": None}), vocabulary)
    towers.clip.load_state_dict(content["clip"])
    return LoadedModel(
        towers=towers,
        checkpoint_hash=weights_hash(content["clip"], content["head"]),
        step=content["step"],
        run_id=content["run"],
        recipe=recipe,
        resolved=recipe.model_dump(mode="json"),
        seed=content["seed"],
        source=str(path),
    )


def load_open_clip_model(arch: str, pretrained: str | None) -> LoadedModel:
    """An open_clip model by architecture and pretrained tag (or weights file); no tag is a random model of seed 0."""
    torch.manual_seed(0)
    towers = build_towers(Model(arch=arch, pretrained=pretrained))
    name = f"{arch}-{Path(pretrained).stem if pretrained else 'random'}".replace("/", "-")
    return LoadedModel(
        towers=towers,
        checkpoint_hash=weights_hash(towers.clip.state_dict(), {}),
        step=0,
        run_id=name,
        recipe=None,
        resolved={"name": name, "model": {"arch": arch, "pretrained": pretrained}},
        source=f"open_clip {arch} {pretrained or '(random weights)'}",
    )
