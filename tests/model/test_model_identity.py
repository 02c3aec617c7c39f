"""One identity says what a measured model is: any one part changed is another model, for every place that asks."""

import json
from dataclasses import asdict, replace

import numpy as np
import open_clip
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gaprun.evaluation.embed import StoredEmbedder
from gaprun.evaluation.run import evaluate_run
from gaprun.model.identity import ModelIdentity, identity_of, tokenizer_identity
from gaprun.model.openclip import Settings, canonical
from gaprun.model.spec import Inline, Model
from gaprun.model.towers import CLIP_VOCABULARY, assemble, build_towers, towers_of
from gaprun.model.vocabulary import Vocabulary
from gaprun.protocols import FULL, Protocol, pool_of
from gaprun.store import open_store
from tests.model.tiny import CONFIG, Pictures, state_of

CPU = torch.device("cpu")


def towers(settings=None, tokenizer=None, vocabulary=None, **config):
    """Towers of CONFIG with the same seed, and so the same weights wherever these have the same shapes."""
    settings = settings or Settings()
    torch.manual_seed(0)
    whole = settings.applied({**json.loads(json.dumps(CONFIG)), **config})
    length = settings.context_length or 16
    return towers_of(whole, settings, tokenizer or open_clip.SimpleTokenizer(), length, vocabulary)


VISION, TEXT = CONFIG["vision_cfg"], CONFIG["text_cfg"]
OTHERS = {
    "activation": lambda: towers(Settings(quick_gelu=True)),
    "heads": lambda: towers(text_cfg={**TEXT, "heads": 4}),
    "pooling": lambda: towers(vision_cfg={**VISION, "pool_type": "avg"}),
    "text pooling": lambda: towers(text_cfg={**TEXT, "pool_type": "last"}),
    "mask": lambda: towers(text_cfg={**TEXT, "no_causal_mask": True}),
    "image size": lambda: towers(Settings(image_size=48)),
    "mean": lambda: towers(Settings(picture={"mean": (0.5, 0.5, 0.5)})),
    "std": lambda: towers(Settings(picture={"std": (0.5, 0.5, 0.5)})),
    "resize mode": lambda: towers(Settings(picture={"resize_mode": "squash"})),
    "interpolation": lambda: towers(Settings(picture={"interpolation": "bilinear"})),
    "fill": lambda: towers(Settings(picture={"fill_color": 9, "resize_mode": "longest"})),
    "context length": lambda: towers(Settings(context_length=12)),
    "tokenizer": lambda: towers(tokenizer=open_clip.SimpleTokenizer(clean="canonicalize")),
    "vocabulary": lambda: towers(vocabulary=Vocabulary([3, 9, 49407], CLIP_VOCABULARY)),
}


@pytest.mark.parametrize("part", OTHERS)
def test_another_part_is_another_model_and_finds_nothing_old(part, tmp_path):
    """Embeddings and evaluations that are kept for one model are not found for one that differs in one part, though
    both claim the same weights."""
    store, pictures = open_store(str(tmp_path / "r.db")), Pictures(6)
    begin(store)
    task = pictures.task()
    first, again, other = towers(), towers(), OTHERS[part]()
    counts = []
    for model in (first, again, other):
        done = evaluate_run(
            towers=model, checkpoint_hash="w", step=1, tasks=[task], store=store, run_id="x", device=CPU, own=False
        )  # fmt: skip
        counts.append((done.encoded, done.evaluations))
    assert counts[0][0] == 6 and counts[1] == (0, counts[0][1]) and not done.failures
    assert counts[2][0] == 6 and not set(counts[2][1]) & set(counts[0][1])
    assert identity_of(first, "w").model_hash == identity_of(again, "w").model_hash
    assert identity_of(first, "w").model_id != identity_of(other, "w").model_id


def test_weights_device_and_precision_are_parts_too():
    model = towers()
    base = identity_of(model, "w")
    model.clip.double()
    assert identity_of(model, "w").precision == "fp64"
    others = [identity_of(towers(), "v"), identity_of(towers(), "w", "cuda"), identity_of(model, "w")]
    assert len({found.model_hash for found in (base, *others)}) == 4
    assert [found.model_id == base.model_id for found in others] == [False, True, True]
    assert base.ran_on == "cpu fp32" and others[1].ran_on.startswith("cuda fp32")


PLAIN = st.recursive(
    st.integers() | st.text(max_size=4) | st.booleans() | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.dictionaries(st.text(max_size=3), inner, max_size=3) | st.lists(inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=60, deadline=None)
@given(
    part=st.sampled_from(["weights", "architecture", "preprocessing", "tokenizer", "device", "precision"]),
    one=PLAIN, two=PLAIN,
)  # fmt: skip
def test_the_hash_is_equal_exactly_where_every_part_is(part, one, two):
    base = ModelIdentity("w", {"a": 1}, {"size": 32}, {"kind": "x"})
    wrap = (lambda v: str(v)) if part in ("weights", "device", "precision") else (lambda v: {"v": v})
    first, second = replace(base, **{part: wrap(one)}), replace(base, **{part: wrap(two)})
    same = json.dumps(asdict(first), sort_keys=True) == json.dumps(asdict(second), sort_keys=True)
    assert (first.model_hash == second.model_hash) == same


def test_defaults_said_or_left_out_are_one_architecture_and_it_builds_the_same_model():
    said = {**CONFIG, "quick_gelu": False, "text_cfg": {**TEXT, "mlp_ratio": 4.0, "pool_type": "argmax"}}
    said["vision_cfg"] = {**VISION, "timm_model_pretrained": True}
    assert canonical(said) == canonical(CONFIG) == canonical(canonical(CONFIG))
    model = towers()
    torch.manual_seed(0)
    rebuilt = towers_of(model.architecture, Settings(), model.tokenizer, 16)
    assert state_of(rebuilt.clip) == state_of(model.clip)


def test_a_recipes_towers_are_what_open_clip_builds():
    """Bit for bit, or earlier runs would not repeat; in configuration too."""
    torch.manual_seed(5)
    ours = build_towers(Model(arch="RN50")).clip
    torch.manual_seed(5)
    theirs = open_clip.create_model("RN50")
    assert state_of(ours) == state_of(theirs)
    assert ours.visual.preprocess_cfg == theirs.visual.preprocess_cfg
    inline = assemble(Model(inline=Inline()), Settings())
    assert inline.architecture["embed_dim"] == 128 and inline.picture["resize_mode"] == "shortest"


def test_tokenizers_are_told_apart_by_content():
    plain = open_clip.SimpleTokenizer()
    more = open_clip.SimpleTokenizer(additional_special_tokens=["<more>"])
    masked = open_clip.SimpleTokenizer(reduction_mask="shuffle")
    found = [json.dumps(tokenizer_identity(t, 16)) for t in (plain, more, masked)]
    assert len(set(found)) == 3
    assert tokenizer_identity(open_clip.SimpleTokenizer(context_length=5), 16) == tokenizer_identity(
        plain, 16
    )


@pytest.mark.parametrize("harm", ["flip", "zero", "empty", "truncate", "remove", "foreign"])
def test_damaged_embeddings_are_said_and_encoded_again(harm, tmp_path):
    """Never another number, never a crash of the process that maps the file."""
    pictures, model = Pictures(6), towers()
    fresh = StoredEmbedder(model, "w", tmp_path, CPU).embeddings(pictures)
    right = [np.array(fresh.images), np.array(fresh.texts)]
    folder = next(tmp_path.iterdir())
    file = folder / "images.npy"
    content = bytearray(file.read_bytes())
    content[len(content) - 10] ^= 1
    broken = {
        "flip": bytes(content),
        "zero": bytes(len(content)),
        "empty": b"",
        "truncate": bytes(content[:200]),
    }
    if harm == "remove":
        file.unlink()
    elif harm == "foreign":
        (folder / "checksums.json").write_text('{"../../images.npy": "0"}')
        (folder / "mine.txt").write_text("a thesis")
    else:
        file.write_bytes(broken[harm])
    embedder = StoredEmbedder(model, "w", tmp_path, CPU)
    found = embedder.embeddings(pictures)
    assert embedder.encoded == 6 and len(embedder.remarks) == 1 and "damaged" in embedder.remarks[0]
    np.testing.assert_array_equal(found.images, right[0])
    np.testing.assert_array_equal(found.texts, right[1])
    assert (folder / "mine.txt").exists() == (harm == "foreign")
    later = StoredEmbedder(model, "w", tmp_path, CPU)
    later.embeddings(pictures)
    assert harm == "foreign" or (later.encoded == 0 and not later.remarks)


def test_kept_tokens_are_checked_and_go_by_the_tokenizer(tmp_path):
    from gaprun.training.captions import caption_tokens

    texts, plain = ["a dog", "two cats"], open_clip.SimpleTokenizer()
    calls = []

    def tokens(tokenizer):
        return caption_tokens(texts, tokenizer, 8, tmp_path, lambda done, total: calls.append(done))

    right = tokens(plain)
    np.testing.assert_array_equal(tokens(plain), right)
    assert len(calls) == 1
    for change in (lambda b: b[:-40] + bytes([b[-40] ^ 1]) + b[-39:], lambda b: b"", lambda b: bytes(len(b))):
        file = next(tmp_path.iterdir())
        file.write_bytes(change(file.read_bytes()))
        np.testing.assert_array_equal(tokens(plain), right)
    assert len(calls) == 4
    tokens(open_clip.SimpleTokenizer(clean="whitespace"))
    assert len(calls) == 5


def begin(store, run_id="x", **changes):
    from gaprun.store import NewRun

    values = {
        "id": run_id, "recipe": "x", "kind": "external", "seed": None, "recipe_hash": "h", "resolved_recipe": {},
        "environment": {"device": "cpu"}, "code_version": "of the training", "folder": "runs/x", "total_steps": 1,
    }  # fmt: skip
    store.begin_run(NewRun(**{**values, **changes}))


@pytest.mark.parametrize("own, device, again", [(True, "cpu", 0), (False, "cpu", 6), (True, "cuda", 6)])
def test_what_an_earlier_version_measured_counts_for_our_own_runs_only(own, device, again, tmp_path):
    """Rows without a model's name are found for the run's own towers on the device that trained it."""
    store, pictures = open_store(str(tmp_path / "r.db")), Pictures(6)
    begin(store, environment={"device": device})
    task = pictures.task()
    key = task.key(pictures, FULL, "w", 1)
    store.add_evaluation("x", key, {"gap": 0.125}, 6, 32)
    done = evaluate_run(
        towers=towers(), checkpoint_hash="w", step=1, tasks=[task], store=store, run_id="x", device=CPU, own=own
    )  # fmt: skip
    assert done.encoded == again
    rows = store.metrics_by_evaluation(done.evaluations)
    gaps = [row["value"] for row in rows if row["metric"] == "gap"]
    assert (gaps == [0.125]) == (again == 0)


def test_an_evaluation_has_the_code_version_that_measured(tmp_path, monkeypatch):
    monkeypatch.setattr("gaprun.evaluation.run.code_version", lambda: "of the measuring")
    store, pictures = open_store(str(tmp_path / "r.db")), Pictures(4)
    begin(store)
    done = evaluate_run(
        towers=towers(), checkpoint_hash="w", step=1, tasks=[pictures.task()], store=store, run_id="x", device=CPU
    )  # fmt: skip
    rows = store.metrics_by_evaluation(done.evaluations)
    assert {row["code_version"] for row in rows} == {"of the measuring"}
    assert {row["device"] for row in rows} == {"cpu fp32"} and store.run(
        "x"
    ).code_version == "of the training"


def test_a_failing_data_set_does_not_stop_the_others_and_is_named(tmp_path):
    store, good, bad = open_store(str(tmp_path / "r.db")), Pictures(4), Pictures(4, damaged=True)
    begin(store)
    tasks = [bad.task(), good.task()]
    done = evaluate_run(
        towers=towers(), checkpoint_hash="w", step=1, tasks=tasks, store=store, run_id="x", device=CPU
    )  # fmt: skip
    assert len(done.evaluations) == 1 and [what for what, _ in done.failures] == ["gap on damaged"]
    with pytest.raises(
        Exception, match="1 of 2 measurements could not be made.*gap on damaged: .*picture p0"
    ):
        done.raise_failures()


def test_details_of_two_checkpoints_never_write_one_file(tmp_path):
    from gaprun.evaluation.run import keep_details
    from gaprun.evaluation.task import Measured
    from gaprun.store import EvaluationKey

    base = EvaluationKey("c", 20, "retrieval", "../d", "test", "../../f", FULL, {}, 1, "m", "cpu fp32")
    others = [
        base, replace(base, checkpoint_hash="d"), replace(base, model_hash="n"), replace(base, data_fingerprint="g"),
        replace(base, options={"a": 1}), replace(base, definition=2), replace(base, protocol=pool_of(512)),
    ]  # fmt: skip
    places = [keep_details(tmp_path / "x", key, Measured({}, 1, 1, {"rank": np.arange(3)})) for key in others]
    assert len(set(places)) == len(others) and {place.parent for place in places} == {tmp_path / "x"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x"]
    up = keep_details(
        tmp_path / "x",
        replace(base, protocol=Protocol("../../up [1, 2]")),
        Measured({}, 1, 1, {"rank": np.arange(3)}),
    )
    assert up.parent == tmp_path / "x" and sorted(path.name for path in tmp_path.iterdir()) == ["x"]


def test_the_values_printed_are_those_of_the_checkpoint_asked_for(tmp_path):
    """A run has steps 20 and 40 measured; asked for 20 again, its rows are step 20's, found and not made."""
    store, pictures = open_store(str(tmp_path / "r.db")), Pictures(4)
    begin(store)
    gaps = []
    for step, seed in ((20, 0), (40, 1), (20, 0)):
        torch.manual_seed(seed)
        model = towers_of(CONFIG, Settings(), open_clip.SimpleTokenizer(), 16)
        done = evaluate_run(
            towers=model, checkpoint_hash=f"w{seed}", step=step, tasks=[pictures.task()], store=store, run_id="x",
            device=CPU,
        )  # fmt: skip
        rows = store.metrics_by_evaluation(done.evaluations)
        assert {(row["step"], row["checkpoint_hash"]) for row in rows} == {(step, f"w{seed}")}
        gaps.append(next(row["value"] for row in rows if row["metric"] == "gap"))
    assert gaps[0] == gaps[2] != gaps[1] and done.encoded == 0


def test_captions_that_repeat_over_pictures_are_counted():
    from gaprun.evaluation.tasks.retrieval import repeated_captions

    pictures = Pictures(4)
    assert repeated_captions(pictures) == {}
    pictures.captions = [["a dog", "a dog"], ["a dog", "a cat"], ["A dog"], []]
    assert repeated_captions(pictures) == {
        "repeated_captions": 3.0
    }  # within one picture alone it is no repeat
