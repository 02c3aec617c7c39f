"""Towers: exact trimmed text path, the used vocabulary, and clear failures for names and downloads."""

import numpy as np
import pytest
import torch

from gaprun.errors import Failure, UserError
from gaprun.model.spec import Inline, Model
from gaprun.model.towers import build_towers, original_tokens, tokenizer_for, trimmed
from gaprun.model.vocabulary import UNKNOWN, Vocabulary

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


def test_a_shared_tower_is_one_for_both() -> None:
    """Shared by identity: counted once, saved and loaded, with the gradients of both modalities added up."""
    vision = {"layers": 2, "width": 32, "head_width": 16, "patch_size": 8}
    text = {"layers": 2, "width": 32, "heads": 2}
    model = Model(inline={"embed_dim": 16, "vision": vision, "text": text, "shared": True})
    towers, apart = build_towers(model), build_towers(Model(inline=dict(model.inline) | {"shared": False}))
    clip = towers.clip
    shared = [*clip.visual.transformer.parameters(), *clip.visual.ln_post.parameters(), clip.visual.proj]
    count = [sum(p.numel() for p in t.clip.parameters()) for t in (towers, apart)]
    assert count[1] - count[0] == sum(p.numel() for p in shared)
    pictures, tokens = torch.randn(3, 3, 32, 32), torch.from_numpy(towers.tokenize(TEXTS[:3]))
    grads = []
    for out in (clip.encode_image(pictures), clip.encode_text(tokens)):
        grads.append(torch.autograd.grad(out.square().sum(), shared))
    (clip.encode_image(pictures).square().sum() + clip.encode_text(tokens).square().sum()).backward()
    for p, a, b in zip(shared, *grads, strict=True):
        torch.testing.assert_close(p.grad, a + b)
        assert a.abs().max() > 0 and b.abs().max() > 0
    again = build_towers(model)
    again.clip.load_state_dict(clip.state_dict())
    assert torch.equal(again.clip.encode_text(tokens), clip.encode_text(tokens))
    assert again.clip.transformer is again.clip.visual.transformer
    with pytest.raises(ValueError, match="shared needs a ViT"):
        Inline(shared=True)
    with pytest.raises(ValueError, match="shared needs a ViT"):
        Inline(vision=vision, text=text | {"heads": 4}, shared=True)


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

    monkeypatch.setattr(open_clip, "download_pretrained", offline)
    with pytest.raises(Failure, match="with network access open_clip keeps them"):
        build_towers(Model(arch="RN50", pretrained="openai"))
