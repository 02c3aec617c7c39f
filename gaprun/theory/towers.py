"""The first steps of real towers: Fig. 4b for any recipe or open_clip architecture, on the user's own split.

Each init is a fresh seed: towers, batch order and crops are drawn anew, and the recipe's own optimiser and schedule
take the steps. The gap is measured before and after on one fixed set of pairs that is not among the first batches,
in training mode (an untrained batch normalisation has no running statistics worth using); or, as the authors' snapshot
does, on the training batches themselves: that of the first step before its update, and that of the last one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from gaprun.data.members import Members, captioned
from gaprun.data.pool import Pool
from gaprun.data.split import open_split
from gaprun.data.stream import Batch, LoadBatch
from gaprun.errors import UserError
from gaprun.model.towers import build_towers, original_tokens, tokenizer_for, trimmed
from gaprun.model.vocabulary import Vocabulary
from gaprun.recipe import load_recipe
from gaprun.recipe.load import validate
from gaprun.recipe.schema import Recipe
from gaprun.runtime.environment import pick_device, prepare
from gaprun.theory.features import centre
from gaprun.theory.start import StartOutcome, repeat
from gaprun.training.encoding import Encode
from gaprun.training.head import Head
from gaprun.training.length import run_length
from gaprun.training.loop import plan_of
from gaprun.training.state import TrainState

PROBE_PAIRS = 512  # the paper measures its gap on 512 pairs
CACHE_LIMIT = 20_000  # pictures; larger pools are decoded as they are needed
GapOf = Literal["pairs", "batch"]


def recipe_for(model: str, data: str | None, overrides: Sequence[str], steps: int, batch_size: int) -> Recipe:
    """The recipe in file `model` with `overrides`, or a plain one for open_clip's architecture `model` on `data`.

    Raises UserError for an architecture without data, or with overrides (there is no file whose keys to change).
    """
    if model.endswith((".yaml", ".yml")):
        return load_recipe(model, [*overrides, *([f"data.train=[{data}]"] if data else [])])
    if data is None:
        raise UserError(f"--model {model} needs --data SPLIT, such as scenes/train")
    if overrides:
        raise UserError("--set changes a recipe's keys: name a recipe file with --model")
    schedule = {"steps": steps, "batch_size": batch_size}
    mapping = {"name": model, "model": {"arch": model}, "data": {"train": [data]}, "schedule": schedule}
    return validate(mapping, f"--model {model}")


@dataclass
class TowerLaboratory:
    """One recipe's data, read and tokenised once for all its inits."""

    recipe: Recipe
    device_name: str = "auto"

    def __post_init__(self) -> None:
        self._device = pick_device(self.device_name)
        prepare(self.recipe.compute, self._device)
        tokenizer, context = tokenizer_for(self.recipe.model)
        self._vocabulary: Vocabulary | None = None
        torch.manual_seed(0)
        self._size = build_towers(self.recipe.model.model_copy(update={"pretrained": None})).image_size
        self._splits = [open_split(ref) for ref in self.recipe.data.sets]
        self._pool = self._pool_of(captioned(self._splits))
        if len(self._pool) <= CACHE_LIMIT:
            self._pool.use_cache(None)
        self._tokens = original_tokens(tokenizer, list(self._pool.texts), context)
        if self.recipe.model.vocabulary == "used":
            self._vocabulary = Vocabulary.used_in(self._tokens, 49408)
            self._tokens = self._vocabulary(self._tokens)
        self._places = {text: k for k, text in enumerate(self._pool.texts)}

    def _pool_of(self, members: Members) -> Pool:
        data = self.recipe.data
        return Pool(self._splits, self._size, data.crop_scale, data.margin, data.crop, members)

    def outcome(
        self,
        *,
        inits: int,
        steps: int,
        seed: int = 0,
        mismatched: float | None = None,
        centred: bool = False,
        of: GapOf = "pairs",
        done: Callable[[], None] = lambda: None,
    ) -> StartOutcome:
        """The gap before and after `steps` steps from each of `inits` seeds; `done` is called after each.

        `mismatched` None keeps the recipe's own share of wrong captions. `centred` subtracts from both towers'
        outputs the constants that give the fixed pairs a gap of 0 at the start. `of` batch: the gap of the first and of
        the last step's batch, `steps` - 1 updates later. With data.subset each seed has pairs of its own. Raises
        UserError for more steps than the recipe has.
        """
        if of == "batch" and (centred or steps < 2):
            raise UserError("the gap of the batch needs two steps, and says nothing of a centred start")
        share = self.recipe.data.mismatched if mismatched is None else mismatched

        def one(rng: np.random.Generator) -> tuple[float, float]:
            gaps = self._one(int(rng.integers(2**31)), steps, share, centred, of)
            done()
            return gaps

        return repeat(one, inits=inits, steps=steps, seed=seed)

    def starts(
        self,
        *,
        inits: int,
        steps: int,
        seed: int,
        shares: Sequence[float],
        of: GapOf = "pairs",
        done: Callable[[], None] = lambda: None,
    ) -> dict[str, StartOutcome]:
        """Every kind of start: the recipe as it is, shares of mismatched captions, and (not for the gap of the batch) a
        centred start."""

        def run(mismatched: float | None = None, centred: bool = False) -> StartOutcome:
            return self.outcome(
                inits=inits, steps=steps, seed=seed, mismatched=mismatched, centred=centred, of=of, done=done
            )

        own = self.recipe.data.mismatched
        outcomes = {"random": run()}
        for share in shares:
            same = outcomes["random"] if share == own else None
            outcomes[f"{share:.0%} shuffled"] = same or run(mismatched=share)
        return outcomes if of == "batch" else outcomes | {"centred": run(centred=True)}

    def _one(self, seed: int, steps: int, mismatched: float, centred: bool, of: GapOf) -> tuple[float, float]:
        recipe, data, pool, tokens = self.recipe, self.recipe.data, self._pool, self._tokens
        if data.subset is not None:
            pool = self._pool_of(captioned(self._splits, data.subset, seed))
            tokens = tokens[[self._places[text] for text in pool.texts]]
        length = run_length(recipe, len(pool), len(pool.texts))
        if steps > length.total:
            raise UserError(f"the recipe has {length.total} steps; {steps} were asked for")
        torch.manual_seed(seed)
        towers = build_towers(recipe.model, self._vocabulary, data.normalisation)
        state = TrainState(recipe, seed, length, towers, Head.of(recipe, seed), self._device)
        trim = trimmed if towers.trimmable else lambda tokens: tokens
        plan = replace(plan_of(recipe, seed, pool), mismatched=mismatched)
        load = LoadBatch(plan, tokens, trim)
        if of == "batch":
            records = [state.train_step(load.load(step), measure=True)[1] for step in range(steps)]
            first, last = records[0], records[-1]
            assert first is not None and last is not None
            return first["gap"], last["gap"]
        pairs = min(PROBE_PAIRS, len(pool))
        fixed = replace(plan, batch_size=pairs, mismatched=0.0, rule="random")
        probe = LoadBatch(fixed, tokens, trim).load(len(pool) // pairs - 1)
        if centred:
            _centre(state, probe)
        before = _gap(state, probe)
        for step in range(steps):
            state.train_step(load.load(step), measure=False)
        return before, _gap(state, probe)


@torch.no_grad()
def _gap(state: TrainState, probe: Batch) -> float:
    x, y = state.encoding.features(*state.encoding.inputs(probe))
    return float((x.double().mean(0) - y.double().mean(0)).norm())


@torch.no_grad()
def _centre(state: TrainState, probe: Batch) -> None:
    """Shift both encoders by constants so that the probe's unit features have mean 0 (as Fig. 2b starts)."""
    encoding = state.encoding
    encoders = {"encode_image": encoding.encode_image, "encode_text": encoding.encode_text}
    outputs: dict[str, Tensor] = {}
    for name, encode in encoders.items():
        setattr(encoding, name, partial(_recorded, encode, outputs, name))
    encoding.features(*encoding.inputs(probe))
    for name, encode in encoders.items():
        raw = outputs[name]
        shift = torch.from_numpy(centre(raw.double().cpu().numpy())).to(raw)
        setattr(encoding, name, partial(_shifted, encode, shift))


def _recorded(encode: Encode, outputs: dict[str, Tensor], name: str, inputs: Tensor) -> Tensor:
    outputs[name] = encode(inputs)
    return outputs[name]


def _shifted(encode: Encode, shift: Tensor, inputs: Tensor) -> Tensor:
    return encode(inputs) - shift
