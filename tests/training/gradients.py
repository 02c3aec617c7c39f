"""One float64 training step of a method on tiny towers, for comparing ways of computing it."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import torch

from gaprun.data.plan import Plan
from gaprun.data.pool import Pool
from gaprun.data.split import open_split
from gaprun.data.stream import LoadBatch
from gaprun.model.loss import ClipLoss
from gaprun.model.terms import TERMS
from gaprun.model.towers import build_towers, original_tokens, tokenizer_for, trimmed
from gaprun.model.vocabulary import Tokens, Vocabulary
from gaprun.runtime.distributed import ALONE, World
from gaprun.training.head import Head
from gaprun.training.length import run_length
from gaprun.training.state import TrainState
from tests.training.conftest import small_job

VIT = ("model.inline.vision.layers=2", "model.inline.vision.patch_size=8", "model.inline.vision.width=32")
SHARED = ("model.inline.shared=true", "model.inline.text.width=32", "model.inline.text.heads=1")
ALWAYS = "swap.probability=1"
# Every method of the paper, and the other loss.
METHODS = {
    "baseline": (),
    "flt": (),
    "schedule": (),
    "reparam": (),
    "reparam-scaled": (),
    "slrt": (),
    "hard-swap": (ALWAYS,),
    "soft-swap": (ALWAYS,),
    "soft-swap, no renormalising": (ALWAYS, "swap.renormalise=false"),
    "baseline, sigmoid": ("loss.name=sigmoid",),
    "baseline, relative sigmoid": ("loss.name=relative-sigmoid",),
    "soft-swap, all terms": (ALWAYS,),
    "baseline, shared tower": SHARED,
}
# A term for each kind there is, with unequal weights, so that a wrong division of any of them shows.
ALL_TERMS = ClipLoss(
    weight=0.5,
    terms=[{"name": name, "weight": 1 + 0.1 * k} for k, name in enumerate(TERMS.names())],
)


@cache
def _data(scenes: Path) -> tuple[Pool, Tokens]:
    pool = Pool([open_split("scenes/train", scenes)], 32)
    tokenizer, context = tokenizer_for(small_job("baseline").recipe.model)
    return pool, original_tokens(tokenizer, pool.texts, context)


def gradients(
    scenes: Path, method: str, *overrides: str, world: World = ALONE, double: bool = True
) -> dict[str, torch.Tensor]:
    """Loss and every parameter's gradient of the first step, in float64 arithmetic if `double`; also the buffers."""
    job = small_job(method.split(",")[0], "checkpoint.every_steps=null", *METHODS.get(method, ()), *overrides)
    recipe = job.recipe
    if method.endswith("all terms"):  # distillation among them, whose teacher is the start, pretrained or not
        recipe = recipe.model_copy(update={"loss": ALL_TERMS})
    pool, original = _data(scenes)
    vocabulary = Vocabulary.used_in(original, 49408)
    length = run_length(recipe, len(pool), len(pool.texts))
    torch.manual_seed(0)
    towers = build_towers(recipe.model, vocabulary)
    head = Head.of(recipe, 0)
    if double:
        towers.clip.double()
        head.double()
    state = TrainState(recipe, 0, length, towers, head, torch.device("cpu"), world=world)
    if double:
        encode = towers.clip.encode_image
        state.encoding.encode_image = lambda pictures: encode(pictures.double())
        if state.encoding.teacher is not None:
            old_image, old_text = state.encoding.teacher
            state.encoding.teacher = (lambda pictures: old_image(pictures.double())), old_text
    plan = Plan(pool, 0, length.batch_size, recipe.data.crop_scale)
    batch = LoadBatch(plan, vocabulary(original), trimmed, world.rows(length.batch_size)).load(0)
    loss, _ = state.train_step(batch, measure=False)
    modules = {**towers.clip.state_dict(), **head.state_dict()}
    named = [*towers.clip.named_parameters(), *head.named_parameters()]
    found = {name: p.grad.clone() for name, p in named if p.grad is not None}
    assert len(found) == len([p for _, p in named if p.requires_grad])
    buffers = {k: v.clone() for k, v in modules.items() if "running" in k or "tracked" in k}
    return {"loss": loss, **found, **buffers}


def difference(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> float:
    """Largest difference of any value, relative to the largest of the same tensor.

    A key's bias has gradient 0 but for rounding (softmax does not see it), so a tensor a million times smaller than
    the largest is compared at that size.
    """
    assert found.keys() == expected.keys()
    sizes = {name: float(value.abs().max()) for name, value in expected.items()}
    floor = 1e-6 * max(sizes.values())
    return max(
        float((found[name] - expected[name]).abs().max()) / max(sizes[name], floor) for name in expected
    )
