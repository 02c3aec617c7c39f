"""The two towers: an open_clip model built by name or inline, with its tokenizer and picture preprocessing."""

from __future__ import annotations

import difflib
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import open_clip
import torch
from open_clip.model import CLIP, get_model_preprocess_cfg, set_model_preprocess_cfg
from open_clip.transform import PreprocessCfg, image_transform_v2
from open_clip.transformer import text_global_pool
from PIL import Image
from torch import Tensor, nn

from gaprun.errors import Failure, UserError
from gaprun.model.vocabulary import Tokens, Vocabulary
from gaprun.recipe.schema import Inline, Model

CLIP_VOCABULARY = 49408


@dataclass
class Towers:
    """A CLIP model with everything needed to feed it.

    `clip` (an open_clip CLIP, or its CustomTextCLIP) offers `encode_image`: (B, 3, S, S) -> (B, d), and
    `encode_text`: (B, context) -> (B, d).
    """

    clip: CLIP
    tokenizer: Callable[..., Tensor]
    context_length: int
    vocabulary: Vocabulary | None = None

    @property
    def preprocessing(self) -> dict[str, Any]:
        """open_clip's preprocessing settings: size, mean, std, interpolation, resize_mode."""
        return get_model_preprocess_cfg(self.clip)

    @property
    def image_size(self) -> int:
        """Side of the square input in pixels. Raises UserError for towers with another shape."""
        size = self.preprocessing["size"]
        if isinstance(size, int):
            return size
        if len(set(size)) != 1:
            raise UserError(f"the image tower takes {size[0]}x{size[1]} pixels; gaprun needs a square input")
        return int(size[0])

    @property
    def trimmable(self) -> bool:
        """Whether text features do not depend on padding: causal attention, pooled at the (largest) end token."""
        clip = self.clip
        causal = type(clip) is CLIP and clip.attn_mask is not None
        return causal and clip.text_pool_type == "argmax"

    def encode_text(self, tokens: Tensor) -> Tensor:
        """Text features (B, d) of int64 ids (B, L), where L may be shorter than the context if `trimmable`.

        open_clip's own encode_text insists on the full context, most of which is padding: MSCOCO's captions
        have about 15 of 77 tokens.
        """
        clip, length = self.clip, tokens.shape[1]
        if length == self.context_length:
            return clip.encode_text(tokens)
        dtype = clip.transformer.get_cast_dtype()
        x = clip.token_embedding(tokens).to(dtype) + clip.positional_embedding[:length].to(dtype)
        x = clip.transformer(x, attn_mask=clip.attn_mask[:length, :length])
        x = text_global_pool(clip.ln_final(x), tokens, clip.text_pool_type)
        projection = clip.text_projection
        if projection is None:
            return x
        return projection(x) if isinstance(projection, nn.Linear) else x @ projection

    def preprocess(self) -> Callable[[Image.Image], Tensor]:
        """open_clip's own evaluation transform: PIL picture -> normalised float (3, S, S)."""
        return image_transform_v2(PreprocessCfg(**self.preprocessing), is_train=False)

    def tokenize(self, texts: list[str]) -> Tokens:
        """int64 (len(texts), context_length) ids as the text tower takes them."""
        tokens = original_tokens(self.tokenizer, texts, self.context_length)
        return self.vocabulary(tokens) if self.vocabulary else tokens


def original_tokens(tokenizer: Callable[..., Tensor], texts: list[str], context_length: int) -> Tokens:
    """int64 (len(texts), context_length) ids of the tokenizer's own vocabulary; longer texts are cut."""
    if not texts:
        return np.zeros((0, context_length), dtype=np.int64)
    return tokenizer(texts, context_length=context_length).numpy().astype(np.int64)


def trimmed(tokens: Tokens) -> Tokens:
    """`tokens` (n, context) without the columns that are padding in every row, in steps of four columns.

    The end token has the largest id, so a row's length is its position plus one.
    """
    longest = int(tokens.argmax(1).max(initial=0)) + 1
    return tokens[:, : min(-(-longest // 4) * 4, tokens.shape[1])]


def tokenizer_for(model: Model) -> tuple[Callable[..., Tensor], int]:
    """The tokenizer of a recipe's model and its context length. Raises UserError for an unknown architecture."""
    if model.inline is not None:
        return open_clip.SimpleTokenizer(), model.inline.text.context_length
    assert model.arch is not None
    config = architecture_config(model.arch)
    try:
        tokenizer = open_clip.get_tokenizer(model.arch)
    except Exception as error:
        raise Failure(
            f"model.arch {model.arch}: its tokenizer comes from a model hub, which could not be reached "
            f"({_first_line(error)}); run once with network access, or choose an arch with CLIP's own tokenizer"
        ) from None
    return tokenizer, int(config["text_cfg"].get("context_length", 77))


def architecture_config(arch: str) -> dict[str, Any]:
    """open_clip's configuration of `arch`. Raises UserError naming the nearest architecture."""
    config = open_clip.get_model_config(arch)
    if config is None:
        near = difflib.get_close_matches(arch, open_clip.list_models(), 3, 0.4)
        hint = f"; did you mean {', '.join(near)}?" if near else ""
        raise UserError(f"model.arch {arch}: open_clip has no such architecture{hint}")
    return config


def embedding_size(model: Model) -> int:
    """Dimension d of the embeddings of a recipe's model."""
    if model.inline is not None:
        return model.inline.embed_dim
    return int(architecture_config(str(model.arch))["embed_dim"])


def full_vocabulary(model: Model) -> int:
    """Rows of the token embedding that the model's tokenizer needs."""
    if model.inline is not None:
        return CLIP_VOCABULARY
    return int(architecture_config(str(model.arch))["text_cfg"].get("vocab_size", CLIP_VOCABULARY))


def build_towers(model: Model, vocabulary: Vocabulary | None = None) -> Towers:
    """The towers of a recipe, initialised from torch's global generator (seed it first), on the CPU in fp32.

    Raises UserError for an unknown architecture or tag, Failure when a download does not succeed.
    """
    tokenizer, context_length = tokenizer_for(model)
    if model.inline is not None:
        clip = _inline(model.inline, vocabulary.size if vocabulary else CLIP_VOCABULARY)
    else:
        clip = _by_name(model, vocabulary)
    return Towers(clip, tokenizer, context_length, vocabulary)


def _inline(inline: Inline, vocab_size: int) -> CLIP:
    vision = inline.vision.model_dump(exclude_none=True)
    text = inline.text.model_dump() | {"vocab_size": vocab_size}
    clip = CLIP(inline.embed_dim, vision, text)
    if inline.shared:
        image = clip.visual
        clip.transformer, clip.ln_final, clip.text_projection = image.transformer, image.ln_post, image.proj
    settings = PreprocessCfg(size=inline.vision.image_size)
    set_model_preprocess_cfg(clip, dict(vars(settings)))
    return clip


def _by_name(model: Model, vocabulary: Vocabulary | None) -> CLIP:
    assert model.arch is not None
    options: dict[str, Any] = {}
    if vocabulary is not None:
        options["text_cfg"] = architecture_config(model.arch)["text_cfg"] | {"vocab_size": vocabulary.size}
    return load_open_clip(model.arch, model.pretrained, **options)


def load_open_clip(arch: str, pretrained: str | None, **options: Any) -> CLIP:
    """open_clip's `create_model`, quiet, with its failures as one line.

    Raises UserError for an unknown tag, Failure for a download that fails.
    """
    architecture_config(arch)
    tags = open_clip.list_pretrained_tags_by_model(arch)
    if pretrained is not None and pretrained not in tags and not _is_file(pretrained):
        near = difflib.get_close_matches(pretrained, tags, 1, 0.4)
        hint = f"; did you mean {near[0]}?" if near else f"; {arch} has: {', '.join(tags) or 'none'}"
        raise UserError(f"pretrained {pretrained}: neither a tag of {arch} nor a weights file{hint}")
    try:
        with quiet():
            model = open_clip.create_model(
                arch,
                pretrained=pretrained,
                pretrained_image=False,
                pretrained_text=False,
                device=torch.get_default_device(),  # `meta` where parameters are only counted
                **options,
            )
        return cast(CLIP, model)
    except Exception as error:
        if pretrained is None:
            raise Failure(f"model.arch {arch}: could not be built ({_first_line(error)})") from None
        what = "file could not be loaded" if _is_file(pretrained) else "weights could not be downloaded"
        raise Failure(
            f"{arch} {pretrained}: {what} ({_first_line(error)}); with network access open_clip keeps them in "
            "its cache, or give the path of a weights file as the tag"
        ) from None


@contextmanager
def quiet() -> Iterator[None]:
    """open_clip logs warnings and errors that ours repeat in one line; keep them off the screen."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        root.setLevel(level)


def _is_file(path: str) -> bool:
    return Path(path).is_file()


def _first_line(error: Exception) -> str:
    text = str(error).strip()
    return text.splitlines()[0][:200] if text else type(error).__name__
