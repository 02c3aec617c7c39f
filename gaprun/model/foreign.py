"""Models that gaprun did not train: open_clip's checkpoints, model folders, tags and hub models.

What a params.txt or open_clip_config.json says is used; what nothing says is assumed and named in the remarks. Only the
user's own words (`hf-hub:`, a tag, `--model`) ask the network: what a file names must lie on this machine.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from numbers import Integral
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gaprun.errors import Failure, UserError
from gaprun.model.hub import NetworkRefused, offline, transformers_snapshot
from gaprun.model.huggingface import is_transformers, transformers_towers
from gaprun.model.openclip import (
    CONFIG,
    FOLDER,
    HUB,
    Settings,
    checked_picture,
    first_line,
    folder_config,
    from_hub,
    named_config,
    named_tokenizer,
    tag_settings,
)
from gaprun.model.params import trained_beside
from gaprun.model.spec import Model
from gaprun.model.towers import Towers, build_towers, context_length_of, towers_of
from gaprun.model.weights import are_openai, has_custom_text, load_weights, model_state, read_tensors

# The order in which open_clip looks for a folder's weights.
WEIGHTS = (
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.safetensors",
    "open_clip_pytorch_model.bin",
    "open_clip_pytorch_model.pth",
    "model.safetensors",
    "pytorch_model.bin",
    "pytorch_model.pth",
    "model.pth",
)


@dataclass
class Foreign:
    """A model of another program: `name` and `model` are what its run will say of it, `source` where it lay."""

    towers: Towers
    name: str
    model: dict[str, Any]
    source: str
    step: int = 0
    seed: int | None = None
    remarks: tuple[str, ...] = ()


def clean(name: str) -> str:
    """`name` as the name of a recipe or run: other signs become `-`, at most 100 of them."""
    return re.sub(r"[^A-Za-z0-9._+=,-]", "-", name).lstrip("._+=,-")[:100] or "model"


def tag_model(arch: str, pretrained: str | None) -> Foreign:
    """open_clip's architecture with the weights of a tag, or with random ones of seed 0 (`pretrained` None)."""
    torch.manual_seed(0)  # so that an untrained architecture is one definite model too
    towers = build_towers(Model(arch=arch, pretrained=pretrained))
    remarks = []
    if tag_settings(arch, pretrained).quick_gelu and not named_config(arch).get("quick_gelu"):
        remarks.append(f"{arch} {pretrained}: built with QuickGELU, as its weights were trained")
    source = f"open_clip {arch}, {pretrained or 'random weights of seed 0'}"
    name = f"{arch}-{pretrained or 'random'}"
    return Foreign(towers, name, {"arch": arch, "pretrained": pretrained}, source, remarks=tuple(remarks))


def hub_model(name: str) -> Foreign:
    """The model `hf-hub:OWNER/NAME`, downloaded because the user says so. Raises Failure, UserError."""
    try:
        named_config(name)
    except Failure:  # no open_clip_config.json there
        if (folder := _snapshot(name.removeprefix(HUB))) is None:
            raise
        return _of_transformers(folder, name.removeprefix(HUB))
    config, weights = from_hub(name)
    towers = _assembled(str(config), config.parent, name, read_tensors(weights), weights, network=True)
    return Foreign(towers, name.rsplit("/", 1)[-1], {"hub": name.removeprefix(HUB)}, name)


def is_model(folder: Path) -> bool:
    """Whether `folder` is a model folder of open_clip or transformers."""
    return (folder / CONFIG).is_file() or is_transformers(folder)


def folder_model(folder: Path) -> Foreign:
    """A model folder: open_clip_config.json beside the weights, else transformers' config.json. Raises UserError."""
    if not (folder / CONFIG).is_file():
        if is_transformers(folder):
            return _of_transformers(folder)
        raise UserError(
            f"--ckpt {folder}: a folder without {CONFIG}, config.json or checkpoints; name a checkpoint file, a run's "
            "id or a model folder"
        )
    weights, *others = _weights_in(folder)
    name, short = f"{FOLDER}{folder}", folder.resolve().name
    remarks: list[str] = []
    towers = _assembled(str(folder), folder, name, read_tensors(weights), weights, False, remarks)
    if others:
        beside = ", ".join(path.name for path in others)
        remarks.append(
            f"{folder}: {weights.name} is measured, by open_clip's order of names; {beside} is not"
        )
    source = f"open_clip model folder {folder}"
    return Foreign(towers, short, {"folder": short}, source, remarks=tuple(remarks))


def _snapshot(name: str) -> Path | None:
    """The hub's model `name` where it is one of transformers and not of open_clip; None otherwise."""
    try:
        folder = transformers_snapshot(name)
    except Exception:
        return None
    return folder if is_transformers(folder) else None


def _of_transformers(folder: Path, name: str | None = None) -> Foreign:
    with _words(str(folder), network=False, by="transformers"):
        towers = transformers_towers(folder)
    kind = towers.architecture["transformers"]
    short = folder.resolve().name if name is None else name.rsplit("/", 1)[-1]
    model = {"transformers": kind, **({"folder": short} if name is None else {"hub": name})}
    source = f"transformers {kind} in {folder}" if name is None else f"{HUB}{name}"
    return Foreign(towers, short, model, source)


def _weights_in(folder: Path) -> list[Path]:
    found = sorted(path for end in ("safetensors", "bin", "pth") for path in folder.glob(f"*.{end}"))
    if not found:
        raise UserError(f"--ckpt {folder}: {CONFIG} is there but no weights (*.safetensors, *.bin or *.pth)")
    known = [folder / name for name in WEIGHTS if folder / name in found]
    if not known and len(found) > 1:
        raise UserError(
            f"--ckpt {folder}: several weights files ({', '.join(p.name for p in found[:4])}): name one, "
            f"--ckpt FILE --model {FOLDER}{folder}"
        )
    return known or found


def _assembled(
    what: str,
    folder: Path,
    tokenizer: str,
    content: dict[str, Any],
    weights: Path,
    network: bool,
    remarks: list[str] | None = None,
) -> Towers:
    config, picture = folder_config(folder)
    state = model_state(content, weights, remarks)
    settings = _of_weights(Settings(picture=checked_picture(what, picture)), state)
    with _words(what, network):
        words = named_tokenizer(tokenizer)
        towers = towers_of(settings.applied(config), settings, words, context_length_of(config))
    load_weights(towers.clip, state, f"{weights}: its weights do not fit {CONFIG}")
    return towers


def file_model(path: Path, content: dict[str, Any], arch: str | None) -> Foreign:
    """A checkpoint of open_clip's training loop, or bare weights; `arch` is the user's own word for what it holds.

    A params.txt beside it or above says how it was built. Raises UserError where nothing says the architecture, or
    the weights do not fit it.
    """
    if "clip" in content and "recipe" in content:
        raise UserError(f"{path} is a gaprun checkpoint: --ckpt {path}, without --model")
    remarks: list[str] = []
    state = model_state(content, path, remarks)
    trained = trained_beside(path)
    known = arch or (trained.arch if trained else None)
    if known is None:
        way_out = f"--ckpt {path.parent} does" if is_model(path.parent) else "add --model ARCH"
        raise UserError(f"{path}: the file does not say which architecture it holds; {way_out}")
    remarks += trained.remarks if trained else ()
    if are_openai(state):
        remarks.append(f"{path}: OpenAI's weights, built with QuickGELU as they were trained")
    if trained is None:
        remarks.append(
            f"{path}: no params.txt beside it; activation and picture settings are those of {known}"
        )
    elif arch is not None and trained.arch not in (None, arch):
        remarks.append(f"{trained.path} says model {trained.arch}; --model {arch} is taken, the rest is used")
    kinds = {str(value.dtype).removeprefix("torch.") for value in state.values() if value.is_floating_point()}
    if kinds - {"float32"}:
        remarks.append(f"{path}: holds {', '.join(sorted(kinds))}; measured in fp32")
    towers = _named_towers(path, known, trained.settings if trained else Settings(), state, arch is not None)
    load_weights(towers.clip, state, f"{path}: its weights do not fit {known}; name another --model")
    place = path.absolute().parent
    short = known.removeprefix(FOLDER).rstrip("/").rsplit("/", 1)[-1]
    step = content.get("epoch")
    return Foreign(
        towers=towers,
        name=f"{place.parent.name if place.name == 'checkpoints' else short}-{path.stem}",
        model={"arch": known, "checkpoint": path.name},
        source=str(path),
        step=int(step) if isinstance(step, Integral) and 0 <= int(step) < 2**63 else 0,
        seed=trained.seed if trained else None,
        remarks=tuple(remarks),
    )


def _named_towers(
    path: Path, known: str, settings: Settings, state: dict[str, Tensor], asked: bool
) -> Towers:
    """Random towers of `known` as `settings` change it; a file's word (not `asked`) never reaches the network."""
    what = f"--model {known}" if asked else f"{path}: params.txt's model {known}"
    if known.startswith(HUB) and not asked:
        raise UserError(f"{what} lies on a model hub, which only you may ask for: add --model {known}")
    if known.startswith(FOLDER):
        config, picture = folder_config(Path(known.removeprefix(FOLDER)))
    elif known.startswith(HUB):
        config, picture = folder_config(from_hub(known)[0].parent)
    else:
        config, picture = named_config(known), {}
    settings = replace(settings, picture={**checked_picture(what, picture), **settings.picture})
    settings = _of_weights(settings, state)
    with _words(what, network=asked and not known.startswith(FOLDER)):
        tokenizer = named_tokenizer(known)
        length = settings.context_length or context_length_of(config)
        return towers_of(settings.applied(config), settings, tokenizer, length)


def _of_weights(settings: Settings, state: dict[str, Tensor]) -> Settings:
    """`settings` with what the weights' own names say: a text tower kept apart, a learned bias."""
    apart = has_custom_text(state) or None
    learned = "logit_bias" in state or None
    return replace(
        settings,
        quick_gelu=settings.quick_gelu or are_openai(state) or None,
        custom_text=settings.custom_text or apart,
        logit_bias=settings.logit_bias or learned,
    )


@contextmanager
def _words(what: str, network: bool, by: str = "open_clip") -> Iterator[None]:
    """Around building what `what` names: errors become one line, and without `network` nothing is fetched."""
    try:
        with nullcontext() if network else offline():
            yield
    except UserError:
        raise
    except Exception as error:
        if not network and _refused(error):
            raise UserError(
                f"{what}: needs files of a model hub ({first_line(error)}), and no file makes gaprun ask the network: "
                "put them beside it, or name the model yourself with --model"
            ) from None
        kind = Failure if network else UserError
        raise kind(f"{what}: {by} cannot build this model ({first_line(error)})") from None


def _refused(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, NetworkRefused) or "no file makes gaprun ask" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False
