"""One run's living parts - towers, temperature, optimiser - and the training step that moves them.

A step is: features of this process's rows (whole, or in micro-batches), gathered from all processes, swapped; the
loss's addend of these rows; its gradient back into the towers, added up over the processes on the way.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from gaprun.data.stream import Batch
from gaprun.errors import UserError
from gaprun.model.frozen import freeze, training_mode
from gaprun.model.temperature import Learned
from gaprun.model.towers import Towers
from gaprun.recipe.schema import Recipe
from gaprun.runtime.distributed import ALONE, World, in_contact
from gaprun.training.alone import alone_in_batch
from gaprun.training.average import WeightAverage
from gaprun.training.batchnorm import statistics_kept, synchronised
from gaprun.training.encoding import Encoding
from gaprun.training.gradients import Through, adding_up
from gaprun.training.head import Clouds, Head
from gaprun.training.length import Length
from gaprun.training.optimizer import build_optimizer, learning_rate, set_learning_rate

SWAP_STREAM, NOISE_STREAM, TERM_STREAM = 101, 102, 104


@dataclass
class TrainState:
    """Everything that a step reads or changes; `step` counts the updates done.

    origin: what a checkpoint says of where it comes from, beside recipe and seed. whole: false while an update is under
    way; what an error leaves then is neither step's state. at_chance: looks in a row at a loss of chance (diverged.py).
    """

    recipe: Recipe
    seed: int
    length: Length
    towers: Towers
    head: Head
    device: torch.device
    step: int = 0
    damaged: set[str] = field(default_factory=set)
    world: World = ALONE
    origin: dict[str, Any] = field(default_factory=dict)
    whole: bool = True
    at_chance: int = 0

    def __post_init__(self) -> None:
        recipe, clip = self.recipe, self.towers.clip
        rule = recipe.temperature
        # The towers' own logit scale takes no part: nu of the head is what is trained.
        for name in ("logit_scale", "logit_bias"):
            parameter = getattr(clip, name, None)
            if parameter is not None:
                parameter.requires_grad_(False)
        # Before anything is trained or loaded: its teacher is what a run from pretrained weights starts from.
        self.encoding = Encoding(self.towers, recipe, self.device)
        if self.world.size > 1:
            synchronised(clip, self.world, self.device)
        self.rows = check_shared(self.length, self.world)
        freeze(clip, recipe.model.freeze)
        training_mode(clip, recipe.model.freeze)
        self.head.to(self.device)
        factor = rule.lr_factor if isinstance(rule, Learned) else 1.0
        self.optimizer = build_optimizer(clip, self.head, recipe.optimizer, factor)
        decay, averaged = recipe.optimizer.ema, {"clip": clip, "head": self.head}
        self.average = None if decay is None else WeightAverage(decay, averaged)
        self.scaler = torch.amp.GradScaler("cuda", enabled=recipe.compute.precision == "fp16")
        self._statistics = [b for m in clip.modules() if isinstance(m, _BatchNorm) for b in m.buffers()]

    @cached_property
    def _adding_up(self) -> Through:
        """Made in the first step, where all processes are: they build their states one after the other."""
        return adding_up(self._trained(), self.world)

    @property
    def progress(self) -> float:
        """0 at the first step, 1 at the last: what scheduled temperatures follow."""
        return min(self.step / max(self.length.total - 1, 1), 1.0)

    def beta(self) -> Tensor | float:
        """Inverse temperature of the coming step, differentiable in nu."""
        return self.recipe.temperature.beta(self.head.nu, self.progress)

    @torch.no_grad()
    def beta_value(self) -> float:
        """Inverse temperature of the coming step as a number."""
        return float(self.beta())

    def _backward(self, batch: Batch) -> tuple[Tensor, Clouds]:
        """Give every parameter its gradient of the whole batch's loss; returns the addend (0-d) of this process's rows
        and the features (n, d) of the whole batch.

        With `compute.micro_batch` (GradCache, Gao et al. 2021) the features are first made without a graph; once the
        loss has given their gradients, each micro-batch is embedded again, by the same random numbers, and its part
        of them goes into the towers. One micro-batch's activations are in memory at a time. Gradients gather in this
        process until the last one, whose backward pass adds them up over the processes.
        """
        chunks = self.encoding.chunks(batch)
        size = len(chunks[0][0])

        def encode(k: int) -> Clouds:
            self._seed_noise(k * size)
            try:
                return self.encoding.features(*chunks[k])
            except ValueError as error:
                if len(chunks) == 1 or len(chunks[k][1]) > 1:
                    raise
                raise alone_in_batch(size, len(batch.tokens), error) from error

        if len(chunks) == 1:
            addend, clouds = self._adding_up(lambda: self._addend(batch, *encode(0)))
            self.scaler.scale(addend).backward()
            return addend.detach(), clouds
        with torch.no_grad(), statistics_kept(self.towers.clip):
            made = [encode(k) for k in range(len(chunks))]
        x, y = (torch.cat(parts).requires_grad_() for parts in zip(*made, strict=True))
        addend, clouds = self._addend(batch, x, y)
        self.scaler.scale(addend).backward()
        assert x.grad is not None and y.grad is not None
        given = list(zip(x.grad.split(size), y.grad.split(size), strict=True))
        for k, part in enumerate(given):
            last = k == len(given) - 1
            found = self._adding_up(partial(encode, k)) if last else encode(k)
            # A frozen tower's have no graph.
            pairs = [pair for pair in zip(found, part, strict=True) if pair[0].requires_grad]
            torch.autograd.backward([own for own, _ in pairs], [gradient for _, gradient in pairs])
        return addend.detach(), clouds

    def _addend(self, batch: Batch, own_x: Tensor, own_y: Tensor) -> tuple[Tensor, Clouds]:
        """What this process's rows add to the whole loss, and the features (n, d) of the whole batch, detached."""
        x, y = self.world.gathered(own_x, own_y)
        rows = self.rows if self.world.size > 1 else slice(0, len(x))  # a last batch may be smaller
        swapped = self.recipe.swap.apply(x, y, torch.Generator().manual_seed(self._keyed(SWAP_STREAM)))
        own = self.encoding.teachers(batch)
        teacher = None if own is None else self.world.gathered(*own)
        addend = self.head.addend((x, y), swapped, rows, self.beta(), self._term_random, teacher)
        return addend, (x.detach(), y.detach())

    @contextmanager
    def undone(self) -> Iterator[None]:
        """Around a step: an error before its update leaves the state as it was, also batch normalisation's."""
        step, before = self.step, [buffer.clone() for buffer in self._statistics]
        try:
            yield
        except BaseException:
            if self.whole and self.step == step:
                self.whole = False  # should the device not even do this
                for buffer, value in zip(self._statistics, before, strict=True):
                    buffer.copy_(value)
                self.whole = True
            raise

    def train_step(self, batch: Batch, measure: bool) -> tuple[Tensor, dict[str, float] | None]:
        """One update with this process's rows of the batch; returns the loss of the whole batch (0-d, on the device)
        and, on the first process and if `measure`, the record of this step."""
        recipe = self.recipe
        total, warmup, peak = self.length.total, self.length.warmup, recipe.optimizer.lr
        rate = learning_rate(self.step, total, warmup, peak, recipe.schedule.shape)
        set_learning_rate(self.optimizer, rate)
        self.optimizer.zero_grad(set_to_none=True)
        with in_contact(also_computes=True):
            addend, (x, y) = self._backward(batch)
        loss = self.world.total(addend)
        record = self._measure(x, y, loss, rate) if measure and self.world.first else None
        if recipe.optimizer.grad_clip is not None:
            self.scaler.unscale_(self.optimizer)
            everything = recipe.optimizer.grad_clip_over == "all"
            clipped = self._trained() if everything else self.towers.clip.parameters()
            torch.nn.utils.clip_grad_norm_(clipped, recipe.optimizer.grad_clip)
        nu_before = None if self.head.nu is None else self.head.nu.detach().clone()
        self.whole = False
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self._clamp(nu_before)
        self.step += 1
        if self.average is not None:
            self.average.update()
        self.whole = True
        return loss, record

    def contrastive(self) -> tuple[float, int]:
        """The last step's contrastive loss of the whole batch, without weight and terms, and its number of pairs."""
        assert self.head.contrastive is not None
        addend, pairs = self.head.contrastive
        return self.world.total(addend).item(), pairs

    def _trained(self) -> Iterator[nn.Parameter]:
        yield from self.towers.clip.parameters()
        yield from self.head.parameters()

    def _seed_noise(self, row: int) -> None:
        """Dropout and the like draw from torch's own generator: keyed by step and first row, so that resuming and
        embedding again are exact."""
        row += self.rows.start
        torch.manual_seed(self._keyed(NOISE_STREAM, *([row] if row else [])))

    def _term_random(self, index: int) -> np.random.Generator:
        """Numbers for a term in this step: the same on every process, and after resuming."""
        return np.random.default_rng([self.seed, TERM_STREAM, self.step, index])

    def _keyed(self, purpose: int, *more: int) -> int:
        sequence = np.random.SeedSequence([self.seed, purpose, self.step, *more])
        return int(sequence.generate_state(1, np.uint64)[0] >> np.uint64(1))

    @torch.no_grad()
    def _clamp(self, before: Tensor | None) -> None:
        """Keep nu within the rule's bounds; `before`: nu before the step."""
        rule, nu = self.recipe.temperature, self.head.nu
        if nu is None or not isinstance(rule, Learned):
            return
        if rule.rising_only and before is not None:
            nu.copy_(torch.minimum(nu, before))  # beta grows with nu, so tau does not fall
        if rule.max_beta is not None:
            nu.clamp_(rule.nu_for(min(1.0, rule.max_beta)), rule.nu_for(rule.max_beta))

    @torch.no_grad()
    def _measure(self, x: Tensor, y: Tensor, loss: Tensor, rate: float) -> dict[str, float]:
        similarity = x @ y.T
        matched = similarity.diagonal()
        others = similarity - torch.diag(torch.full_like(matched, 4.0))
        scale = self.beta_value()
        return {
            "step": self.step,
            "samples_seen": self.length.samples_before(self.step),
            "epoch": self.step / self.length.steps_per_epoch,
            "temperature": 1.0 / scale,
            "logit_scale": scale,
            "loss": loss.item(),
            "gap": (x.mean(0) - y.mean(0)).norm().item(),
            "learning_rate": rate,
            "matched_cosine": matched.mean().item(),
            "mismatched_share": (others.max(1).values >= matched).float().mean().item(),
        }

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain values from which `load_state_dict` continues exactly.

        `clip` and `head` are the run's model: with `optimizer.ema` the average, and `trained` what goes on training.
        """
        averaged = None if self.average is None else self.average.weights
        model = averaged or {"clip": self.towers.clip.state_dict(), "head": self.head.state_dict()}
        with torch.no_grad():
            # So that the towers alone, in open_clip's own tools, carry the temperature that was learned.
            beta = self.recipe.temperature.beta(model["head"].get("nu"), self.progress)
            model["clip"]["logit_scale"].fill_(math.log(float(beta)))
        trained = {} if self.average is None or averaged is None else {"trained": self.average.trained()}
        return {
            "step": self.step,
            **model,
            **trained,
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "damaged": sorted(self.damaged),
            "at_chance": self.at_chance,
        }

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Continue from what `state_dict` gave."""
        if self.average is not None and "trained" in saved:
            self.average.load({"clip": saved["clip"], "head": saved["head"]}, saved["trained"])
        else:
            self.towers.clip.load_state_dict(saved["clip"])
            self.head.load_state_dict(saved["head"])
        self.optimizer.load_state_dict(saved["optimizer"])
        self.scaler.load_state_dict(saved["scaler"])
        self.step, self.damaged = saved["step"], set(saved["damaged"])
        self.at_chance = saved.get("at_chance", 0)

    def end(self) -> None:
        """Training is over: towers and head become what is measured (the average, where there is one)."""
        if self.average is not None and self.average.weights is not None:
            self.average.put_in_place()


def check_shared(length: Length, world: World) -> slice:
    """The rows of a batch that this process of `world` has. Raises UserError where batches cannot be shared out."""
    if world.size > 1 and length.samples_before(length.steps_per_epoch) % length.batch_size:
        raise UserError(
            "schedule.remainder: keep leaves a smaller last batch, which several processes cannot share; train in one "
            "process, or set drop"
        )
    return world.rows(length.batch_size)
