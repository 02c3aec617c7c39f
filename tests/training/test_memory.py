"""What a step keeps is counted before it is run: against a real backward pass, and at the paper's size in seconds."""

import time

import pytest
import torch
from torch.autograd.graph import saved_tensors_hooks

from gaprun.errors import UserError
from gaprun.jobs.plan import too_large
from gaprun.model.towers import build_towers
from gaprun.recipe.schema import Recipe
from gaprun.training.alone import check_micro_batch
from gaprun.training.length import run_length
from gaprun.training.memory import activation_bytes

SMALL = {"vision": {"image_size": 32, "layers": [1, 1, 1, 1], "width": 8, "head_width": 8}, "embed_dim": 16}


def recipe(batch: int, model: dict, **compute) -> Recipe:
    return Recipe.model_validate(
        {
            "name": "a",
            "model": model,
            "data": {"train": ["x/train"]},
            "schedule": {"steps": 4, "batch_size": batch},
            "compute": compute,
        }
    )


TEXT = {"context_length": 24, "width": 16, "heads": 2, "layers": 2}
VIT = {
    "vision": {"image_size": 32, "layers": 2, "width": 16, "head_width": 8, "patch_size": 8},
    "embed_dim": 8,
}


@pytest.mark.parametrize(
    "model", [SMALL, VIT | {"text": TEXT, "shared": True}], ids=["resnet", "shared tower"]
)
def test_the_count_is_what_a_real_forward_pass_keeps(model: dict) -> None:
    chosen = recipe(16, {"inline": model})
    towers = build_towers(chosen.model)
    weights = {p.untyped_storage().data_ptr() for p in towers.clip.parameters()}
    kept: dict[int, torch.Tensor] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    towers.clip.train()
    with saved_tensors_hooks(keep, lambda tensor: tensor):
        images, tokens = torch.rand(16, 3, 32, 32), torch.ones(16, 24, dtype=torch.int64)
        features = towers.clip.encode_image(images), towers.encode_text(tokens)
    real = sum(t.untyped_storage().nbytes() for key, t in kept.items() if key not in weights)
    assert len(features) == 2
    # The CPU's attention keeps no matrices, the count's does: 2 layers of 4 heads on 24 x 24 for 16 captions, twice.
    assert real <= activation_bytes(chosen) <= 1.35 * real


def test_the_papers_towers_at_batch_1024_are_known_in_seconds() -> None:
    start = time.process_time()
    bf16 = activation_bytes(recipe(1024, {"arch": "RN50"}, precision="bf16", channels_last=True)) / 2**30
    assert time.process_time() - start < 30
    fp32 = activation_bytes(recipe(1024, {"arch": "RN50"}, channels_last=True)) / 2**30
    quarter = activation_bytes(recipe(1024, {"arch": "RN50"}, precision="bf16", micro_batch=256)) / 2**30
    assert 55 < bf16 < 75 and 110 < fp32 < 140  # one fits a card of 80 GB and the other does not
    assert quarter == pytest.approx(bf16 / 4, rel=0.05)
    assert not torch.is_autocast_enabled("cuda") and not torch.cuda.is_initialized()


def test_what_a_card_cannot_hold_is_named_with_the_way_out() -> None:
    row = {"recipe": "baseline", "model_memory_gib": 1.5, "activation_memory_gib": 130.0}
    row["cache_device_gib"] = 0.0
    (line,) = too_large([row, row], 79.0)
    assert line.startswith("baseline: a step needs about 132 GiB and the GPU has 79: set compute.micro_batch")
    assert too_large([row], 140.0) == [] and too_large([row], None) == []
    (line,) = too_large([row | {"cache_device_gib": 22.0}], 140.0)
    assert "132 GiB beside a cache of 22 GiB" in line and line.endswith("or data.cache=memory")
    assert too_large([row | {"activation_memory_gib": None}], 79.0) == []


@pytest.mark.parametrize(
    ("model", "batch", "compute", "said"),
    [
        (SMALL, 32, {"micro_batch": 31}, "compute.micro_batch: 31 leaves one of 32 pairs alone"),
        (SMALL, 32, {"micro_batch": 1}, "compute.micro_batch: 1 leaves one of 32 pairs alone"),
        (SMALL, 33, {"micro_batch": 8}, "compute.micro_batch: 8 leaves one of 33 pairs alone"),
        (SMALL, 32, {"micro_batch": 8}, None),
        (SMALL, 33, {}, None),
        (SMALL, 33, {"micro_batch": 33}, None),
        (VIT, 32, {"micro_batch": 31}, None),  # without batch normalisation
        # The last stage has four values a channel of one picture, which is enough.
        (SMALL | {"vision": SMALL["vision"] | {"image_size": 64}}, 32, {"micro_batch": 31}, None),
    ],
)
def test_a_pair_alone_under_a_batch_normalisation_is_refused_before_training(model, batch, compute, said):
    chosen = recipe(batch, {"inline": model}, **compute)
    if said is None:
        check_micro_batch(chosen)
    else:
        with pytest.raises(
            UserError, match=f"^{said}, and a batch normalisation has no statistics of one value"
        ):
            check_micro_batch(chosen)


def test_so_is_one_in_the_smaller_batch_that_ends_an_epoch_but_not_below_a_frozen_tower():
    kept = recipe(32, {"inline": SMALL}, micro_batch=8)
    kept = kept.model_copy(update={"schedule": kept.schedule.model_copy(update={"remainder": "keep"})})
    for rows, alone in ((32 + 9, True), (32 + 16, False), (32, False)):
        length = run_length(kept, rows, rows)
        if alone:
            with pytest.raises(UserError, match="8 leaves one of 9 pairs alone"):
                check_micro_batch(kept, length)
        else:
            check_micro_batch(kept, length)
        check_micro_batch(kept)
    frozen = recipe(32, {"inline": SMALL, "freeze": "image"}, micro_batch=31)
    check_micro_batch(frozen)
