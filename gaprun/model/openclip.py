"""Models built by open_clip from a named configuration and explicit settings, so that what was built can be said.

`build` sees nothing but a configuration and the picture settings: the two of them, with the tokenizer, are the
architecture that `gaprun.model.identity` keeps. Warnings of open_clip are collected and handed on, never dropped.
"""

from __future__ import annotations

import copy
import difflib
import inspect
import json
import logging
import math
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, cast

import open_clip
import open_clip.pretrained
import torch
from open_clip.coca_model import CoCa
from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg, CustomTextCLIP, set_model_preprocess_cfg
from open_clip.transform import PreprocessCfg, merge_preprocess_dict
from torch import Tensor

from gaprun.errors import Failure, UserError
from gaprun.model.hub import NetworkRefused, hub_asked

CONFIG = "open_clip_config.json"
SHARED = "shared_transformer"  # ours: both towers have one transformer, last normalisation and projection
HUB, FOLDER = "hf-hub:", "local-dir:"
INTERPOLATIONS, RESIZE_MODES = ("bicubic", "bilinear", "random"), ("shortest", "longest", "squash")
Tokenizer = Callable[..., Tensor]
_HUB_TEXT = {"hf_model_name", "hf_tokenizer_name"}  # a text tower or its tokenizer lies on the hub


@dataclass(frozen=True)
class Settings:
    """What changes a named architecture, in the words of open_clip's `create_model`; None leaves what it says.

    `picture` holds any of PreprocessCfg's mean, std, interpolation, resize_mode and fill_color.
    """

    quick_gelu: bool | None = None
    custom_text: bool | None = None
    image_size: int | tuple[int, int] | None = None
    context_length: int | None = None
    logit_bias: bool | None = None
    picture: Mapping[str, Any] = field(default_factory=dict)

    def applied(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """open_clip's configuration `config` with these settings; it is not changed itself."""
        changed = copy.deepcopy(dict(config))
        for name in ("quick_gelu", "custom_text"):
            if getattr(self, name) is not None:
                changed[name] = getattr(self, name)
        if self.image_size is not None:
            changed["vision_cfg"]["image_size"] = self.image_size
        if self.context_length is not None:
            changed["text_cfg"]["context_length"] = self.context_length
        if self.logit_bias:
            changed["init_logit_bias"] = changed.get("init_logit_bias") or -10.0
        return changed


def named_config(arch: str) -> dict[str, Any]:
    """open_clip's configuration of `arch`: a name of its list, or `hf-hub:` and `local-dir:`, which only the user's own
    words may name. Raises UserError naming the nearest architecture."""
    if arch.startswith(FOLDER):
        return folder_config(Path(arch.removeprefix(FOLDER)))[0]
    if arch.startswith(HUB):
        try:
            return folder_config(_from_hub(arch, CONFIG).parent)[0]
        except NetworkRefused:
            raise
        except Exception as error:
            raise Failure(f"{arch}: could not be downloaded ({first_line(error)})") from None
    config = open_clip.get_model_config(arch)
    if config is None:
        near = difflib.get_close_matches(arch, open_clip.list_models(), 3, 0.4)
        hint = f"; did you mean {', '.join(near)}?" if near else ""
        raise UserError(f"model.arch {arch}: open_clip has no such architecture{hint}")
    return config


def folder_config(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """`model_cfg` and `preprocess_cfg` of the model folder `folder`. Raises UserError for what they cannot be."""
    path = folder / CONFIG
    try:
        whole = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{folder}: no {CONFIG} there, so it is not an open_clip model folder") from None
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: cannot be read as JSON ({first_line(error)})") from None
    config = whole.get("model_cfg") if isinstance(whole, dict) else None
    picture = whole.get("preprocess_cfg") or {} if isinstance(whole, dict) else {}
    if not isinstance(config, dict) or not isinstance(picture, dict):
        raise UserError(f"{path}: model_cfg and preprocess_cfg must be objects with names")
    for part in ("vision_cfg", "text_cfg"):
        if not isinstance(config.get(part), dict):
            raise UserError(f"{path}: model_cfg has no {part}")
    if "embed_dim" not in config:
        raise UserError(f"{path}: model_cfg has no embed_dim")
    if _mentions(config, "trust_remote_code"):
        raise UserError(f"{path}: asks to run code of its own (trust_remote_code), which gaprun never does")
    return config, picture


def _mentions(value: Any, name: str) -> bool:
    if isinstance(value, dict):
        return bool(value.get(name)) or any(_mentions(part, name) for part in value.values())
    return isinstance(value, list) and any(_mentions(part, name) for part in value)


def build(config: Mapping[str, Any], picture: Mapping[str, Any], resized: bool = False) -> CLIP:
    """An open_clip model of `config` with random weights, on the default device in fp32, in training mode.

    `picture` overrides PreprocessCfg's defaults but for the size, which is the image tower's; `resized` says that the
    image size is not the architecture's own. No weights are fetched; a text tower of a model hub has its configuration
    fetched (see `offline`).
    """
    given = copy.deepcopy(dict(config))
    vision, text = given["vision_cfg"], given["text_cfg"]
    shared = given.pop(SHARED, False)
    custom = given.pop("custom_text", False) or "hf_model_name" in text
    kind: Any = CoCa if custom and "multimodal_cfg" in given else CustomTextCLIP if custom else CLIP
    if "timm_model_name" in vision:
        vision["timm_model_pretrained"] = False
    if "hf_model_name" in text:
        text["hf_model_pretrained"] = False
    known = inspect.signature(kind.__init__).parameters
    unknown = sorted(set(given) - set(known))
    if unknown:
        raise UserError(f"this open_clip's {kind.__name__} has no option {', '.join(unknown)}")
    with _hub_if("hf_model_name" in text or str(vision.get("timm_model_name")).startswith("hf")):
        model = kind(**given)
    model = model.to(torch.empty(0).device)  # `meta` where parameters are only counted
    if shared:
        image = model.visual
        model.transformer, model.ln_final, model.text_projection = (
            image.transformer,
            image.ln_post,
            image.proj,
        )
    if resized and "timm_model_name" in vision and hasattr(model.visual, "set_input_size"):
        model.visual.set_input_size(vision["image_size"])
    settings = merge_preprocess_dict(PreprocessCfg(), dict(picture))
    settings["size"] = getattr(model.visual, "image_size", settings["size"])
    set_model_preprocess_cfg(model, settings)
    return cast(CLIP, model)


def checked_picture(source: str, picture: Mapping[str, Any]) -> dict[str, Any]:
    """The picture settings in `picture` that open_clip knows. Raises UserError for values that cannot be such."""
    found: dict[str, Any] = {}
    for name in ("mean", "std"):
        if (value := picture.get(name)) is not None:
            found[name] = _triple(source, name, value)
    for name, allowed in (("interpolation", INTERPOLATIONS), ("resize_mode", RESIZE_MODES)):
        if (value := picture.get(name)) is not None:
            if value not in allowed:
                raise UserError(f"{source}: {name} {str(value)[:60]!r} is none of {', '.join(allowed)}")
            found[name] = value
    if (value := picture.get("fill_color")) is not None:
        if not isinstance(value, int) or not 0 <= value < 256:
            raise UserError(f"{source}: fill_color {str(value)[:60]!r} is not a number from 0 to 255")
        found["fill_color"] = value
    if picture.get("mode", "RGB") != "RGB":
        raise UserError(f"{source}: pictures of mode {picture['mode']!r}; only RGB is known")
    return found


def _triple(source: str, name: str, value: Any) -> tuple[float, ...]:
    values = value if isinstance(value, list | tuple) else [value]
    values = [*values] * 3 if len(values) == 1 else [*values]
    if len(values) != 3 or not all(isinstance(v, int | float) and math.isfinite(v) for v in values):
        raise UserError(f"{source}: {name} must be three numbers, it is {str(value)[:60]!r}")
    if name == "std" and not all(v > 0 for v in values):
        raise UserError(f"{source}: std must be above 0, it is {str(value)[:60]!r}")
    if any(abs(v) > 10 for v in values):
        raise UserError(
            f"{source}: {name} {str(value)[:60]!r} is of pixels from 0 to 255; open_clip's are 0 to 1: divide it by 255"
        )
    return tuple(float(v) for v in values)


def tag_settings(arch: str, tag: str | None) -> Settings:
    """What the pretrained tag says of its weights: activation and picture settings. Nothing is downloaded."""
    known = open_clip.get_pretrained_cfg(arch, tag) if tag else None
    if not known:
        return Settings()
    names = ("mean", "std", "interpolation", "resize_mode", "fill_color")
    picture = {name: known[name] for name in names if known.get(name) is not None}
    return Settings(quick_gelu=bool(known.get("quick_gelu", False)), picture=picture)


def canonical(config: Mapping[str, Any]) -> dict[str, Any]:
    """`config` without what is a default anyway or does not change features, as plain JSON values."""
    ignored = ("init_logit_scale", "init_logit_bias", "output_dict", "cast_dtype")
    plain = {name: value for name, value in config.items() if name not in ignored}
    defaults = {"vision_cfg": asdict(CLIPVisionCfg()), "text_cfg": asdict(CLIPTextCfg())}
    for part, known in defaults.items():
        known |= {"timm_model_pretrained": ..., "hf_model_pretrained": ...}
        plain[part] = {
            name: value
            for name, value in _json(plain[part]).items()
            if name not in known or (known[name] is not ... and value != _json(known[name]))
        }
    for name in ("quick_gelu", "custom_text", SHARED):
        if not plain.get(name):
            plain.pop(name, None)
    found: dict[str, Any] = _json(plain)
    return found


def _json(value: Any) -> Any:
    return json.loads(json.dumps(value))


@cache
def clip_tokenizer() -> Tokenizer:
    """CLIP's own tokenizer, read once: its merges take a tenth of a second, and a run needs it three times."""
    return open_clip.SimpleTokenizer()


def named_tokenizer(name: str) -> Tokenizer:
    """open_clip's tokenizer of an architecture, `local-dir:` folder or `hf-hub:` model."""
    with _hub_if(name.startswith(HUB) or bool(_HUB_TEXT & _text_config(name).keys())):
        found: Tokenizer = open_clip.get_tokenizer(name)
    return found


def _text_config(name: str) -> dict[str, Any]:
    return {} if name.startswith((HUB, FOLDER)) else named_config(name)["text_cfg"]


def _hub_if(needed: bool) -> AbstractContextManager[None]:
    return hub_asked() if needed else nullcontext()


@contextmanager
def collected(remarks: list[str]) -> Iterator[None]:
    """Within the block, what open_clip and its libraries warn of goes to `remarks`, each text once."""

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            note(record.getMessage())

    def note(text: str) -> None:
        line = " ".join(text.split())
        if line not in remarks:
            remarks.append(line)

    root, handler = logging.getLogger(), Handler(logging.WARNING)
    others, root.handlers = root.handlers, [handler]
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("default", UserWarning)
            yield
    finally:
        root.handlers = others
    for warning in caught:
        note(str(warning.message))


def from_hub(name: str) -> tuple[Path, Path]:
    """Configuration and weights file of `hf-hub:NAME`, downloaded (or found in the hub's cache). Raises Failure."""
    try:
        return _from_hub(name, CONFIG), _from_hub(name, None)
    except Exception as error:
        raise Failure(f"{name}: could not be downloaded ({first_line(error)})") from None


def _from_hub(name: str, file: str | None) -> Path:
    with hub_asked():
        return Path(open_clip.pretrained.download_pretrained_from_hf(name.removeprefix(HUB), filename=file))


def first_line(error: BaseException) -> str:
    """The first line of what `error` says, for a message of one line."""
    text = str(error).strip()
    return text.splitlines()[0][:200] if text else type(error).__name__
