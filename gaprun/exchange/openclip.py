"""A trained run as an open_clip model folder: open_clip_config.json beside open_clip_model.safetensors.

`open_clip.create_model_and_transforms("local-dir:FOLDER")` and `open_clip.get_tokenizer("local-dir:FOLDER")` then
give the run's towers, preprocessing and learned temperature. A run of the `used` vocabulary gets the tokenizer's
full token embedding: each id has the row that the run gives it, which for ids outside of the training captions is
the row of unknown words; so the folder embeds every text as the run does.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from open_clip.tokenizer import HFTokenizer
from safetensors.torch import save_file
from torch import Tensor

from gaprun.errors import UserError
from gaprun.files import check_owned, replace_folder
from gaprun.jobs.load import LoadedModel, load_model
from gaprun.model.openclip import CONFIG, SHARED
from gaprun.model.vocabulary import Vocabulary
from gaprun.store import Store

WEIGHTS = "open_clip_model.safetensors"


def export_model(store: Store, ckpt: str, folder: Path, force: bool = False) -> dict[str, Any]:
    """Write the model of a run (or of one of its checkpoint files) to `folder`; returns what its config says of it.

    The folder appears whole or not at all. Raises UserError for one that exists (unless `force`, and gaprun wrote all
    that is in it) and for a model that gaprun did not train; Failure when it cannot be written.
    """
    loaded = load_model(store, ckpt, None, None)
    if loaded.recipe is None:
        raise UserError(f"{ckpt}: not trained by gaprun; open_clip loads it as it is")
    config = _config(loaded)

    def make(made: Path) -> None:
        (made / CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        save_file(_weights(loaded), made / WEIGHTS, metadata={"format": "pt"})
        if isinstance(loaded.towers.tokenizer, HFTokenizer):
            loaded.towers.tokenizer.save_pretrained(str(made))  # open_clip looks for it in the folder

    replace_folder(folder, make, force, "name another one with --out", _check_ours)
    said: dict[str, Any] = config["gaprun"]
    return said


def _check_ours(folder: Path, way_out: str) -> None:
    """Raise UserError unless gaprun wrote all of `folder`; earlier versions left no list of their files there."""
    try:
        ours = isinstance(json.loads((folder / CONFIG).read_text(encoding="utf-8"))["gaprun"], dict)
        if ours and {path.name for path in folder.iterdir()} == {CONFIG, WEIGHTS}:
            return
    except (OSError, ValueError, KeyError, TypeError):
        pass
    check_owned(folder, way_out)


def _config(loaded: LoadedModel) -> dict[str, Any]:
    assert loaded.recipe is not None
    towers = loaded.towers
    kept = towers.vocabulary
    return {
        "model_cfg": _model_config(loaded),
        "preprocess_cfg": loaded.towers.picture,
        # open_clip reads only the two above; this is where the model comes from.
        "gaprun": {
            "run": loaded.run_id,
            "recipe": loaded.recipe.name,
            "seed": loaded.seed,
            "step": loaded.step,
            "checkpoint_hash": loaded.checkpoint_hash,
            "temperature": float(torch.exp(-towers.clip.logit_scale.detach())),
            "bias": None if (bias := loaded.head.get("bias")) is None else float(bias),
            "vocabulary": "full"
            if kept is None
            else f"{len(kept.ids)} ids seen in training, one row for all others",
        },
    }


def _model_config(loaded: LoadedModel) -> dict[str, Any]:
    """open_clip's `model_cfg` of the towers as they are, with the tokenizer's full vocabulary and a place for the bias
    that our sigmoid loss learned."""
    config = {name: value for name, value in loaded.towers.architecture.items() if name != SHARED}
    if loaded.towers.vocabulary is not None:
        config["text_cfg"] = config["text_cfg"] | {"vocab_size": loaded.towers.vocabulary.full_size}
    if "logit_bias" in _weights_of_loss(loaded):
        config["init_logit_bias"] = -10.0  # SigLIP's start; the weights hold what was learned
    return config


def _weights_of_loss(loaded: LoadedModel) -> dict[str, Tensor]:
    """`logit_bias` where there is one: learned by our loss, or of the architecture itself."""
    bias = loaded.head.get("bias", getattr(loaded.towers.clip, "logit_bias", None))
    if bias is None:
        return {}
    scale = loaded.towers.clip.logit_scale
    return {"logit_bias": bias.detach().cpu().to(scale.dtype).reshape(scale.shape)}


def _weights(loaded: LoadedModel) -> dict[str, Tensor]:
    state = {name: value.detach().cpu() for name, value in loaded.towers.clip.state_dict().items()}
    if loaded.towers.vocabulary is not None:
        name = next(name for name in state if name.endswith("token_embedding.weight"))
        state[name] = full_embedding(state[name], loaded.towers.vocabulary)
    state |= _weights_of_loss(loaded)
    return {name: value.contiguous().clone() for name, value in state.items()}


def full_embedding(embedding: Tensor, vocabulary: Vocabulary) -> Tensor:
    """The rows (full_size, width) of the tokenizer's own ids, from the (size, width) rows of the kept ones."""
    return embedding[torch.from_numpy(vocabulary(np.arange(vocabulary.full_size)))]
