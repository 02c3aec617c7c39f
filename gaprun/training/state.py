"""One run's living parts - towers, temperature, optimiser - and the training step that moves them.

A step is: features of this process's rows (whole, or in micro-batches), gathered from all processes, swapped; the
loss's addend of these rows; its gradient back into the towers; gradients added up over the processes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from gaprun.data.stream import Batch, crop_and_normalise
from gaprun.model.loss import LOSSES
from gaprun.model.temperature import Learned, TemperatureRule
from gaprun.model.towers import Towers
from gaprun.recipe.schema import Recipe
from gaprun.training.batchnorm import statistics_kept, synchronised
from gaprun.training.distributed import ALONE, World
from gaprun.training.length import Length
from gaprun.training.optimizer import build_optimizer, learning_rate, set_learning_rate

Encode = Callable[[Tensor], Tensor]
SWAP_STREAM, NOISE_STREAM = 101, 102


class Head(nn.Module):
    """The learned scalars between features and loss: nu of the temperature rule, the bias of the sigmoid loss."""

    def __init__(self, rule: TemperatureRule, loss: LOSSES) -> None:
        super().__init__()
        nu, bias = rule.initial_nu(), loss.initial_bias()
        self.nu = None if nu is None else nn.Parameter(torch.tensor(nu, dtype=torch.float32))
        self.bias = None if bias is None else nn.Parameter(torch.tensor(bias, dtype=torch.float32))


@dataclass
class TrainState:
    """Everything that a step reads or changes; `step` counts the updates done."""

    recipe: Recipe
    seed: int
    length: Length
    towers: Towers
    head: Head
    device: torch.device
    step: int = 0
    damaged: set[str] = field(default_factory=set)
    world: World = ALONE

    def __post_init__(self) -> None:
        recipe, clip = self.recipe, self.towers.clip
        rule = recipe.temperature
        # The towers' own logit scale takes no part: nu of the head is what is trained.
        for name in ("logit_scale", "logit_bias"):
            parameter = getattr(clip, name, None)
            if parameter is not None:
                parameter.requires_grad_(False)
        if self.world.size > 1:
            synchronised(clip, self.world, self.device)
        self.rows = self.world.rows(self.length.batch_size)
        clip.to(self.device)
        if recipe.compute.channels_last:
            clip.to(memory_format=torch.channels_last)
        clip.train()
        self.head.to(self.device)
        factor = rule.lr_factor if isinstance(rule, Learned) else 1.0
        self.optimizer = build_optimizer(clip, self.head, recipe.optimizer, factor)
        self.scaler = torch.amp.GradScaler("cuda", enabled=recipe.compute.precision == "fp16")
        self.encode_image: Encode = clip.encode_image
        self.encode_text: Encode = self.towers.encode_text
        if recipe.compute.compile:
            self.encode_image = torch.compile(self.encode_image)
            self.encode_text = torch.compile(self.encode_text)
        settings = self.towers.preprocessing
        self._mean = torch.tensor(settings["mean"], device=self.device)
        self._std = torch.tensor(settings["std"], device=self.device)

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

    def features(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Unit image and text features (B, d), at least fp32, of one batch."""
        return self._encode(*self._inputs(batch))

    def _inputs(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        non_blocking = self.device.type == "cuda"
        pictures = batch.pictures.to(self.device, non_blocking=non_blocking)
        crops = batch.crops.to(self.device, non_blocking=non_blocking)
        return pictures, crops, batch.tokens.to(self.device, non_blocking=non_blocking)

    def _encode(self, pictures: Tensor, crops: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        images = crop_and_normalise(pictures, crops, self.towers.image_size, self._mean, self._std)
        if self.recipe.compute.channels_last:
            images = images.contiguous(memory_format=torch.channels_last)
        with self._autocast():
            x, y = self.encode_image(images), self.encode_text(tokens)
        return _unit(x), _unit(y)

    def _embedded(self, batch: Batch) -> tuple[Tensor, Tensor, Callable[[], None]]:
        """Features (b, d) of this process's rows, and what carries their gradients on into the towers.

        With `compute.micro_batch` (GradCache, Gao et al. 2021) the features are first made without a graph; once the
        loss has given their gradients, each micro-batch is embedded again, by the same random numbers, and its part
        of them goes into the towers. One micro-batch's activations are in memory at a time.
        """
        inputs = self._inputs(batch)
        size = self.recipe.compute.micro_batch
        if size is None or size >= len(batch.pictures):
            self._seed_noise(0)
            x, y = self._encode(*inputs)
            return x, y, lambda: None
        chunks = list(zip(*(tensor.split(size) for tensor in inputs), strict=True))

        def encode(k: int) -> tuple[Tensor, Tensor]:
            self._seed_noise(k * size)
            return self._encode(*chunks[k])

        with torch.no_grad(), statistics_kept(self.towers.clip):
            made = [encode(k) for k in range(len(chunks))]
        x, y = (torch.cat(parts).requires_grad_() for parts in zip(*made, strict=True))

        def carry_on() -> None:
            assert x.grad is not None and y.grad is not None
            for k, part in enumerate(zip(x.grad.split(size), y.grad.split(size), strict=True)):
                torch.autograd.backward(encode(k), part)

        return x, y, carry_on

    @contextmanager
    def _autocast(self) -> Iterator[None]:
        precision = self.recipe.compute.precision
        kind = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision, torch.bfloat16)
        with torch.autocast(self.device.type, dtype=kind, enabled=precision != "fp32"):
            yield

    def train_step(self, batch: Batch, measure: bool) -> tuple[Tensor, dict[str, float] | None]:
        """One update with this process's rows of the batch; returns the loss of the whole batch (0-d, on the device)
        and, on the first process and if `measure`, the record of this step."""
        recipe = self.recipe
        rate = learning_rate(self.step, self.length.total, self.length.warmup, recipe.optimizer.lr)
        set_learning_rate(self.optimizer, rate)
        own_x, own_y, carry_on = self._embedded(batch)
        x, y = self.world.gathered(own_x, own_y)
        swapped_x, swapped_y = recipe.swap.apply(
            x, y, torch.Generator().manual_seed(self._keyed(SWAP_STREAM))
        )
        beta = self.beta()
        addend = recipe.loss.addend(swapped_x, swapped_y, self.rows, beta, self.head.bias)
        loss = self.world.total(addend)
        measure = measure and self.world.first
        record = self._measure(x.detach(), y.detach(), loss, beta, rate) if measure else None
        self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(addend).backward()
        carry_on()
        self.world.add_up([p.grad for p in self._trained() if p.grad is not None])
        if recipe.optimizer.grad_clip is not None:
            self.scaler.unscale_(self.optimizer)
            torch.nn.utils.clip_grad_norm_(self.towers.clip.parameters(), recipe.optimizer.grad_clip)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self._clamp()
        self.step += 1
        return loss, record

    def _trained(self) -> Iterator[nn.Parameter]:
        yield from self.towers.clip.parameters()
        yield from self.head.parameters()

    def _seed_noise(self, row: int) -> None:
        """Dropout and the like draw from torch's own generator: keyed by step and first row, so that resuming and
        embedding again are exact."""
        row += self.rows.start
        torch.manual_seed(self._keyed(NOISE_STREAM, *([row] if row else [])))

    def _keyed(self, purpose: int, *more: int) -> int:
        sequence = np.random.SeedSequence([self.seed, purpose, self.step, *more])
        return int(sequence.generate_state(1, np.uint64)[0] >> np.uint64(1))

    def _clamp(self) -> None:
        rule = self.recipe.temperature
        if self.head.nu is not None and isinstance(rule, Learned) and rule.max_beta is not None:
            with torch.no_grad():
                self.head.nu.clamp_(rule.nu_for(min(1.0, rule.max_beta)), rule.nu_for(rule.max_beta))

    @torch.no_grad()
    def _measure(
        self, x: Tensor, y: Tensor, loss: Tensor, beta: Tensor | float, rate: float
    ) -> dict[str, float]:
        similarity = x @ y.T
        matched = similarity.diagonal()
        others = similarity - torch.diag(torch.full_like(matched, 4.0))
        scale = float(beta)
        return {
            "step": self.step,
            "samples_seen": self.step * self.length.batch_size,
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
        """Tensors and plain values from which `load_state_dict` continues exactly."""
        clip = self.towers.clip
        with torch.no_grad():
            # So that the towers alone, in open_clip's own tools, carry the temperature that was learned.
            clip.logit_scale.fill_(math.log(self.beta_value()))
        return {
            "step": self.step,
            "clip": clip.state_dict(),
            "head": self.head.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "damaged": sorted(self.damaged),
        }

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Continue from what `state_dict` gave."""
        self.towers.clip.load_state_dict(saved["clip"])
        self.head.load_state_dict(saved["head"])
        self.optimizer.load_state_dict(saved["optimizer"])
        self.scaler.load_state_dict(saved["scaler"])
        self.step, self.damaged = saved["step"], set(saved["damaged"])


def _unit(rows: Tensor) -> Tensor:
    return normalize(rows.to(torch.promote_types(rows.dtype, torch.float32)), dim=-1)
