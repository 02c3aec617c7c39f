"""Finding the model that `gaprun eval` is asked about: a run, a checkpoint, an open_clip model folder or tag."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import open_clip
import torch
from open_clip.model import CLIP, set_model_preprocess_cfg
from torch import Tensor

from gaprun.errors import UserError
from gaprun.model.towers import Towers, build_towers, full_vocabulary, quiet
from gaprun.model.vocabulary import Vocabulary
from gaprun.recipe.load import validate
from gaprun.recipe.schema import Model, Recipe
from gaprun.store import Store
from gaprun.training.checkpoint import load_checkpoint, newest_checkpoint, read_tensors, weights_hash

CONFIG = "open_clip_config.json"


@dataclass
class LoadedModel:
    """A model ready to be measured and the name under which its values are kept."""

    towers: Towers
    checkpoint_hash: str
    step: int
    run_id: str
    resolved: dict[str, Any]
    source: str
    recipe: Recipe | None = None
    seed: int | None = None


def load_model(store: Store, ckpt: str | None, arch: str | None, pretrained: str | None) -> LoadedModel:
    """The model that `--ckpt`, or `--model` with `--pretrained`, names; `arch` also tells what a bare .pt holds.

    Raises UserError when nothing is found, the file is damaged, or its architecture is not known.
    """
    if ckpt is None:
        return _by_tag(str(arch), pretrained)
    path = Path(ckpt)
    if path.is_dir():
        return _folder(path)
    if not path.exists():
        path = _checkpoint_of_run(store, ckpt)
    content = read_tensors(path)
    if "clip" in content and "recipe" in content:
        return _ours(path)
    return _open_clip_file(path, content, arch)


def _checkpoint_of_run(store: Store, name: str) -> Path:
    if Path(name).suffix in (".pt", ".bin", ".safetensors"):
        raise UserError(f"--ckpt {name}: no such checkpoint file")
    run = store.run(name)
    folder = store.folder(run) / "checkpoints"
    try:
        return newest_checkpoint(folder)[0]
    except FileNotFoundError:
        raise UserError(
            f"run {run.id}: no usable checkpoint in {folder}; train it again or name a file"
        ) from None


def _ours(path: Path) -> LoadedModel:
    content = load_checkpoint(path)
    recipe = validate(json.loads(content["recipe"]), str(path))
    ids = content["vocabulary"]
    vocabulary = None if ids is None else Vocabulary(ids, full_vocabulary(recipe.model))
    towers = build_towers(recipe.model.model_copy(update={"pretrained": None}), vocabulary)
    if recipe.model.arch and recipe.model.pretrained:
        settings = preprocessing_of_tag(recipe.model.arch, recipe.model.pretrained, towers.preprocessing)
        set_model_preprocess_cfg(towers.clip, settings)
    towers.clip.load_state_dict(content["clip"])
    return LoadedModel(
        towers=towers,
        checkpoint_hash=weights_hash(content["clip"], content["head"]),
        step=content["step"],
        run_id=content["run"],
        resolved=recipe.model_dump(mode="json"),
        source=str(path),
        recipe=recipe,
        seed=content["seed"],
    )


def preprocessing_of_tag(arch: str, pretrained: str, settings: dict[str, Any]) -> dict[str, Any]:
    """`settings` (open_clip's preprocessing) with what the pretrained tag changes, such as another mean.

    A run that started from a tag was trained on pictures prepared so; nothing is downloaded to know it.
    """
    tag = open_clip.get_pretrained_cfg(arch, pretrained) or {}
    return {name: tag.get(name, value) for name, value in settings.items()}


def _by_tag(arch: str, pretrained: str | None) -> LoadedModel:
    torch.manual_seed(0)  # so that an untrained architecture is one definite model too
    towers = build_towers(Model(arch=arch, pretrained=pretrained))
    name = f"{arch}-{Path(pretrained).stem if pretrained else 'random'}"
    source = f"open_clip {arch}, {pretrained or 'random weights of seed 0'}"
    return _external(towers, name, {"arch": arch, "pretrained": pretrained}, source)


def _folder(path: Path) -> LoadedModel:
    """An open_clip model folder: open_clip_config.json beside the weights."""
    if not (path / CONFIG).is_file():
        raise UserError(
            f"--ckpt {path}: a folder without {CONFIG}; name a checkpoint file, a run's id or a model folder"
        )
    if not any(path.glob(pattern) for pattern in ("*.safetensors", "*.bin", "*.pth")):
        raise UserError(f"--ckpt {path}: {CONFIG} is there but no weights (*.safetensors, *.bin or *.pth)")
    towers = local_towers(path, weights=True)
    return _external(towers, path.resolve().name, {"folder": path.name}, f"open_clip model folder {path}")


def local_towers(path: Path, weights: bool) -> Towers:
    """Towers of the open_clip model folder `path`, with its weights or random ones. Raises UserError."""
    try:
        with quiet():
            clip = open_clip.create_model(f"local-dir:{path}", load_weights=weights)
            tokenizer = open_clip.get_tokenizer(f"local-dir:{path}")
        config = json.loads((path / CONFIG).read_text(encoding="utf-8"))["model_cfg"]
    except Exception as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"{path}: open_clip cannot load this model folder: {first}") from None
    return Towers(cast(CLIP, clip), tokenizer, int(config["text_cfg"].get("context_length", 77)))


def _open_clip_file(path: Path, content: dict[str, Any], arch: str | None) -> LoadedModel:
    """A checkpoint of open_clip's training loop, or bare weights, with or without `module.` prefixes."""
    state = content.get("state_dict", content)
    if not state or not all(isinstance(value, Tensor) for value in state.values()):
        raise UserError(f"{path}: neither a gaprun checkpoint nor weights of an open_clip model")
    state = {name.removeprefix("module."): value for name, value in state.items()}
    known = arch or _recorded_architecture(path)
    if known is None:
        raise UserError(f"{path}: the file does not say which architecture it holds; add --model ARCH")
    if known.startswith("local-dir:"):
        towers = local_towers(Path(known.removeprefix("local-dir:")), weights=False)
    else:
        towers = build_towers(Model(arch=known))
    try:
        towers.clip.load_state_dict(state)
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).splitlines()[1:]]
        raise UserError(
            f"{path}: its weights do not fit {known} ({(lines or ['?'])[0][:160]}); name another --model"
        ) from None
    name = f"{path.parent.parent.name if path.parent.name == 'checkpoints' else known}-{path.stem}"
    loaded = _external(towers, name, {"arch": known, "checkpoint": path.name}, str(path))
    loaded.step = int(content["epoch"]) if isinstance(content.get("epoch"), int) else 0
    return loaded


def _recorded_architecture(path: Path) -> str | None:
    """The `model:` line of the params.txt that open_clip's training loop writes above its checkpoints."""
    for folder in (path.parent, path.parent.parent):
        try:
            text = (folder / "params.txt").read_text(encoding="utf-8")
        except OSError:
            continue
        found = re.search(r"^model: (\S+)$", text, re.MULTILINE)
        if found:
            return found.group(1)
    return None


def _external(towers: Towers, name: str, model: dict[str, Any], source: str) -> LoadedModel:
    clean = re.sub(r"[^A-Za-z0-9._+=,-]", "-", name)
    identity = weights_hash(towers.clip.state_dict(), {})
    return LoadedModel(
        towers=towers,
        checkpoint_hash=identity,
        step=0,
        run_id=f"{clean}-{identity[:8]}",
        resolved={"name": clean, "model": model},
        source=source,
    )
