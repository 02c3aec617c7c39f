"""Models of Hugging Face transformers, from a folder: config.json, safetensors, image processor and tokenizer files.

Model, tokenizer and image processor are transformers' own, so features are too; nothing is converted. Needs the extra
`gaprun[transformers]`. Nothing is fetched and no code from the folder runs.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from gaprun.errors import UserError
from gaprun.extras import require
from gaprun.model.openclip import first_line
from gaprun.model.towers import Towers

if TYPE_CHECKING:
    from gaprun.model.vocabulary import Tokens

CONFIG = "config.json"
_MISFITS = {"missing_keys": "lack", "mismatched_keys": "have another shape of", "unexpected_keys": "hold"}
# What changes from one save of the same model to the next.
_CIRCUMSTANCE = ("_name_or_path", "transformers_version", "torch_dtype", "dtype", "architectures")


@dataclass(frozen=True)
class _Kind:
    """How one of transformers' model classes takes texts, as its own processor feeds it.

    fixed: texts are padded to the full context, which the model sees; else to the longest, and what is padding is
    masked (masked) or comes after the token that is pooled (causal attention).
    """

    model: str
    fixed: bool = False
    masked: bool = False


KINDS = {
    "clip": _Kind("CLIPModel"),
    "siglip": _Kind("SiglipModel", fixed=True),
    "siglip2": _Kind("Siglip2Model", fixed=True),
    "chinese_clip": _Kind("ChineseCLIPModel", masked=True),
}


class Pair(nn.Module):
    """A transformers model with the names that the embedder calls; its features are transformers' own."""

    def __init__(self, model: nn.Module, padding: int | None) -> None:
        """`padding`: the id that is masked in texts, None where the model takes no mask."""
        super().__init__()
        self.model, self.padding = model, padding

    def encode_image(self, pictures: Mapping[str, Tensor]) -> Tensor:
        """Features (B, d) of what the image processor made, by its names (pixel_values, ...)."""
        return _features(cast(Any, self.model).get_image_features(**pictures))

    def encode_text(self, tokens: Tensor) -> Tensor:
        """Features (B, d) of int64 ids (B, L)."""
        mask = {} if self.padding is None else {"attention_mask": (tokens != self.padding).long()}
        return _features(cast(Any, self.model).get_text_features(input_ids=tokens, **mask))


def _features(output: Any) -> Tensor:
    """Newer transformers give an object, older ones the tensor itself."""
    return cast(Tensor, getattr(output, "pooler_output", output))


@dataclass(frozen=True)
class Words:
    """transformers' tokenizer as a callable; what is not `tokenizer` is plain, and says which ids texts get."""

    tokenizer: Any
    kind: str
    files: str
    padding: str

    def __call__(self, texts: list[str], context_length: int) -> Tensor:
        """int64 ids (len(texts), L), L at most `context_length`; longer texts are cut before their end token."""
        options = {"padding": self.padding, "truncation": True, "max_length": context_length}
        return cast(Tensor, self.tokenizer(texts, return_tensors="pt", **options)["input_ids"])


@dataclass
class TransformersTowers(Towers):
    """Towers whose parts are transformers' own; `clip` is a `Pair`, `processor` the image processor."""

    processor: Any = field(kw_only=True)
    pad: int = field(kw_only=True)
    fixed: bool = field(kw_only=True)

    @property
    def preprocessing(self) -> dict[str, Any]:
        """The image processor's settings."""
        found: dict[str, Any] = json.loads(json.dumps(self.processor.to_dict(), default=str))
        return found

    @property
    def trimmable(self) -> bool:
        """Never by open_clip's rule, which takes the largest id for the end: see `without_padding`."""
        return False

    def without_padding(self, tokens: Tokens) -> Tokens:
        """`tokens` (n, L) without the columns that are padding in every row, but the first: it may end a text."""
        if self.fixed:
            return tokens
        used = np.flatnonzero((tokens != self.pad).any(0))
        return tokens[:, : int(used[-1]) + 2] if len(used) else tokens

    def encode_text(self, tokens: Tensor) -> Tensor:
        """Text features (B, d) of int64 ids (B, L)."""
        return self.clip.encode_text(tokens)

    def preprocess(self) -> Callable[[Image.Image], dict[str, Tensor]]:  # type: ignore[override]
        """transformers' image processor: PIL picture -> what the image tower takes, by name."""

        return partial(_prepared, self.processor)


def _prepared(processor: Any, picture: Image.Image) -> dict[str, Tensor]:
    return {name: value[0] for name, value in processor(images=[picture], return_tensors="pt").items()}


def is_transformers(folder: Path) -> bool:
    """Whether `folder` holds a model of transformers."""
    return (folder / CONFIG).is_file()


def transformers_towers(folder: Path) -> TransformersTowers:
    """The model in `folder` in fp32, by transformers' own classes.

    Raises UserError for a model of another kind, missing parts, and weights that do not fit in name or shape.
    """
    config = _config(folder)
    kind = KINDS.get(str(config.get("model_type")))
    if kind is None:
        raise UserError(
            f"{folder / CONFIG}: model_type {str(config.get('model_type'))[:60]!r} is none of {', '.join(KINDS)}"
        )
    for name, what in (("quantization_config", "quantised weights"), ("auto_map", "code of its own")):
        if config.get(name):
            raise UserError(f"{folder / CONFIG}: {what} ({name}), which gaprun does not load")
    if (folder / "adapter_config.json").exists():
        raise UserError(
            f"{folder}: an adapter (adapter_config.json): merge it into the weights and save those"
        )
    library = _library()
    local = {"local_files_only": True, "trust_remote_code": False}
    processor = library.AutoImageProcessor.from_pretrained(folder, **local)
    tokenizer = library.AutoTokenizer.from_pretrained(folder, **local)
    model, report = getattr(library, kind.model).from_pretrained(
        folder, local_files_only=True, dtype=torch.float32, output_loading_info=True
    )
    _check_complete(folder, report)
    _check_end_token(folder, model.config, tokenizer)
    text = model.config.text_config
    length = min(int(text.max_position_embeddings), int(tokenizer.model_max_length))
    pad = tokenizer.pad_token_id
    if pad is None:
        raise UserError(f"{folder}: its tokenizer has no padding token")
    stored = str(config.get("dtype") or config.get("torch_dtype") or "float32")
    words = Words(
        tokenizer, type(tokenizer).__name__, _files(folder), "max_length" if kind.fixed else "longest"
    )
    return TransformersTowers(
        clip=cast(Any, Pair(model, pad if kind.masked else None)),
        tokenizer=words,
        context_length=length,
        architecture={"transformers": kind.model, "config": _lasting(config)},
        remarks=() if stored == "float32" else (f"{folder}: holds {stored}; measured in fp32",),
        processor=processor,
        pad=int(pad),
        fixed=kind.fixed,
    )


def _library() -> Any:
    transformers = require("transformers", "transformers")
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    return transformers


def _config(folder: Path) -> dict[str, Any]:
    path = folder / CONFIG
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: cannot be read as JSON ({first_line(error)})") from None
    if not isinstance(found, dict):
        raise UserError(f"{path}: must be an object with names")
    return found


def _lasting(config: Any) -> Any:
    """`config` without what says how it was saved, at every level."""
    if isinstance(config, dict):
        return {name: _lasting(value) for name, value in config.items() if name not in _CIRCUMSTANCE}
    return config


def _check_complete(folder: Path, report: Mapping[str, Any]) -> None:
    """transformers fills what a file lacks with random numbers and leaves out what it does not know; here both are
    refused. Position ids are no weights: older releases saved them."""
    for what, said in _MISFITS.items():
        names = sorted(str(name) for name in report.get(what, ()) if not str(name).endswith("position_ids"))
        if names:
            more = f" and {len(names) - 1} more" if len(names) > 1 else ""
            raise UserError(f"{folder}: its weights do not fit {CONFIG}: they {said} {names[0]}{more}")


def _check_end_token(folder: Path, config: Any, tokenizer: Any) -> None:
    """CLIP pools at the end token: where the two files mean different ids, every text would get the same features."""
    end = getattr(config.text_config, "eos_token_id", None)
    if config.model_type != "clip" or end in (
        2,
        tokenizer.eos_token_id,
    ):  # 2: older files, pooled at the largest id
        return
    raise UserError(
        f"{folder}: {CONFIG} pools texts at token {end} and the tokenizer ends them with {tokenizer.eos_token_id}"
    )


def _files(folder: Path) -> str:
    """sha256 of the tokenizer's files."""
    names = (
        "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.json",
        "merges.txt", "vocab.txt", "spiece.model", "tokenizer.model",
    )  # fmt: skip
    digest = hashlib.sha256()
    for name in names:
        if (folder / name).is_file():
            digest.update(name.encode() + b"\0" + hashlib.sha256((folder / name).read_bytes()).digest())
    return digest.hexdigest()
