"""Towers: exact trimmed text path, the used vocabulary, and clear failures for names and downloads."""

import numpy as np
import pytest
import torch

from gaprun.errors import Failure, UserError
from gaprun.model.towers import build_towers, original_tokens, tokenizer_for, trimmed
from gaprun.model.vocabulary import UNKNOWN, Vocabulary
from gaprun.recipe.schema import Inline, Model

TEXTS = ["a cat", "two dogs play on the green grass near a very old tree", "!", "a picture of a red circle"]


@pytest.mark.parametrize("model", [Model(inline=Inline()), Model(arch="RN50")], ids=["inline", "RN50"])
def test_trimmed_text_features_are_exact(model: Model) -> None:
    torch.manual_seed(0)
    towers = build_towers(model)
    towers.clip.double()
    tokens = towers.tokenize(TEXTS)
    short = trimmed(tokens)
    assert towers.trimmable and short.shape[1] < tokens.shape[1] and short.shape[1] % 4 == 0
    with torch.no_grad():
        full = towers.clip.encode_text(torch.from_numpy(tokens))
        torch.testing.assert_close(towers.encode_text(torch.from_numpy(short)), full, rtol=1e-10, atol=1e-12)


def test_towers_whose_text_sees_padding_are_not_trimmed() -> None:
    towers = build_towers(Model(inline=Inline()))
    towers.clip.attn_mask = None
    assert not towers.trimmable


def test_used_vocabulary_maps_every_id_and_keeps_the_end_token_largest() -> None:
    tokenizer, context = tokenizer_for(Model(inline=Inline()))
    tokens = original_tokens(tokenizer, TEXTS, context)
    vocabulary = Vocabulary.used_in(tokens, 49408)
    mapped = vocabulary(tokens)
    assert mapped.max() == vocabulary.size - 1 and np.array_equal(mapped.argmax(1), tokens.argmax(1))
    assert (
        np.array_equal(mapped == 0, tokens == 0) and vocabulary.size == len(np.unique(tokens[tokens > 0])) + 2
    )
    inverse = np.array([0, -1, *vocabulary.ids])
    assert np.array_equal(inverse[mapped], tokens)
    unseen = vocabulary(original_tokens(tokenizer, ["zebra"], context))
    assert (unseen == UNKNOWN).sum() >= 1 and unseen.max() == vocabulary.size - 1


def test_unknown_names_are_corrected() -> None:
    with pytest.raises(UserError, match="did you mean RN50"):
        build_towers(Model(arch="RN5O"))
    with pytest.raises(UserError, match="did you mean openai"):
        build_towers(Model(arch="RN50", pretrained="opnai"))


def test_a_download_that_fails_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    import open_clip

    def offline(*args: object, **kwargs: object) -> None:
        raise RuntimeError("Failed to download weights for tag 'openai': no network")

    monkeypatch.setattr(open_clip, "create_model", offline)
    with pytest.raises(Failure, match="with network access open_clip keeps them"):
        build_towers(Model(arch="RN50", pretrained="openai"))
