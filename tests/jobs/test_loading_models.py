"""Models as other programs leave them, loaded as they were trained; names and network that no file may choose."""

import argparse
import json
import shutil
import socket

import numpy as np
import open_clip
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image

from gaprun.errors import Failure, UserError
from gaprun.jobs.load import load_model
from gaprun.model.hub import offline
from gaprun.model.openclip import Settings
from gaprun.model.params import trained_beside
from gaprun.model.weights import model_state, plain_tensor_name, read_tensors
from gaprun.store import NewRun, open_store
from tests.model.tiny import CONFIG, state_of

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture
def store(tmp_path):
    return open_store(str(tmp_path / "r.db"))


@pytest.fixture
def tiny(tmp_path):
    """An open_clip model folder without weights."""
    return folder(tmp_path / "tiny", CONFIG)


def folder(path, config, picture=None, state=None):
    path.mkdir(parents=True)
    whole = {"model_cfg": config, "preprocess_cfg": picture or {}}
    (path / "open_clip_config.json").write_text(json.dumps(whole))
    if state is not None:
        torch.save(state, path / "open_clip_pytorch_model.bin")
    return path


def built(tiny, **options):
    """open_clip's own model as its training loop builds it, and the transform of its evaluation."""
    torch.manual_seed(3)
    model, _, prepare = open_clip.create_model_and_transforms(
        f"local-dir:{tiny}", load_weights=False, **options
    )
    return model.eval(), prepare


def saved(tmp_path, tiny, state, run="run", **said):
    """A checkpoint where open_clip's loop leaves it, with the params.txt that it writes."""
    path = tmp_path / "logs" / run / "checkpoints" / "epoch_3.pt"
    path.parent.mkdir(parents=True)
    lines = {"model": f"local-dir:{tiny}", "name": run, "precision": "fp32", **said}
    (path.parent.parent / "params.txt").write_text("".join(f"{k}: {v}\n" for k, v in sorted(lines.items())))
    torch.save({"epoch": 3, "name": run, "state_dict": state}, path)
    return path


PICTURE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (50, 70, 3), dtype=np.uint8))
WORDS = ["a red dog", "two cats on a mat"]


def same_features(loaded, model, prepare, tokenizer):
    towers = loaded.towers
    towers.clip.eval()
    with torch.no_grad():
        torch.testing.assert_close(towers.preprocess()(PICTURE), prepare(PICTURE), rtol=0, atol=0)
        picture = prepare(PICTURE)[None]
        torch.testing.assert_close(towers.clip.encode_image(picture), model.encode_image(picture))
        tokens = torch.from_numpy(towers.tokenize(WORDS))
        torch.testing.assert_close(tokens, tokenizer(WORDS))
        torch.testing.assert_close(towers.encode_text(tokens), model.encode_text(tokens))


OPTIONS = {
    "plain": {},
    "quick": {"force_quick_gelu": True},
    "size": {"force_image_size": 64},
    "context": {"force_context_length": 9},
    "text": {"force_custom_text": True},
    "mean": {"image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.3, 0.4]},
    "squash": {"image_resize_mode": "squash", "image_interpolation": "bilinear"},
    "longest": {"image_resize_mode": "longest"},
    "all": {"force_quick_gelu": True, "force_image_size": 48, "image_resize_mode": "squash"},
}


@pytest.mark.parametrize("name", OPTIONS)
def test_params_txt_says_how_it_was_built(name, store, tmp_path, tiny):
    options = OPTIONS[name]
    model, prepare = built(tiny, **options)
    tokenizer = open_clip.get_tokenizer(
        f"local-dir:{tiny}", context_length=options.get("force_context_length")
    )
    path = saved(tmp_path, tiny, model.state_dict(), seed=7, **options)
    loaded = load_model(store, str(path), None, None)
    same_features(loaded, model, prepare, tokenizer)
    assert (loaded.step, loaded.seed, loaded.remarks) == (3, 7, []) and loaded.run_id.startswith(
        "run-epoch_3-"
    )


def test_image_size_of_two_sides_is_read_as_open_clip_does(tmp_path, tiny):
    path = saved(tmp_path, tiny, {}, force_image_size=[48])
    assert trained_beside(path).settings.image_size == 48
    path = saved(tmp_path, tiny, {}, run="two", force_image_size=[32, 48])
    assert trained_beside(path).settings.image_size == (32, 48)


def test_a_start_from_a_tag_gives_the_tags_picture_settings_and_not_its_activation(tmp_path, tiny):
    """open_clip's loop takes mean and std from the tag and warns of the activation, which it leaves as it is."""
    path = saved(tmp_path, tiny, {}, model="ViT-B-16-SigLIP", pretrained="webli")
    found = trained_beside(path)
    assert (
        found.settings.picture["mean"] == (0.5, 0.5, 0.5)
        and found.settings.picture["resize_mode"] == "squash"
    )
    path = saved(tmp_path, tiny, {}, run="b", model="ViT-B-32", pretrained="openai")
    assert trained_beside(path).settings.quick_gelu is None


def test_precision_and_layers_that_cannot_be_repeated_are_said(tmp_path, tiny):
    path = saved(tmp_path, tiny, {}, precision="amp_bf16", use_bnb_linear="SwitchBackLinearGlobal")
    assert (
        len(trained_beside(path).remarks) == 2
        and "amp_bf16; measured in fp32" in trained_beside(path).remarks[0]
    )


@pytest.mark.parametrize(
    "said, words",
    [
        ({"image_mean": "[0.5, 0.5]"}, "mean must be three numbers"),
        ({"image_std": "[0.5, 0, 0.5]"}, "std must be above 0"),
        ({"image_mean": "__import__('os')"}, "is no value of open_clip's"),
        ({"force_image_size": "True"}, "must be a positive number"),
        ({"force_image_size": "[0]"}, "must be a positive number"),
        ({"force_quick_gelu": "7"}, "neither True nor False"),
        ({"image_resize_mode": "stretch"}, "is none of shortest, longest, squash"),
        ({"wandb_notes": "x\nmodel: RN50"}, "says model twice"),
    ],
)
def test_a_params_txt_that_open_clip_did_not_write_is_refused_by_name(said, words, store, tmp_path, tiny):
    path = saved(tmp_path, tiny, {"a": torch.ones(1)}, **said)
    with pytest.raises(UserError, match=f"params.txt: .*{words}"):
        load_model(store, str(path), None, None)


PREFIXES = [
    "module.",
    "_orig_mod.",
    "module._orig_mod.",
    "_orig_mod.module.",
    "_fsdp_wrapped_module._orig_mod.",
]


@settings(max_examples=80, deadline=None)
@given(
    prefixes=st.lists(st.sampled_from(["module.", "_orig_mod.", "_fsdp_wrapped_module."]), max_size=5),
    name=st.sampled_from(
        ["logit_scale", "visual.conv1.weight", "transformer.resblocks.0.mlp.module.c_fc.weight"]
    ),
)
def test_wrappers_prefixes_go_in_any_combination(prefixes, name):
    assert plain_tensor_name("".join(prefixes) + name) == name


@pytest.mark.parametrize("prefix", PREFIXES)
def test_wrapped_and_plain_weights_are_one_model(prefix, store, tmp_path, tiny):
    state = built(tiny)[0].state_dict()
    plain = load_model(store, str(saved(tmp_path, tiny, state)), None, None)
    inner = {
        k.replace("resblocks.0.", "resblocks.0._checkpoint_wrapped_module."): v for k, v in state.items()
    }
    wrapped = saved(tmp_path, tiny, {prefix + k: v for k, v in inner.items()}, run="wrapped")
    assert load_model(store, str(wrapped), None, None).identity() == plain.identity()


def test_two_tensors_of_one_name_are_refused(tmp_path):
    with pytest.raises(UserError, match="holds a.b twice"):
        model_state({"state_dict": {"a.b": torch.ones(1), "module.a.b": torch.zeros(1)}}, tmp_path)


def test_a_text_table_of_another_size_than_the_tokenizers_is_told(store, tmp_path, tiny):
    """open_clip takes CLIP's tokenizer where a configuration names none, also for weights that knew other words."""
    for rows, name in ((1000, "small"), (60_000, "large")):
        config = {**CONFIG, "text_cfg": {**CONFIG["text_cfg"], "vocab_size": rows}}
        path = folder(tmp_path / name, config)
        torch.save(built(path)[0].state_dict(), path / "open_clip_pytorch_model.bin")
    with pytest.raises(
        UserError, match=r"vocab_size 1,000 and names no tokenizer.* name it as text_cfg.hf_tokeni"
    ):
        load_model(store, str(tmp_path / "small"), None, None)
    loaded = load_model(store, str(tmp_path / "large"), None, None)
    assert [line for line in loaded.remarks if "60,000 and names no tokenizer" in line]


def test_a_learned_bias_is_read_and_does_not_change_the_embeddings(store, tmp_path, tiny):
    model, prepare = built(tiny, init_logit_bias=-10.0)
    path = saved(tmp_path, tiny, model.state_dict(), siglip=True)
    loaded = load_model(store, str(path), None, None)
    same_features(loaded, model, prepare, open_clip.get_tokenizer(f"local-dir:{tiny}"))
    assert float(loaded.towers.clip.logit_bias) == -10.0
    state = {**built(tiny)[0].state_dict(), "logit_bias": torch.tensor([-3.5])}
    unsaid = saved(tmp_path, tiny, state, run="unsaid")  # without `siglip`, as one number in a list
    assert float(load_model(store, str(unsaid), None, None).towers.clip.logit_bias) == -3.5


def test_numbers_of_numpy_and_settings_beside_the_weights_are_read_and_code_is_not(tmp_path, store, tiny):
    state = built(tiny)[0].state_dict()
    path = saved(tmp_path, tiny, state)
    extra = {
        "epoch": np.int64(9), "best": np.float32(0.5), "curve": np.arange(3.0), "args": argparse.Namespace(lr=1e-3),
    }  # fmt: skip
    torch.save({"state_dict": state, **extra}, path)
    assert load_model(store, str(path), None, None).step == 9

    class Evil:
        def __reduce__(self):
            return (print, ("ran",))

    torch.save({"state_dict": state, "x": Evil()}, path)
    with pytest.raises(UserError, match="can be loaded safely"):
        read_tensors(path)


@pytest.mark.parametrize("place", ["model_state_dict", "model", "module"])
def test_other_loops_places_of_the_weights(place, store, tmp_path, tiny):
    state = built(tiny)[0].state_dict()
    torch.save({place: state, "optimizer": {"lr": 0.1}}, tmp_path / "w.pt")
    loaded = load_model(store, str(tmp_path / "w.pt"), f"local-dir:{tiny}", None)
    assert state_of(loaded.towers.clip) == state_of(built(tiny)[0])
    assert "no params.txt beside it" in loaded.remarks[0]


@pytest.mark.parametrize("front", ["model.", "net.clip.", "module.model."])
def test_a_module_around_the_model_is_taken_off_and_what_lies_beside_is_said(front, store, tmp_path, tiny):
    state = built(tiny)[0].state_dict()
    around = {f"{front}{name}": value for name, value in state.items()}
    losses = {"loss.scale": torch.ones(1), "loss.bias": torch.ones(1)}
    for beside, said in (({}, ""), (losses, "; left out beside it: loss.scale and 1 more")):
        torch.save({"state_dict": {**beside, **around}}, tmp_path / "w.ckpt")
        loaded = load_model(store, str(tmp_path / "w.ckpt"), f"local-dir:{tiny}", None)
        assert state_of(loaded.towers.clip) == state_of(built(tiny)[0])
        under = front.removeprefix("module.").rstrip(".")
        assert loaded.remarks[0].endswith(f"the model is what stands under {under}{said}")
    torch.save(
        {"state_dict": {**around, **{f"teacher.{k}": v for k, v in state.items()}}}, tmp_path / "w.ckpt"
    )
    with pytest.raises(UserError, match="holds several models .*teacher.*: save the state_dict of one"):
        load_model(store, str(tmp_path / "w.ckpt"), f"local-dir:{tiny}", None)


def test_averages_beside_the_weights_are_said_and_never_taken_for_them(store, tmp_path, tiny):
    state = built(tiny)[0].state_dict()
    average = {f"module.{name}": value + 1 for name, value in state.items()}
    torch.save({"ema": average, "state_dict": state, "optimizer": {"lr": torch.ones(1)}}, tmp_path / "w.pt")
    loaded = load_model(store, str(tmp_path / "w.pt"), f"local-dir:{tiny}", None)
    assert state_of(loaded.towers.clip) == state_of(built(tiny)[0])
    assert "those under state_dict are taken; it holds weights under ema too" in loaded.remarks[0]
    torch.save({"ema": average, "epoch": 3}, tmp_path / "w.pt")
    with pytest.raises(UserError, match="it holds weights under ema: save one of them alone"):
        load_model(store, str(tmp_path / "w.pt"), f"local-dir:{tiny}", None)


def test_a_folder_with_two_weights_of_known_names_says_which_is_measured(store, tmp_path, tiny):
    from safetensors.torch import save_file

    state = built(tiny)[0].state_dict()
    save_file(state, tiny / "open_clip_model.safetensors")
    torch.save({name: value + 1 for name, value in state.items()}, tiny / "pytorch_model.bin")
    loaded = load_model(store, str(tiny), None, None)
    assert state_of(loaded.towers.clip) == state_of(built(tiny)[0])
    assert (
        "open_clip_model.safetensors is measured" in loaded.remarks[0]
        and "pytorch_model.bin is not" in loaded.remarks[0]
    )


def test_openai_s_published_weights_are_built_with_quick_gelu(store, tmp_path, tiny):
    model, prepare = built(tiny, force_quick_gelu=True)
    numbers = {
        "input_resolution": torch.tensor(32),
        "context_length": torch.tensor(16),
        "vocab_size": torch.tensor(9),
    }
    torch.save({**model.state_dict(), **numbers}, tmp_path / "ViT.pt")
    loaded = load_model(store, str(tmp_path / "ViT.pt"), f"local-dir:{tiny}", None)
    same_features(loaded, model, prepare, open_clip.get_tokenizer(f"local-dir:{tiny}"))
    assert loaded.towers.architecture["quick_gelu"] and "QuickGELU" in loaded.remarks[0]


def test_what_is_no_floating_point_checkpoint_is_refused_by_its_kind(store, tmp_path, tiny):
    state = built(tiny)[0].state_dict()
    torch.save({name: (value * 100).to(torch.int8) for name, value in state.items()}, tmp_path / "int8.pt")
    torch.save(torch.nn.Linear(2, 2), tmp_path / "module.pt")
    torch.jit.script(torch.nn.Linear(2, 2)).save(str(tmp_path / "script.pt"))
    (tmp_path / "lfs.pt").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    for name, said in (
        ("int8.pt", "torch.int8: quantised weights are not loaded"),
        ("module.pt", r"holds a torch.nn.modules.linear.Linear; save the model's state_dict"),
        ("script.pt", "TorchScript archive, whose code is not run"),
        ("lfs.pt", "Git LFS pointer"),
    ):
        with pytest.raises(UserError, match=said):
            load_model(store, str(tmp_path / name), f"local-dir:{tiny}", None)


def test_nothing_is_resized_or_left_out_in_silence(store, tmp_path, tiny):
    big = folder(tmp_path / "big", {**CONFIG, "vision_cfg": {**CONFIG["vision_cfg"], "image_size": 64}})
    path = saved(tmp_path, tiny, built(big)[0].state_dict())
    with pytest.raises(UserError, match="do not fit local-dir.*positional_embedding"):
        load_model(store, str(path), None, None)
    half = {k: v.half() for k, v in built(tiny)[0].state_dict().items()}
    loaded = load_model(store, str(saved(tmp_path, tiny, half, run="half")), None, None)
    assert "holds float16; measured in fp32" in loaded.remarks[0]
    del half["logit_scale"]
    with pytest.raises(UserError, match="do not fit"):
        load_model(store, str(saved(tmp_path, tiny, half, run="less")), None, None)


def test_a_file_in_a_model_folder_is_sent_to_its_folder(store, tmp_path, tiny):
    torch.save(built(tiny)[0].state_dict(), tiny / "open_clip_pytorch_model.bin")
    with pytest.raises(UserError, match=f"which architecture it holds; --ckpt {tiny} does"):
        load_model(store, str(tiny / "open_clip_pytorch_model.bin"), None, None)
    torch.save(built(tiny)[0].state_dict(), tmp_path / "w.pt")
    with pytest.raises(UserError, match="which architecture it holds; add --model ARCH"):
        load_model(store, str(tmp_path / "w.pt"), None, None)


def test_the_users_architecture_wins_and_the_difference_is_said(store, tmp_path, tiny):
    path = saved(tmp_path, tiny, built(tiny)[0].state_dict(), model="RN50")
    loaded = load_model(store, str(path), f"local-dir:{tiny}", None)
    assert "params.txt says model RN50; --model local-dir:" in loaded.remarks[0]


def test_a_weights_file_by_pretrained_is_the_same_as_by_ckpt(store, tmp_path, tiny):
    path = saved(tmp_path, tiny, built(tiny, force_quick_gelu=True)[0].state_dict(), force_quick_gelu=True)
    by_tag = load_model(store, None, f"local-dir:{tiny}", str(path))
    by_file = load_model(store, str(path), None, None)
    assert by_tag.identity() == by_file.identity() and by_tag.towers.architecture["quick_gelu"]


def test_training_starts_only_from_weights_of_the_recipes_architecture(tmp_path, tiny):
    """A recipe says all that is trained: what its weights' params.txt says beyond that is refused, or said."""
    from gaprun.model.spec import Model
    from gaprun.model.towers import build_towers

    def start(arch=f"local-dir:{tiny}", run="run", prefix="", options=None, **said):
        model, _ = built(tiny, **(options or {}))
        state = {prefix + name: value for name, value in model.state_dict().items()}
        path = saved(tmp_path, tiny, state, run=run, **(options or {}), **said)
        return model, build_towers(Model(arch=arch, pretrained=str(path)))

    model, towers = start(prefix="module._orig_mod.")
    assert state_of(model) == state_of(towers.clip)
    _, towers = start(run="picture", image_mean=(0.5, 0.5, 0.5))
    assert any("trained with another mean of pictures" in remark for remark in towers.remarks)
    with pytest.raises(UserError, match="with another quick_gelu than local-dir:.* has"):
        start(run="quick", options={"force_quick_gelu": True})
    with pytest.raises(UserError, match="with another vision_cfg"):
        start(run="size", options={"force_image_size": 64})
    with pytest.raises(UserError, match="trained as RN50 with another embed_dim.* than"):
        start(run="other", model="RN50")
    with pytest.raises(UserError, match="says model hf-hub:a/b: set model.arch to it"):
        start(run="hub", model="hf-hub:a/b")
    quick = folder(tmp_path / "quick", {**CONFIG, "quick_gelu": True})
    _, towers = start(run="asked", arch=f"local-dir:{quick}", options={"force_quick_gelu": True})
    assert towers.architecture["quick_gelu"]
    half = {name: value for name, value in list(model.state_dict().items())[1:]}
    with pytest.raises(UserError, match="do not fit local-dir"):
        build_towers(Model(arch=f"local-dir:{tiny}", pretrained=str(saved(tmp_path, tiny, half, run="half"))))


def test_two_folders_of_one_name_and_weights_are_two_runs(store, tmp_path):
    """Weights and folder's name are the same; the activation, or the picture settings, are not."""
    state = built(folder(tmp_path / "none", CONFIG))[0].state_dict()
    places = [
        folder(tmp_path / "a" / "model", CONFIG, state=state),
        folder(tmp_path / "b" / "model", {**CONFIG, "quick_gelu": True}, state=state),
        folder(tmp_path / "c" / "model", CONFIG, {"mean": [0.5, 0.5, 0.5]}, state),
    ]
    seen = []
    for place in (*places, *places):
        loaded = load_model(store, str(place), None, None)
        keep(store, loaded)
        seen.append((loaded.run_id, loaded.resolved["name"]))
    assert len(set(seen[:3])) == 3 and seen[:3] == seen[3:] and len({name for _, name in seen}) == 3


def keep(store, loaded):
    from gaprun.jobs.measure import _ensure_run

    _ensure_run(store, loaded, torch.device("cpu"))


def test_a_folder_of_several_weights_is_not_guessed(store, tmp_path, tiny):
    for name in ("one.bin", "two.bin"):
        torch.save({}, tiny / name)
    with pytest.raises(UserError, match="several weights files .one.bin, two.bin.: name one"):
        load_model(store, str(tiny), None, None)


@pytest.mark.parametrize(
    "content, words",
    [
        ("{", "cannot be read as JSON"),
        ("[" * 100_000, "cannot be read as JSON"),
        ("[]", "must be objects"),
        ('{"model_cfg": {"vision_cfg": {}}}', "has no text_cfg"),
        (json.dumps({"model_cfg": {**CONFIG, "depth": 3}}), "no option depth"),
        (json.dumps({"model_cfg": {**CONFIG, "text_cfg": {"depth": 3}}}), "cannot build this model"),
        (json.dumps({"model_cfg": CONFIG, "preprocess_cfg": {"mean": "dark"}}), "mean must be three numbers"),
        (json.dumps({"model_cfg": CONFIG, "preprocess_cfg": {"mode": "L"}}), "only RGB is known"),
        (
            json.dumps({"model_cfg": CONFIG, "preprocess_cfg": {"mean": [123.7, 116.3, 103.5]}}),
            "divide it by 255",
        ),
        (
            json.dumps(
                {"model_cfg": {**CONFIG, "text_cfg": {"tokenizer_kwargs": {"trust_remote_code": True}}}}
            ),
            "never does",
        ),
    ],
)
def test_a_folder_that_is_no_model_is_one_line(content, words, store, tiny):
    torch.save(built(tiny)[0].state_dict(), tiny / "model.pth")
    (tiny / "open_clip_config.json").write_text(content)
    with pytest.raises((UserError, Failure), match=words):
        load_model(store, str(tiny), None, None)


# The network


@pytest.fixture
def asked(monkeypatch):
    """Every address that is asked for below Python's sockets; none is reached."""
    found = []

    def connect(self, address):
        if self.family in (socket.AF_INET, socket.AF_INET6):
            found.append(address)
            raise OSError("no network in this test")

    def lookup(*arguments, **options):
        found.append(arguments)
        raise socket.gaierror("no network in this test")

    monkeypatch.setattr(socket.socket, "connect", connect)
    monkeypatch.setattr(socket, "getaddrinfo", lookup)
    return found


HUB_TEXT = {"hf_model_name": "nobody/nothing-of-gaprun", "hf_tokenizer_name": "nobody/nothing-of-gaprun"}


@pytest.mark.parametrize(
    "config",
    [
        {**CONFIG, "text_cfg": HUB_TEXT},
        {**CONFIG, "text_cfg": {**CONFIG["text_cfg"], "hf_tokenizer_name": "nobody/nothing-of-gaprun"}},
        {**CONFIG, "vision_cfg": {"timm_model_name": "hf-hub:nobody/nothing-of-gaprun", "image_size": 32}},
    ],
    ids=["text tower", "tokenizer", "image tower"],
)
def test_no_folder_makes_gaprun_ask_the_network(config, asked, store, tmp_path, tiny):
    place = folder(tmp_path / "hub", config, state={"logit_scale": torch.ones(())})
    params = saved(tmp_path, place, {"logit_scale": torch.ones(())})
    for ckpt in (place, params):
        with pytest.raises(UserError):
            load_model(store, str(ckpt), None, None)
    assert asked == []


@pytest.mark.parametrize("arch", ["hf-hub:nobody/nothing-of-gaprun", "roberta-ViT-B-32", "ViT-B-16-SigLIP"])
def test_no_params_txt_makes_gaprun_ask_the_network(arch, asked, store, tmp_path, tiny):
    path = saved(tmp_path, tiny, {"logit_scale": torch.ones(())}, model=arch)
    with pytest.raises(UserError, match="hub"):
        load_model(store, str(path), None, None)
    assert asked == []


def test_the_users_own_words_do(asked, store):
    with pytest.raises(Failure, match="could not be downloaded"):
        load_model(store, "hf-hub:nobody/nothing-of-gaprun", None, None)
    assert asked


@pytest.mark.parametrize("arch", ["roberta-ViT-B-32", "ViT-B-16-SigLIP", "hf-hub:nobody/nothing-of-gaprun"])
def test_a_dry_run_does_not(arch, asked):
    from gaprun.jobs.plan import count_parameters
    from gaprun.recipe.jobs import Job
    from gaprun.recipe.load import validate

    recipe = validate(
        {
            "name": "x", "model": {"arch": arch, "pretrained": None}, "data": {"train": ["x"]},
            "schedule": {"steps": 1, "batch_size": 2},
        },
        "x",
    )  # fmt: skip
    try:
        assert count_parameters(Job(recipe, 0)) > 1e8
    except UserError as error:
        assert "--dry-run" in str(error)
    assert asked == []


def test_offline_is_undone(asked):
    with pytest.raises(OSError, match="no file makes gaprun ask"), offline():
        socket.create_connection(("127.0.0.1", 9))
    assert asked == []


# Names and ownership of gaprun's own checkpoints

RECIPE = {
    "name": "tiny",
    "model": {"inline": {"vision": {"layers": 1, "width": 32, "head_width": 32, "patch_size": 8}}},
    "data": {"train": ["scenes/train"]},
    "schedule": {"steps": 40, "batch_size": 8},
}


def own(tmp_path, store, seed=0, step=20, run="tiny-s0", weights=1, **changes):
    """A checkpoint in training's format, in the run's folder of the store."""
    from gaprun.model.towers import build_towers
    from gaprun.recipe.load import validate
    from gaprun.training.checkpoint import save_checkpoint

    recipe = validate({**RECIPE, **changes.pop("recipe", {})}, "x")
    torch.manual_seed(weights)
    towers = build_towers(recipe.model)
    content = {
        "clip": towers.clip.state_dict(), "head": {}, "step": step, "recipe": recipe.model_dump_json(), "seed": seed,
        "run": run, "vocabulary": None, "architecture": towers.architecture, "preprocessing": towers.picture,
        **changes,
    }  # fmt: skip
    return save_checkpoint(store.artifacts / "tiny-s0" / "checkpoints", content, keep=5)


def trained(store, **changes):
    from gaprun.recipe.load import validate

    recipe = validate(RECIPE, "x")
    values = {
        "id": "tiny-s0", "recipe": "tiny", "kind": "train", "seed": 0, "recipe_hash": "h", "total_steps": 40,
        "resolved_recipe": recipe.model_dump(mode="json"), "environment": {}, "code_version": "0",
        "folder": "runs/tiny-s0",
    }  # fmt: skip
    store.begin_run(NewRun(**{**values, **changes}))


def test_a_run_stored_before_a_key_was_there_keeps_its_checkpoint(store, tmp_path):
    """Recipes of earlier versions lack the keys that were added since; their defaults are what those runs had."""
    from gaprun.recipe.identity import ADDED_LATER
    from gaprun.recipe.load import validate

    early = validate(RECIPE, "x").model_dump(mode="json")
    for key in ADDED_LATER:
        *sections, last = key.split(".")
        inner = early
        for section in sections:
            inner = inner.get(section) or {}
        inner.pop(last, None)
    assert "freeze" not in early["model"]
    trained(store, resolved_recipe=early)
    own(tmp_path, store, step=40)
    loaded = load_model(store, "tiny-s0", None, None)
    assert loaded.own and loaded.run_id == "tiny-s0"
    own(tmp_path, store, step=60, recipe={"model": {**RECIPE["model"], "freeze": "text"}})
    with pytest.raises(UserError, match="that one has another model"):
        load_model(store, "tiny-s0", None, None)


@pytest.mark.parametrize(
    "name", ["../../outside", "/tmp/x", "a/b", "..", "", "a\0b", "-rf", 7, None, "x" * 300]
)
def test_a_run_that_cannot_be_a_name_is_refused_at_the_door(name, store, tmp_path):
    path, _ = own(tmp_path, store, run=name)
    with pytest.raises(UserError, match="its run .* cannot be a name"):
        load_model(store, str(path), None, None)


@pytest.mark.parametrize("change", [{"step": "../x"}, {"seed": -1}, {"seed": True}, {"vocabulary": ["../x"]}])
def test_other_labels_are_checked_too(change, store, tmp_path):
    path, _ = own(tmp_path, store)
    content = torch.load(path, weights_only=True) | change
    torch.save(content, tmp_path / "odd.pt")
    with pytest.raises(UserError, match="is not a number|not a list of token ids"):
        load_model(store, str(tmp_path / "odd.pt"), None, None)


def test_a_checkpoint_of_our_run_is_ours_wherever_it_lies(store, tmp_path):
    trained(store)
    early, _ = own(tmp_path, store, step=20)
    last, weights = own(tmp_path, store, step=40, weights=2)
    store.finish_run(
        "tiny-s0", "finished", checkpoint=f"runs/tiny-s0/checkpoints/{last.name}", checkpoint_hash=weights
    )
    moved = tmp_path / "moved.pt"
    shutil.copy(last, moved)
    for path, step in ((early, 20), (last, 40), (moved, 40)):
        loaded = load_model(store, str(path), None, None)
        assert (loaded.own, loaded.run_id, loaded.step, loaded.remarks) == (True, "tiny-s0", step, [])
    assert load_model(store, "tiny-s0", None, None).step == 40


@pytest.mark.parametrize("change", ["weights", "seed", "model", "absent", "activation"])
def test_a_colleagues_checkpoint_is_a_run_of_its_own_and_that_is_said(change, store, tmp_path):
    """Same recipe, same seed, same run id: only what was trained here is our run."""
    (tmp_path / "colleague").mkdir()
    other = open_store(str(tmp_path / "colleague" / "r.db"))
    wide = {"model": {"inline": {**RECIPE["model"]["inline"], "text": {"heads": 2}}}}
    architecture = load_model(store, str(own(tmp_path, store)[0]), None, None).towers.architecture
    quick = {"architecture": {**architecture, "quick_gelu": True}}
    options = {"weights": {"weights": 5}, "seed": {"seed": 3}, "model": {"recipe": wide}, "activation": quick}
    theirs, _ = own(tmp_path, other, **options.get(change, {}))
    if change != "absent":
        trained(store)
        _, weights = own(tmp_path, store)
        store.finish_run("tiny-s0", "finished", checkpoint_hash=weights)
    loaded = load_model(store, str(theirs), None, None)
    assert (
        not loaded.own
        and loaded.run_id.startswith("tiny-s0-")
        and loaded.resolved["name"].startswith("tiny@")
    )
    assert len(loaded.remarks) == 1 and "is not of run tiny-s0 here" in loaded.remarks[0]
    assert loaded.run_id in loaded.remarks[0]
    if change == "activation":
        assert loaded.towers.architecture["quick_gelu"]


def test_an_older_checkpoint_is_never_taken_unsaid(store, tmp_path):
    trained(store)
    early, _ = own(tmp_path, store, step=20)
    last, weights = own(tmp_path, store, step=40, weights=2)
    store.finish_run(
        "tiny-s0", "finished", checkpoint=f"runs/tiny-s0/checkpoints/{last.name}", checkpoint_hash=weights
    )
    content = last.read_bytes()
    last.write_bytes(content[:-7])
    with pytest.raises(
        UserError, match=f"newest checkpoint {last.name} is damaged; name an older one.*{early.name}"
    ):
        load_model(store, "tiny-s0", None, None)
    last.unlink()
    last.with_suffix(".json").unlink()
    with pytest.raises(UserError, match=f"last checkpoint {last.name} is gone; name an older one"):
        load_model(store, "tiny-s0", None, None)
    assert load_model(store, str(early), None, None).step == 20
    (tmp_path / "c").mkdir()
    shutil.copy(own(tmp_path, open_store(str(tmp_path / "c" / "r.db")), step=40, weights=9)[0], last)
    note = json.loads(early.with_suffix(".json").read_text())
    from gaprun.files import file_sha256

    last.with_suffix(".json").write_text(json.dumps({**note, "step": 40, "sha256": file_sha256(last)}))
    with pytest.raises(UserError, match="is not a checkpoint of run tiny-s0: its weights are not that run's"):
        load_model(store, "tiny-s0", None, None)


def test_an_architecture_without_weights_needs_a_word(store):
    with pytest.raises(UserError, match="has no weights: add --pretrained .one of openai, .*or --random"):
        load_model(store, None, "RN50", None)
    with pytest.raises(UserError, match="did you mean RN50"):
        load_model(store, None, "RN5O", None)
    loaded = load_model(store, None, "ViT-S-32-alt", None, random=True)
    assert loaded.run_id.startswith("ViT-S-32-alt-random-")
    with pytest.raises(UserError, match="leave out --pretrained"):
        load_model(store, None, "RN50", "openai", random=True)


def test_a_tag_trained_with_quick_gelu_is_built_with_it_and_warnings_are_kept(store, tmp_path, monkeypatch):
    """The weights are replaced by random ones of the same shapes: which modules they go into is what counts."""
    torch.manual_seed(1)
    right = open_clip.create_model("RN50-quickgelu")
    file = tmp_path / "w.pt"
    torch.save(right.state_dict(), file)

    def fetched(config):
        import logging
        import warnings

        warnings.warn("the hub is slow", UserWarning, stacklevel=1)
        logging.warning("and so it is")
        return str(file)

    monkeypatch.setattr(open_clip, "download_pretrained", fetched)
    loaded = load_model(store, None, "RN50", "openai")
    assert loaded.towers.architecture["quick_gelu"] is True
    assert "RN50 openai: built with QuickGELU, as its weights were trained" in loaded.remarks
    assert "the hub is slow" in loaded.remarks and "and so it is" in loaded.remarks
    right.eval()
    loaded.towers.clip.eval()
    tokens = open_clip.get_tokenizer("RN50")(WORDS)
    with torch.no_grad():
        torch.testing.assert_close(loaded.towers.clip.encode_text(tokens), right.encode_text(tokens))
    other = load_model(store, None, "RN50", "yfcc15m")
    assert other.towers.architecture == {**loaded.towers.architecture} and other.remarks[0].startswith(
        "RN50 yfcc15m"
    )
    wide = PreprocessCfg(
        size=224, mean=(0.48145466, 0.4578275, 0.40821073), std=(0.26862954, 0.26130258, 0.27577711)
    )
    torch.testing.assert_close(
        loaded.towers.preprocess()(PICTURE), image_transform_v2(wide, is_train=False)(PICTURE)
    )
    assert Settings() == Settings()
