"""Micro-batches: the same loss and gradients as the batch at once, in a fraction of the memory."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from gaprun.errors import UserError
from gaprun.recipe import load_recipe
from gaprun.recipe.jobs import recipe_hash
from gaprun.training.batchnorm import statistics_kept
from gaprun.training.state import TrainState
from tests.conftest import RECIPES
from tests.training.conftest import RunSmall
from tests.training.gradients import METHODS, VIT, difference, gradients


@pytest.mark.parametrize("method", METHODS)
def test_gradients_equal_the_batch_at_once(method: str, scenes: Path) -> None:
    """Of every parameter, nu and the sigmoid loss's bias included; 12 leaves a shorter last micro-batch of 32."""
    whole = gradients(scenes, method, *VIT)
    parts = gradients(scenes, method, *VIT, "compute.micro_batch=12")
    assert difference(parts, whole) < 1e-10 and float(whole["loss"]) > 0


def test_a_micro_batch_of_the_batch_is_the_batch(scenes: Path) -> None:
    whole, same = gradients(scenes, "baseline"), gradients(scenes, "baseline", "compute.micro_batch=32")
    assert difference(same, whole) == 0


def test_one_pair_alone_under_a_batch_normalisation_says_so(scenes: Path) -> None:
    """31 and 1 of 32: the last stage of the small ResNet has one value a channel then."""
    with pytest.raises(UserError, match="compute.micro_batch: 31 leaves one of 32 pairs alone"):
        gradients(scenes, "baseline", "compute.micro_batch=31")


def test_bf16_gradients_agree_within_their_precision(scenes: Path) -> None:
    sets = (*VIT, "compute.precision=bf16")
    whole = gradients(scenes, "soft-swap", *sets, double=False)
    parts = gradients(scenes, "soft-swap", *sets, "compute.micro_batch=8", double=False)
    exact = gradients(scenes, "soft-swap", *VIT)
    assert difference(parts, whole) < 2 * difference(whole, exact) < 0.2


def test_a_loss_scale_passes_through(scenes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """fp16's scaler multiplies the loss; the features' gradients carry the factor into the towers."""

    def scaled(self: TrainState) -> None:
        original(self)
        self.scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)

    whole = gradients(scenes, "reparam", *VIT)
    original = TrainState.__post_init__
    monkeypatch.setattr(TrainState, "__post_init__", scaled)
    parts = gradients(scenes, "reparam", *VIT, "compute.micro_batch=8", "optimizer.grad_clip=1e9")
    assert difference(parts, whole) < 1e-10  # clipping unscales; the norm is far below the limit


def test_both_passes_draw_the_same_noise(scenes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With dropout, the second pass must meet the features that the loss has seen."""
    seen: list[torch.Tensor] = []
    original = TrainState.__post_init__

    def noisy(self: TrainState) -> None:
        original(self)
        plain = self.encoding.encode_text

        def encode(tokens: torch.Tensor) -> torch.Tensor:
            seen.append(nn.functional.dropout(plain(tokens), 0.5))
            return seen[-1]

        self.encoding.encode_text = encode

    monkeypatch.setattr(TrainState, "__post_init__", noisy)
    gradients(scenes, "baseline", *VIT, "compute.micro_batch=8")
    first, second = seen[:4], seen[4:]
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert not torch.equal(first[0] == 0, first[1] == 0)  # and each micro-batch its own


def test_batch_statistics_are_a_micro_batchs_and_counted_once(scenes: Path) -> None:
    """A ResNet's result differs (documented), but no picture enters the running statistics twice."""
    whole = gradients(scenes, "baseline")
    parts = gradients(scenes, "baseline", "compute.micro_batch=8")
    counted = {name: int(value) for name, value in parts.items() if name.endswith("num_batches_tracked")}
    assert counted and set(counted.values()) == {4}
    assert difference(parts, whole) > 1e-3


def test_kept_statistics_are_kept_and_then_followed() -> None:
    layer = nn.BatchNorm1d(3)
    with statistics_kept(layer):
        layer(torch.randn(8, 3) + 5)
    assert layer.running_mean.abs().max() == 0 and layer.num_batches_tracked == 0
    layer(torch.randn(8, 3) + 5)
    assert layer.running_mean.abs().max() > 0.3 and layer.num_batches_tracked == 1


def test_a_run_repeats_and_the_key_is_part_of_its_identity(run_small: RunSmall) -> None:
    hashes = [
        run_small("soft-swap", *VIT, "compute.micro_batch=8", db=db)[1].runs()[0].checkpoint_hash
        for db in "ab"
    ]
    plain = run_small("soft-swap", *VIT, db="plain")[1].runs()[0]
    assert hashes[0] == hashes[1] != plain.checkpoint_hash


def test_recipes_without_the_key_keep_their_identity() -> None:
    """Runs made before the key existed are found again; the hash is the one since pictures are resized as they are."""
    recipe = load_recipe(RECIPES / "baseline.yaml")
    chunked = load_recipe(RECIPES / "baseline.yaml", ["compute.micro_batch=64"])
    assert recipe_hash(recipe) != recipe_hash(chunked)
    assert "micro_batch" in json.dumps(recipe.model_dump(mode="json"))
    assert recipe_hash(recipe).startswith("a12e14f2073d3e90")


# The kernel's peak is set back first: a process begins with the peak of the one that started it.
MEMORY = """
import sys
from pathlib import Path
from tests.training.gradients import VIT, gradients

def memory(field):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field))

Path("/proc/self/clear_refs").write_text("5")
start = memory("VmRSS")
sets = ["schedule.batch_size=256", "model.inline.vision.layers=6", "model.inline.vision.width=128"]
sets += ["model.inline.vision.image_size=64"]
gradients(Path(sys.argv[1]), "baseline", *VIT, *sets, *sys.argv[2:], double=False)
print(memory("VmHWM") - start)
"""


@pytest.mark.slow
def test_memory_falls(scenes: Path) -> None:
    """Peak memory of one step of batch 256, above what the imports take."""

    def peak(*options: str) -> int:
        done = subprocess.run(
            [sys.executable, "-c", MEMORY, str(scenes), *options], capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, done.stderr
        return int(done.stdout)

    whole, parts = peak(), peak("compute.micro_batch=16")
    assert parts < whole / 3, (whole, parts)
