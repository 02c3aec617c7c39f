"""The two towers: an open_clip model built by name or inline, with its tokenizer and picture preprocessing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from open_clip.model import CLIP, get_model_preprocess_cfg
from open_clip.tokenizer import SimpleTokenizer
from open_clip.transform import PreprocessCfg, image_transform_v2
from open_clip.transformer import text_global_pool
from PIL import Image
from torch import Tensor, nn

from gaprun.errors import Failure, UserError
from gaprun.model.openclip import (
    SHARED,
    Settings,
    build,
    canonical,
    clip_tokenizer,
    collected,
    first_line,
    named_config,
    named_tokenizer,
    tag_settings,
)
from gaprun.model.spec import Inline, Model
from gaprun.model.start import Start
from gaprun.model.vocabulary import Tokens, Vocabulary

CLIP_VOCABULARY = 49408
_OTHER_TABLE = {"hf_model_name", "hf_tokenizer_name"}


@dataclass
class Towers:
    """A CLIP model with everything needed to feed it.

    `clip` (an open_clip CLIP, or its CustomTextCLIP) offers `encode_image`: (B, 3, S, S) -> (B, d), and
    `encode_text`: (B, context) -> (B, d). `architecture` is the configuration that it was built from (`canonical`),
    `remarks` what open_clip warned of meanwhile. Measuring runs in the type `autocast` where one is named, and with
    `channels_last` in that memory format.
    """

    clip: CLIP
    tokenizer: Callable[..., Tensor]
    context_length: int
    architecture: dict[str, Any]
    vocabulary: Vocabulary | None = None
    remarks: tuple[str, ...] = ()
    autocast: Literal["bf16"] | None = None
    channels_last: bool = False

    @property
    def preprocessing(self) -> dict[str, Any]:
        """open_clip's preprocessing settings: size, mean, std, interpolation, resize_mode."""
        return get_model_preprocess_cfg(self.clip)

    @property
    def picture(self) -> dict[str, Any]:
        """`preprocessing` without the size, which is the architecture's, as plain values for a checkpoint."""
        settings = {name: value for name, value in self.preprocessing.items() if name != "size"}
        return {name: list(v) if isinstance(v, tuple) else v for name, v in settings.items()}

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

    def without_padding(self, tokens: Tokens) -> Tokens:
        """`tokens` (n, L) without columns that change no text feature, as `encode_text` takes them."""
        return trimmed(tokens) if self.trimmable else tokens

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


def trimmed(tokens: Tokens, step: int = 4) -> Tokens:
    """`tokens` (n, context) without the columns that are padding in every row, in steps of so many columns.

    The end token has the largest id, so a row's length is its position plus one.
    """
    longest = int(tokens.argmax(1).max(initial=0)) + 1
    return tokens[:, : min(-(-longest // step) * step, tokens.shape[1])]


def tokenizer_for(model: Model) -> tuple[Callable[..., Tensor], int]:
    """The tokenizer of a recipe's model and its context length. Raises UserError for an unknown architecture."""
    if model.inline is not None:
        return clip_tokenizer(), model.inline.text.context_length
    assert model.arch is not None
    config = named_config(model.arch)
    try:
        tokenizer = named_tokenizer(model.arch)
    except Exception as error:
        raise Failure(
            f"model.arch {model.arch}: its tokenizer comes from a model hub, which could not be reached "
            f"({first_line(error)}); run once with network access, or choose an arch with CLIP's own tokenizer"
        ) from None
    return tokenizer, context_length_of(config)


def context_length_of(config: dict[str, Any]) -> int:
    """Tokens a caption of open_clip's configuration."""
    return int(config["text_cfg"].get("context_length", 77))


def embedding_size(model: Model) -> int:
    """Dimension d of the embeddings of a recipe's model."""
    if model.inline is not None:
        return model.inline.embed_dim
    return int(named_config(str(model.arch))["embed_dim"])


def full_vocabulary(model: Model) -> int:
    """Rows of the token embedding that the model's tokenizer needs."""
    if model.inline is not None:
        return CLIP_VOCABULARY
    return int(named_config(str(model.arch))["text_cfg"].get("vocab_size", CLIP_VOCABULARY))


def model_config(model: Model) -> dict[str, Any]:
    """open_clip's `model_cfg` of a recipe's model, with the tokenizer's full vocabulary; `pretrained` is left aside."""
    if model.inline is None:
        assert model.arch is not None
        return named_config(model.arch)
    return inline_config(model.inline)


def inline_config(inline: Inline) -> dict[str, Any]:
    """open_clip's `model_cfg` of towers written in a recipe, and whether both share one transformer."""
    return {
        "embed_dim": inline.embed_dim,
        "vision_cfg": inline.vision.model_dump(mode="json", exclude_none=True),
        "text_cfg": inline.text.model_dump(mode="json") | {"vocab_size": CLIP_VOCABULARY},
        SHARED: inline.shared,
    }


def build_towers(
    model: Model, vocabulary: Vocabulary | None = None, picture: Mapping[str, Any] | None = None
) -> Towers:
    """The towers of a recipe, initialised from torch's global generator (seed it first), on the CPU in fp32.

    `picture`: settings in the place of the model's own (`data.normalisation`). A pretrained tag is built with the
    activation and picture settings that its weights were trained with; other weights must be of the recipe's
    architecture and vocabulary (start.py). Raises UserError for an unknown architecture or tag and for weights that do
    not fit, Failure when a download does not succeed.
    """
    if model.arch is not None:
        named_config(model.arch)  # an unknown name is the first thing to say
    start = None if model.pretrained is None else Start.of(model)
    settings = Settings() if model.arch is None else tag_settings(model.arch, model.pretrained)
    settings = replace(settings, picture={**settings.picture, **(picture or {})})
    trained = {} if start is None else start.picture
    towers = assemble(model, settings, vocabulary)
    if start is None:
        return towers
    differing = [
        name for name, value in trained.items() if _plain(towers.preprocessing[name]) != _plain(value)
    ]
    remarks = list(towers.remarks)
    if differing:
        remarks.append(
            f"{model.pretrained}: trained with another {', '.join(differing)} of pictures than is used here"
        )
    with collected(remarks):
        said = start.put_in(towers.clip, towers.architecture, vocabulary)
    return replace(towers, remarks=(*remarks, *said))


def assemble(model: Model, settings: Settings, vocabulary: Vocabulary | None = None) -> Towers:
    """The towers of a recipe's model changed by `settings`, with random weights whatever `pretrained` says."""
    tokenizer, context_length = tokenizer_for(model)
    config = settings.applied(model_config(model))
    if vocabulary is not None:
        config["text_cfg"]["vocab_size"] = vocabulary.size
    return towers_of(config, settings, tokenizer, settings.context_length or context_length, vocabulary)


def towers_of(
    config: dict[str, Any],
    settings: Settings,
    tokenizer: Callable[..., Tensor],
    context_length: int,
    vocabulary: Vocabulary | None = None,
) -> Towers:
    """Towers of open_clip's `config`, to which `settings` are applied already.

    Raises UserError for a tokenizer that does not fit it, and Failure.
    """
    remarks = [] if vocabulary is not None else _tokenizer_remarks(config, tokenizer)
    try:
        with collected(remarks):
            clip = build(config, settings.picture, resized=settings.image_size is not None)
    except UserError:
        raise
    except Exception as error:
        raise Failure(f"the towers could not be built ({first_line(error)})") from None
    return Towers(clip, tokenizer, context_length, canonical(config), vocabulary, tuple(remarks))


def _tokenizer_remarks(config: Mapping[str, Any], tokenizer: Callable[..., Tensor]) -> list[str]:
    """What CLIP's own tokenizer, which open_clip takes where a configuration names none, leaves of the text table.

    Raises UserError where the table lacks rows for its words.
    """
    rows = int(config["text_cfg"].get("vocab_size", CLIP_VOCABULARY))
    if (
        not isinstance(tokenizer, SimpleTokenizer)
        or config["text_cfg"].keys() & _OTHER_TABLE
        or rows == CLIP_VOCABULARY
    ):
        return []
    said = f"text_cfg has vocab_size {rows:,} and names no tokenizer; CLIP's has {CLIP_VOCABULARY:,} words"
    way_out = "if the weights were trained with another one, name it as text_cfg.hf_tokenizer_name"
    if rows < CLIP_VOCABULARY:
        raise UserError(f"{said}, more than there are rows: {way_out}")
    return [f"{said}, which is used: {way_out}"]


def check_built_alike(architecture: dict[str, Any] | None, towers: Towers, model: Model) -> None:
    """Raise UserError unless a checkpoint whose towers were of `architecture` continues in `towers`, built of `model`.

    None: of an earlier version, which built a tag's weights with the architecture's own activation.
    """
    if architecture is None:
        architecture = towers.architecture
        if model.arch is not None and not named_config(model.arch).get("quick_gelu"):
            architecture = {name: value for name, value in architecture.items() if name != "quick_gelu"}
    if architecture != towers.architecture:
        raise UserError(
            "its checkpoints are of another architecture than this gaprun builds of the recipe (an activation, say): "
            "remove the run with `gaprun runs rm` to train it again"
        )


def count_parameters(model: Model) -> int:
    """Parameters of the towers, built without memory and without a network; the `used` vocabulary counts as full."""
    with torch.device("meta"):
        clip = build(model_config(model), {})
    return sum(parameter.numel() for parameter in clip.parameters())


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
