"""Models of Hugging Face transformers in a folder: our embeddings are those of transformers' own calls."""

import io
import json
import shutil

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from torch.nn.functional import normalize

from gaprun.errors import Failure, UserError
from gaprun.evaluation.embed import StoredEmbedder
from gaprun.jobs.load import load_model
from gaprun.model.hub import HubAway
from gaprun.store import open_store

transformers = pytest.importorskip("transformers", reason="pip install -e .[dev]")
pytestmark = pytest.mark.filterwarnings("ignore")

TEXTS = [
    "a red dog",
    "two cats on a mat, and one more!!!",
    "",
    "one, two, three, four, five, six, seven, eight, nine, ten, eleven, twelve, thirteen",
    "A Red DOG",
]
TEXT = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
IMAGE = {**TEXT, "image_size": 24, "patch_size": 8}


class Pictures:
    """A source of pictures of several shapes, each with one of TEXTS."""

    dataset, split, fingerprint, samples = "drawn", "test", "f", len(TEXTS)
    keys = [str(i) for i in range(len(TEXTS))]
    captions = [[text] for text in TEXTS]

    # Once the shorter side is 24, as many pixels stand over on both sides: transformers and open_clip crop an odd
    # border one pixel apart.
    shapes = [(48, 56), (30, 40), (40, 30), (24, 24), (60, 90)]

    def picture(self, i):
        return Image.fromarray(
            np.random.default_rng(i).integers(0, 256, (*self.shapes[i], 3), dtype=np.uint8)
        )

    def read_image(self, i):
        file = io.BytesIO()
        self.picture(i).save(file, "png")
        return file.getvalue()


def clip_words():
    """CLIP's vocabulary in transformers' tokenizer; open_clip has the merges."""
    words = open_clip.SimpleTokenizer()
    names = {"<start_of_text>": "<|startoftext|>", "<end_of_text>": "<|endoftext|>"}
    vocab = {names.get(token, token): i for token, i in words.encoder.items()}
    return transformers.CLIPTokenizer(vocab=vocab, merges=sorted(words.bpe_ranks, key=words.bpe_ranks.get))


def letter_words():
    """A tokenizer of letters, quick to load; its end token is not the largest id, and pads."""
    letters = sorted(set("".join(TEXTS).lower()) - {" "})
    tokens = [
        "!",
        "<|startoftext|>",
        "<|endoftext|>x",
        "<|endoftext|>",
        *letters,
        *(f"{c}</w>" for c in letters),
    ]
    return transformers.CLIPTokenizer(vocab={t: i for i, t in enumerate(dict.fromkeys(tokens))}, merges=[])


def clip(folder, words=letter_words):
    tokenizer = words()
    tokenizer.save_pretrained(folder)
    text = {
        "max_position_embeddings": 16,
        "vocab_size": len(tokenizer),
        "eos_token_id": tokenizer.eos_token_id,
    }
    config = transformers.CLIPConfig(text_config={**TEXT, **text}, vision_config=IMAGE, projection_dim=20)
    square = {"height": 24, "width": 24}
    transformers.CLIPImageProcessor(size={"shortest_edge": 24}, crop_size=square).save_pretrained(folder)
    return transformers.CLIPModel(config)


def sentences(folder):
    """SigLIP's tokenizer over a small vocabulary of its own."""
    import sentencepiece

    text = folder / "words.txt"
    text.write_text("\n".join(TEXTS * 20))
    options = {
        "vocab_size": 60,
        "hard_vocab_limit": False,
        "pad_id": 1,
        "eos_id": 2,
        "unk_id": 0,
        "bos_id": -1,
    }
    sentencepiece.SentencePieceTrainer.train(
        input=str(text), model_prefix=str(folder / "spiece"), minloglevel=2, eos_piece="</s>", **options
    )
    made = transformers.SiglipTokenizer(str(folder / "spiece.model"), pad_token="<pad>", model_max_length=12)
    made.save_pretrained(folder)
    return {**TEXT, "vocab_size": 80, "max_position_embeddings": 12, "projection_size": 32}


def siglip(folder):
    config = transformers.SiglipConfig(text_config=sentences(folder), vision_config=IMAGE)
    transformers.SiglipImageProcessor(size={"height": 24, "width": 24}).save_pretrained(folder)
    return transformers.SiglipModel(config)


def siglip2(folder):
    tokens = ["<pad>", "<eos>", "<bos>", "<unk>", "▁", *sorted(set("".join(TEXTS).lower()) - {" "})]
    words = transformers.Siglip2Tokenizer(
        vocab={t: i for i, t in enumerate(tokens)}, merges=[], model_max_length=12
    )
    words.save_pretrained(folder)
    text = {**TEXT, "vocab_size": len(tokens), "max_position_embeddings": 12, "projection_size": 32}
    image = {**TEXT, "patch_size": 8, "num_patches": 16}
    config = transformers.Siglip2Config(text_config=text, vision_config=image)
    transformers.Siglip2ImageProcessor(patch_size=8, max_num_patches=16).save_pretrained(folder)
    return transformers.Siglip2Model(config)


def chinese_clip(folder):
    letters = sorted(set("".join(TEXTS).lower()) - {" "})
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{letter}" for letter in letters)]
    transformers.BertTokenizer(
        vocab={t: i for i, t in enumerate(tokens)}, model_max_length=30
    ).save_pretrained(folder)
    config = transformers.ChineseCLIPConfig(
        text_config={**TEXT, "vocab_size": len(tokens), "max_position_embeddings": 40},
        vision_config=IMAGE,
        projection_dim=20,
    )
    square = {"height": 24, "width": 24}
    transformers.ChineseCLIPImageProcessor(size=square, crop_size=square).save_pretrained(folder)
    return transformers.ChineseCLIPModel(config)


def saved(folder, make):
    folder.mkdir()
    torch.manual_seed(0)
    model = make(folder).eval()
    with torch.no_grad():  # random weights alone give all pictures nearly one embedding
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    model.save_pretrained(folder)
    return model


@pytest.fixture
def store(tmp_path):
    return open_store(str(tmp_path / "r.db"))


def theirs(model, folder, **texts):
    """Unit features of every picture and text by transformers alone, one at a time, as its documentation shows."""
    processor = transformers.AutoImageProcessor.from_pretrained(folder)
    words = transformers.AutoTokenizer.from_pretrained(folder)
    pictures, captions = [], []
    with torch.no_grad():
        for i, text in enumerate(TEXTS):
            picture = processor(images=[Pictures().picture(i)], return_tensors="pt")
            pictures.append(model.get_image_features(**picture).pooler_output)
            tokens = words([text], truncation=True, return_tensors="pt", **texts)
            tokens = {k: v for k, v in tokens.items() if k == "input_ids" or not texts.get("padding")}
            captions.append(model.get_text_features(**tokens).pooler_output)
    return [normalize(torch.cat(rows), dim=-1).numpy() for rows in (pictures, captions)]


FIXED = {"padding": "max_length", "max_length": 12}


@pytest.mark.parametrize(
    ("make", "texts"),
    [(clip, {"max_length": 16}), (siglip, FIXED), (siglip2, FIXED), (chinese_clip, {"max_length": 30})],
    ids=["clip", "siglip", "siglip2", "chinese_clip"],
)
def test_embeddings_are_those_of_transformers(make, texts, store, tmp_path):
    model = saved(tmp_path / "model", make)
    loaded = load_model(store, str(tmp_path / "model"), None, None)
    embedder = StoredEmbedder(loaded.towers, loaded.checkpoint_hash, None, torch.device("cpu"), batch_size=3)
    found = embedder.embeddings(Pictures())
    pictures, captions = theirs(model, tmp_path / "model", **texts)
    np.testing.assert_allclose(found.images, pictures, atol=1e-5)
    np.testing.assert_allclose(found.texts, captions, atol=1e-5)
    # The rows differ from each other by far more than that.
    assert min(np.abs(rows[0] - rows[1]).max() for rows in (found.images, found.texts)) > 1e-2
    assert loaded.resolved["model"]["transformers"] == type(model).__name__ and not loaded.remarks


def test_a_clip_of_transformers_gives_open_clips_embeddings(store, tmp_path):
    """The same weights under both programs' names, so that the reference is another implementation."""
    model = saved(tmp_path / "model", lambda folder: clip(folder, clip_words))
    config = {
        "embed_dim": 20,
        "quick_gelu": True,
        "vision_cfg": {
            "image_size": 24,
            "layers": 2,
            "width": 32,
            "head_width": 16,
            "patch_size": 8,
            "mlp_ratio": 1.5,
        },
        "text_cfg": {
            "context_length": 16,
            "vocab_size": 49408,
            "width": 32,
            "heads": 2,
            "layers": 2,
            "mlp_ratio": 1.5,
        },
    }
    (tmp_path / "open").mkdir()
    (tmp_path / "open" / "open_clip_config.json").write_text(
        json.dumps({"model_cfg": config, "preprocess_cfg": {}})
    )
    torch.save(as_open_clip(model.state_dict()), tmp_path / "open" / "open_clip_pytorch_model.bin")
    rows = []
    for name in ("model", "open"):
        loaded = load_model(store, str(tmp_path / name), None, None)
        embedder = StoredEmbedder(loaded.towers, loaded.checkpoint_hash, None, torch.device("cpu"))
        rows.append(embedder.embeddings(Pictures()))
    np.testing.assert_allclose(rows[0].texts, rows[1].texts, atol=1e-5)
    # Pictures are resized by torchvision's rule on one side and Pillow's on the other, which round differently.
    assert (rows[0].images * rows[1].images).sum(1).min() > 0.995


def as_open_clip(state):
    names = {
        "self_attn.out_proj": "attn.out_proj", "layer_norm1": "ln_1", "layer_norm2": "ln_2", "mlp.fc1": "mlp.c_fc",
        "mlp.fc2": "mlp.c_proj",
    }  # fmt: skip
    found = {
        "positional_embedding": state["text_model.embeddings.position_embedding.weight"],
        "token_embedding.weight": state["text_model.embeddings.token_embedding.weight"],
        "text_projection": state["text_projection.weight"].T,
        "logit_scale": state["logit_scale"],
        "visual.class_embedding": state["vision_model.embeddings.class_embedding"],
        "visual.positional_embedding": state["vision_model.embeddings.position_embedding.weight"],
        "visual.conv1.weight": state["vision_model.embeddings.patch_embedding.weight"],
        "visual.proj": state["visual_projection.weight"].T,
    }
    for part in ("weight", "bias"):
        found[f"ln_final.{part}"] = state[f"text_model.final_layer_norm.{part}"]
        found[f"visual.ln_pre.{part}"] = state[f"vision_model.pre_layrnorm.{part}"]
        found[f"visual.ln_post.{part}"] = state[f"vision_model.post_layernorm.{part}"]
        for theirs, ours in (("text_model", ""), ("vision_model", "visual.")):
            for layer in range(2):
                old, new = f"{theirs}.encoder.layers.{layer}", f"{ours}transformer.resblocks.{layer}"
                for name, renamed in names.items():
                    found[f"{new}.{renamed}.{part}"] = state[f"{old}.{name}.{part}"]
                heads = [state[f"{old}.self_attn.{kind}_proj.{part}"] for kind in "qkv"]
                found[f"{new}.attn.in_proj_{part}"] = torch.cat(heads)
    return found


# What does not fit is refused


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    folder = tmp_path_factory.mktemp("kept") / "model"
    saved(folder, clip)
    return folder


@pytest.fixture
def place(kept, tmp_path):
    return shutil.copytree(kept, tmp_path / "model")


def changed(place, **values):
    path = place / "config.json"
    config = json.loads(path.read_text())
    for name, value in values.items():
        part, _, key = name.rpartition("__")
        (config[part] if part else config)[key] = value
    path.write_text(json.dumps(config))


def without(place, name):
    from safetensors.torch import load_file, save_file

    state = load_file(place / "model.safetensors")
    state.pop(name)
    save_file(state, place / "model.safetensors", {"format": "pt"})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda p: changed(p, model_type="blip"), "model_type 'blip' is none of clip, siglip, siglip2, chinese_clip"),
        (lambda p: changed(p, auto_map={"AutoModel": "code.Model"}), "code of its own"),
        (lambda p: changed(p, quantization_config={"quant_method": "x"}), "quantised weights"),
        (lambda p: (p / "adapter_config.json").write_text("{}"), "adapter"),
        (lambda p: (p / "config.json").write_text("{"), "cannot be read as JSON"),
        (lambda p: without(p, "text_projection.weight"), "they lack text_projection.weight"),
        (lambda p: changed(p, vision_config__num_hidden_layers=1), "they hold vision_model.encoder.layers.1"),
        (lambda p: changed(p, vision_config__num_hidden_layers=3), "they lack vision_model.encoder.layers.2"),
        (lambda p: changed(p, projection_dim=10), "mismatch|another shape"),
        (lambda p: changed(p, text_config__eos_token_id=7), "pools texts at token 7 and the tokenizer ends them"),
        (lambda p: (p / "model.safetensors").unlink(), "transformers cannot build this model"),
        (lambda p: (p / "model.safetensors").write_bytes(b"abc"), "transformers cannot build this model"),
        (lambda p: (p / "preprocessor_config.json").unlink(), "transformers cannot build this model"),
        (lambda p: [f.unlink() for f in p.glob("tokenizer*")], "cannot build this model|tokenizer"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_one_line(change, words, place, store):
    change(place)
    with pytest.raises(UserError, match=words) as caught:
        load_model(store, str(place), None, None)
    assert "\n" not in str(caught.value)


def test_two_folders_of_one_model_are_one_model_and_half_precision_is_said(kept, place, store):
    first, second = (load_model(store, str(folder), None, None) for folder in (kept, place))
    assert first.identity() == second.identity() and first.run_id == second.run_id
    changed(place, dtype="float16")
    (said,) = load_model(store, str(place), None, None).remarks
    assert "holds float16; measured in fp32" in said


def test_no_folder_makes_transformers_ask_the_network(place, store, monkeypatch):
    import socket

    asked = []
    monkeypatch.setattr(socket, "getaddrinfo", lambda *a, **k: asked.append(a))
    changed(place, _name_or_path="nobody/nothing")
    for file in place.glob("tokenizer*"):
        file.unlink()
    with pytest.raises(UserError):
        load_model(store, str(place), None, None)
    assert asked == []


def test_a_hub_model_of_transformers_is_found_where_open_clip_has_none(kept, store, monkeypatch):
    from gaprun.model import foreign

    def absent(name):
        raise Failure(f"{name}: could not be downloaded (404)")

    monkeypatch.setattr(foreign, "named_config", absent)
    monkeypatch.setattr(foreign, "transformers_snapshot", lambda name: kept)
    loaded = load_model(store, "hf-hub:openai/clip-tiny", None, None)
    assert loaded.source == "hf-hub:openai/clip-tiny" and loaded.run_id.startswith("clip-tiny-")
    assert loaded.resolved["model"]["hub"] == "openai/clip-tiny"

    def away(name):
        raise HubAway("away")

    monkeypatch.setattr(foreign, "transformers_snapshot", away)
    with pytest.raises(Failure, match="could not be downloaded"):
        load_model(store, "hf-hub:openai/clip-tiny", None, None)
