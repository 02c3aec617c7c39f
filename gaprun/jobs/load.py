"""Finding the model that `gaprun eval` is asked about: a run, a checkpoint, a model folder, a tag or a hub model.

Names that a checkpoint brings (its run, its recipe) are checked here before anything is written under them. A
checkpoint counts as one of our run only when the run's seed, model and weights say so; a colleague's of the same
recipe and seed is measured as a run of its own.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import open_clip
import torch
from torch import Tensor

from gaprun.errors import UserError
from gaprun.files import plain_name
from gaprun.model import foreign
from gaprun.model.hub import offline
from gaprun.model.identity import ModelIdentity, identity_of
from gaprun.model.openclip import FOLDER, HUB, Settings, canonical, tag_settings
from gaprun.model.saved import intact_note, load_checkpoint, newest_checkpoint, weights_hash
from gaprun.model.spec import Model
from gaprun.model.towers import Towers, full_vocabulary, model_config, tokenizer_for, towers_of
from gaprun.model.vocabulary import Vocabulary
from gaprun.model.weights import read_tensors
from gaprun.recipe.identity import training_part
from gaprun.recipe.load import validate
from gaprun.recipe.schema import Recipe
from gaprun.store import Store
from gaprun.store.models import Run


@dataclass
class LoadedModel:
    """A model ready to be measured and the name under which its values are kept.

    `own` says that it is a checkpoint of the run `run_id` that this database trained. `head`: the learned scalars of
    our loss. `remarks`: what was assumed or left aside, for the person who asked.
    """

    towers: Towers
    checkpoint_hash: str
    step: int
    run_id: str
    resolved: dict[str, Any]
    source: str
    recipe: Recipe | None = None
    seed: int | None = None
    own: bool = False
    head: dict[str, Tensor] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)

    def identity(self, device: torch.device | str = "cpu") -> ModelIdentity:
        """What this model is when it is measured on `device`."""
        return identity_of(self.towers, self.checkpoint_hash, device)


def load_model(
    store: Store,
    ckpt: str | None,
    arch: str | None,
    pretrained: str | None,
    random: bool = False,
    step: int | None = None,
) -> LoadedModel:
    """The model that `--ckpt`, or `--model` with `--pretrained`, names; `arch` also tells what a bare .pt holds.

    `ckpt`: hf-hub:NAME, a model folder, a folder of checkpoints (its newest), a checkpoint, a run, or open_clip's
    ARCH/TAG. `random` asks for an architecture with random weights, `step` for a run's checkpoint of that step. Raises
    UserError when nothing is found, the file is damaged, or its architecture is not known.
    """
    if step is not None and (ckpt is None or Path(ckpt).exists() or ckpt.startswith((HUB, FOLDER))):
        raise UserError("--step names a checkpoint of a run: it goes with --ckpt RUN")
    if ckpt is None:
        return _by_name(store, str(arch), pretrained, random)
    if random:
        raise UserError(
            "--random measures an architecture without weights: it goes with --model and no --ckpt"
        )
    if ckpt.startswith(HUB):
        return _external(store, foreign.hub_model(ckpt))
    path, run = Path(ckpt.removeprefix(FOLDER)), None
    if path.is_dir():
        newest = None if foreign.is_model(path) else _newest_in(path)
        if newest is None:
            return _external(store, foreign.folder_model(path))
        path = newest
    elif not path.exists():
        named, _, tag = ckpt.rpartition("/")
        if named in open_clip.list_models():
            return _external(store, foreign.tag_model(named, tag))
        run, path = _checkpoint_of_run(store, ckpt, step)
    content = read_tensors(path)
    if "clip" in content and "recipe" in content:
        with offline():
            return _ours(store, path, run)
    return _external(store, foreign.file_model(path, content, arch))


def _newest_in(folder: Path) -> Path | None:
    """The newest checkpoint in `folder` or its `checkpoints`, of gaprun's or open_clip's loop; None without any.

    Raises UserError where gaprun's newest is damaged: an older one is measured only if it is named.
    """
    for place in (folder, folder / "checkpoints"):
        try:
            path, damaged = newest_checkpoint(place)
        except FileNotFoundError:
            numbers = {int(p.stem[6:]): p for p in place.glob("epoch_*.pt") if p.stem[6:].isdecimal()}
            if numbers:
                return numbers[max(numbers)]
            if (place / "epoch_latest.pt").is_file():
                return place / "epoch_latest.pt"
        else:
            if damaged:
                raise UserError(
                    f"{place}: its newest checkpoint {damaged[0].name} is damaged; name an older one to measure it: "
                    f"--ckpt {path}"
                )
            return path
    return None


def _by_name(store: Store, arch: str, pretrained: str | None, random: bool) -> LoadedModel:
    if pretrained is None and arch.startswith(HUB):
        return _external(store, foreign.hub_model(arch))
    if pretrained is None and not random:
        if arch.startswith(FOLDER):
            return _external(store, foreign.folder_model(Path(arch.removeprefix(FOLDER))))
        tags = open_clip.list_pretrained_tags_by_model(arch)
        known = (
            f"one of {', '.join(tags[:6])}{', ...' if len(tags) > 6 else ''}" if tags else "a weights file"
        )
        build = Model(arch=arch)
        model_config(build)  # an unknown name is the first thing to say
        raise UserError(
            f"--model {arch} has no weights: add --pretrained ({known}), or --random to measure random ones"
        )
    if pretrained is not None and random:
        raise UserError("--random measures an architecture without weights: leave out --pretrained")
    if pretrained is not None and Path(pretrained).is_file():
        path = Path(pretrained)
        return _external(store, foreign.file_model(path, read_tensors(path), arch))
    return _external(store, foreign.tag_model(arch, pretrained))


def _external(store: Store, found: foreign.Foreign) -> LoadedModel:
    """A model of another program under a name of its own, which tells apart models that differ in anything."""
    weights = weights_hash(found.towers.clip.state_dict(), {})
    identity = identity_of(found.towers, weights)
    name = foreign.clean(found.name)
    run_id = f"{name}-{weights[:8]}"
    resolved = {"name": name, "model": found.model | {"identity": identity.model}}
    before = _run(store, run_id)
    if before is not None and before.resolved_recipe.get("model", {}).get("identity") != identity.model:
        # The same weights measured as another model, or by an earlier version that kept no identity.
        resolved["name"] = f"{name}@{identity.model_id}"
        run_id = f"{name}-{identity.model_id}"
    return LoadedModel(
        towers=found.towers,
        checkpoint_hash=weights,
        step=found.step,
        run_id=plain_name(run_id, "run"),
        resolved=resolved,
        source=found.source,
        seed=found.seed,
        remarks=[*found.remarks, *found.towers.remarks],
    )


def _run(store: Store, run_id: str) -> Run | None:
    found = store.runs([f"id={run_id}"], light=False)
    return next((run for run in found if run.id == run_id), None)


def _checkpoint_of_run(store: Store, name: str, step: int | None) -> tuple[Run, Path]:
    """The run called `name` and its newest checkpoint, or that of `step`. Raises UserError where that one is gone or
    damaged: an older one is measured only if it is named."""
    if Path(name).suffix in (".pt", ".bin", ".safetensors"):
        raise UserError(f"--ckpt {name}: no such checkpoint file")
    try:
        run = store.run(name)
    except UserError:
        if name in open_clip.list_models():
            tags = open_clip.list_pretrained_tags_by_model(name)
            known = f"--ckpt {name}/TAG with a TAG of {', '.join(tags[:6])}" if tags else "a weights file"
            raise UserError(f"--ckpt {name} is an architecture without weights: name {known}") from None
        raise
    if run.kind == "external":
        raise UserError(f"run {run.id} was not trained here; name what it measured: {run.checkpoint}")
    folder = store.folder(run) / "checkpoints"
    if step is not None:
        path = folder / f"step-{step:08d}.pt"
        if intact_note(path) is None:
            kept = ", ".join(str(int(p.stem[5:])) for p in sorted(folder.glob("step-*.pt"))) or "none"
            raise UserError(
                f"--step {step}: run {run.id} has no intact checkpoint of that step, but of {kept}; its "
                "checkpoint.keep says how many stay"
            )
        return run, path
    try:
        path, damaged = newest_checkpoint(folder)
    except FileNotFoundError:
        raise UserError(
            f"run {run.id}: no usable checkpoint in {folder}: set GAPRUN_RUNS to the folder "
            f"that holds {run.id}, or name a checkpoint's file"
        ) from None
    older = f"name an older one to measure it: --ckpt {path}"
    if damaged:
        raise UserError(f"run {run.id}: its newest checkpoint {damaged[0].name} is damaged; {older}")
    if run.status == "finished" and run.checkpoint and Path(run.checkpoint).name != path.name:
        raise UserError(f"run {run.id}: its last checkpoint {Path(run.checkpoint).name} is gone; {older}")
    return run, path


def _ours(store: Store, path: Path, asked: Run | None) -> LoadedModel:
    content = load_checkpoint(path)
    run_id, seed, step = _labels(path, content)
    try:
        recipe = validate(json.loads(content["recipe"]), str(path))
    except (TypeError, ValueError) as error:
        raise UserError(f"{path}: its recipe cannot be read ({error})") from None
    towers = _our_towers(path, content, recipe)
    weights = weights_hash(content["clip"], content["head"])
    loaded = LoadedModel(
        towers=towers,
        checkpoint_hash=weights,
        step=step,
        run_id=run_id,
        resolved=recipe.model_dump(mode="json"),
        source=str(path),
        recipe=recipe,
        seed=seed,
        own=True,
        head=content["head"],
        remarks=list(towers.remarks),
    )
    run = _run(store, run_id)
    reason = "this database has no such run" if run is None else _not_of(store, run, path, loaded)
    if asked is not None and (reason or asked.id != run_id):
        said = reason or f"it says that it is of run {run_id}"
        raise UserError(f"{path} is not a checkpoint of run {asked.id}: {said}; train it again")
    if reason:
        short = loaded.identity().model_id
        loaded.own, loaded.run_id = False, plain_name(f"{run_id[:180]}-{short}", "run")
        loaded.resolved |= {"name": f"{recipe.name}@{short}"}
        loaded.remarks.append(f"{path} is not of run {run_id} here ({reason}): kept as run {loaded.run_id}")
    return loaded


def _labels(path: Path, content: dict[str, Any]) -> tuple[str, int, int]:
    """Run, seed and step that a checkpoint of ours brings. Raises UserError where they cannot be such."""
    run_id = plain_name(content.get("run", ""), f"{path}: its run")
    for name in ("seed", "step"):
        value = content.get(name)
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**63:
            raise UserError(f"{path}: its {name} {str(value)[:40]!r} is not a number from 0 on")
    if not isinstance(content.get("clip"), dict) or not isinstance(content.get("head"), dict):
        raise UserError(f"{path}: not a gaprun checkpoint")
    return run_id, content["seed"], content["step"]


def _our_towers(path: Path, content: dict[str, Any], recipe: Recipe) -> Towers:
    """The towers as they were built for training: by the architecture that the checkpoint says, or, in one of an
    earlier version, by the recipe's, whose activation was the architecture's whatever tag it started from."""
    model, ids = recipe.model, content.get("vocabulary")
    vocabulary = None
    if ids is not None:
        size = full_vocabulary(model)
        if not isinstance(ids, list) or not all(isinstance(i, int) and 0 < i < size for i in ids):
            raise UserError(f"{path}: its vocabulary is not a list of token ids")
        vocabulary = Vocabulary(ids, size)
    tag = tag_settings(str(model.arch), model.pretrained)
    config, picture = content.get("architecture") or model_config(model), content.get("preprocessing")
    if vocabulary is not None:
        config = config | {"text_cfg": config["text_cfg"] | {"vocab_size": vocabulary.size}}
    bias = "logit_bias" in content["clip"] or None
    settings = Settings(picture=tag.picture if picture is None else picture, logit_bias=bias)
    try:
        tokenizer, length = tokenizer_for(model)
        towers = towers_of(settings.applied(config), settings, tokenizer, length, vocabulary)
        towers.clip.load_state_dict(content["clip"])
    except (RuntimeError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: its weights do not fit its recipe ({str(error).splitlines()[0]})") from None
    return towers


def _not_of(store: Store, run: Run, path: Path, loaded: LoadedModel) -> str | None:
    """Why `loaded` is not a checkpoint of `run`; None where it is."""
    assert loaded.recipe is not None
    if run.kind != "train" or run.seed != loaded.seed:
        return "that one has another seed" if run.kind == "train" else "that one was not trained here"
    stored, own = (training_part(recipe).get("model") for recipe in (run.resolved_recipe, loaded.resolved))
    if stored != own:  # keys that an earlier version had not are at their defaults in both
        return "that one has another model"
    model, vocabulary = loaded.recipe.model, loaded.towers.vocabulary
    expected = []
    for settings in (tag_settings(str(model.arch), model.pretrained), Settings()):
        config = settings.applied(model_config(model))
        if vocabulary is not None:
            config["text_cfg"]["vocab_size"] = vocabulary.size
        expected.append(canonical(config))
    if loaded.towers.architecture not in expected:
        return "that one has another architecture"
    if loaded.checkpoint_hash == run.checkpoint_hash:
        return None
    folder = store.folder(run) / "checkpoints"
    if path.resolve().parent == folder.resolve():
        try:
            note = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
            if note["weights_hash"] == loaded.checkpoint_hash:
                return None
        except (OSError, ValueError, KeyError, TypeError):
            pass
    if any(row["checkpoint_hash"] == loaded.checkpoint_hash for row in store.metrics(run.id)):
        return None
    return "its weights are not that run's"
