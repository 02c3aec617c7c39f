"""A trained run as an open_clip model folder: open_clip_config.json beside open_clip_model.safetensors.

`open_clip.create_model_and_transforms("local-dir:FOLDER")` and `open_clip.get_tokenizer("local-dir:FOLDER")` then
give the run's towers, preprocessing and learned temperature. A run of the `used` vocabulary gets the tokenizer's
full token embedding: each id has the row that the run gives it, which for ids outside of the training captions is
the row of unknown words; so the folder embeds every text as the run does.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from gaprun.errors import Failure, UserError
from gaprun.evaluation.load import CONFIG, LoadedModel, load_model
from gaprun.model.towers import CLIP_VOCABULARY, architecture_config
from gaprun.model.vocabulary import Vocabulary
from gaprun.recipe.schema import Model
from gaprun.store import Store

WEIGHTS = "open_clip_model.safetensors"


def export_model(store: Store, ckpt: str, folder: Path, force: bool = False) -> dict[str, Any]:
    """Write the model of a run (or of one of its checkpoint files) to `folder`; returns what its config says of it.

    The folder appears whole or not at all. Raises UserError for one that exists (unless `force`, and it is a model
    folder) and for a model that gaprun did not train; Failure when it cannot be written.
    """
    if folder.exists():
        _may_replace(folder, force)
    loaded = load_model(store, ckpt, None, None)
    if loaded.recipe is None:
        raise UserError(f"{ckpt}: not trained by gaprun; open_clip loads it as it is")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".export-", dir=folder.absolute().parent) as scratch:
            made = Path(scratch) / "model"
            made.mkdir()
            config = _config(loaded)
            (made / CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
            save_file(_weights(loaded), made / WEIGHTS, metadata={"format": "pt"})
            if folder.exists():
                shutil.rmtree(folder)
            os.replace(made, folder)
    except OSError as error:
        raise Failure(f"{folder} cannot be written: {error.strerror or error}") from None
    said: dict[str, Any] = config["gaprun"]
    return said


def _may_replace(folder: Path, force: bool) -> None:
    if not force:
        raise UserError(f"{folder} exists: name another one with --out, or replace it with --force")
    if not folder.is_dir() or {path.name for path in folder.iterdir()} - {CONFIG, WEIGHTS}:
        raise UserError(f"{folder} is not a model folder that gaprun wrote: name another one with --out")


def _config(loaded: LoadedModel) -> dict[str, Any]:
    assert loaded.recipe is not None
    towers = loaded.towers
    settings = {name: value for name, value in towers.preprocessing.items() if name != "size"}
    kept = towers.vocabulary
    return {
        "model_cfg": model_config(loaded.recipe.model),
        "preprocess_cfg": settings,
        # open_clip reads only the two above; this is where the model comes from.
        "gaprun": {
            "run": loaded.run_id,
            "recipe": loaded.recipe.name,
            "seed": loaded.seed,
            "step": loaded.step,
            "checkpoint_hash": loaded.checkpoint_hash,
            "temperature": float(torch.exp(-towers.clip.logit_scale.detach())),
            "vocabulary": "full"
            if kept is None
            else f"{len(kept.ids)} ids seen in training, one row for all others",
        },
    }


def model_config(model: Model) -> dict[str, Any]:
    """open_clip's `model_cfg` of a recipe's model, with the tokenizer's full vocabulary."""
    if model.inline is None:
        assert model.arch is not None
        return architecture_config(model.arch)
    return {
        "embed_dim": model.inline.embed_dim,
        "vision_cfg": model.inline.vision.model_dump(mode="json", exclude_none=True),
        "text_cfg": model.inline.text.model_dump(mode="json") | {"vocab_size": CLIP_VOCABULARY},
    }


def _weights(loaded: LoadedModel) -> dict[str, Tensor]:
    state = {name: value.detach().cpu() for name, value in loaded.towers.clip.state_dict().items()}
    if loaded.towers.vocabulary is not None:
        name = next(name for name in state if name.endswith("token_embedding.weight"))
        state[name] = full_embedding(state[name], loaded.towers.vocabulary)
    return {name: value.contiguous().clone() for name, value in state.items()}


def full_embedding(embedding: Tensor, vocabulary: Vocabulary) -> Tensor:
    """The rows (full_size, width) of the tokenizer's own ids, from the (size, width) rows of the kept ones."""
    return embedding[torch.from_numpy(vocabulary(np.arange(vocabulary.full_size)))]
