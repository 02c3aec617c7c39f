"""Pictures and tokens to unit features as training makes them: precision, memory layout, compiled towers, teacher."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn.functional import normalize

from gaprun.data.resample import Pictures, crop_and_normalise, picture_interpolation
from gaprun.data.stream import Batch
from gaprun.model.towers import Towers
from gaprun.recipe.schema import Recipe
from gaprun.training.head import Clouds

Encode = Callable[[Tensor], Tensor]


class Encoding:
    """The towers of one run on its device; `teacher`: both as they were when this was made, if a term asks for it."""

    def __init__(self, towers: Towers, recipe: Recipe, device: torch.device) -> None:
        clip = towers.clip
        self.device, self.precision = device, recipe.compute.precision
        self.micro_batch = recipe.compute.micro_batch
        self.teacher: tuple[Encode, Encode] | None = None
        if recipe.loss.needs_teacher:
            frozen = replace(towers, clip=copy.deepcopy(clip))
            frozen.clip.to(device).eval().requires_grad_(False)
            self.teacher = frozen.clip.encode_image, frozen.encode_text
        clip.to(device)
        self.channels_last = recipe.compute.channels_last
        if self.channels_last:
            clip.to(memory_format=torch.channels_last)
        self.encode_image: Encode = clip.encode_image
        self.encode_text: Encode = towers.encode_text
        if recipe.compute.compile:
            # For each shape anew: they are few (loop.py), and fast because they are known.
            self.encode_image = torch.compile(self.encode_image, dynamic=False)
            self.encode_text = torch.compile(self.encode_text, dynamic=False)
            # One graph a tower, as in one process, and not one for each bucket of gradients (gradients.py).
            torch._dynamo.config.optimize_ddp = False
        settings = towers.preprocessing
        self.image_size = towers.image_size
        self.interpolation = picture_interpolation(recipe.data.resize, settings)
        self._mean = torch.tensor(settings["mean"], device=device)
        self._std = torch.tensor(settings["std"], device=device)

    def inputs(self, batch: Batch) -> tuple[Pictures | Tensor, Tensor]:
        """Pictures and tokens of this process's rows, on the device."""
        non_blocking = self.device.type == "cuda"
        pictures = batch.pictures.to(self.device, non_blocking=non_blocking)
        return pictures, batch.tokens.to(self.device, non_blocking=non_blocking)

    def chunks(self, batch: Batch) -> list[tuple[Pictures | Tensor, Tensor]]:
        """The same in micro-batches where the recipe has them, else as one."""
        pictures, tokens = self.inputs(batch)
        size = self.micro_batch or len(pictures)
        return list(zip(pictures.split(size), tokens.split(size), strict=True))

    def features(
        self, pictures: Pictures | Tensor, tokens: Tensor, encoders: tuple[Encode, Encode] | None = None
    ) -> Clouds:
        """Unit image and text features (b, d), at least fp32; `encoders` in the place of the towers."""
        encode_image, encode_text = encoders or (self.encode_image, self.encode_text)
        images = self.images(pictures)
        with self.autocast():
            # What a frozen tower made is its output already.
            x = pictures if isinstance(pictures, Tensor) else encode_image(images)
            y = tokens if tokens.is_floating_point() else encode_text(tokens)
        return _unit(x), _unit(y)

    @torch.no_grad()
    def teachers(self, batch: Batch) -> Clouds | None:
        """Unit features (b, d) of this process's rows by the teacher; None if no term asks for one."""
        if self.teacher is None:
            return None
        made = [self.features(pictures, tokens, self.teacher) for pictures, tokens in self.chunks(batch)]
        x, y = zip(*made, strict=True)
        return torch.cat(x), torch.cat(y)

    def images(self, pictures: Pictures | Tensor) -> Tensor:
        """The image tower's input (b, 3, size, size) of pictures on the device; features pass through."""
        if isinstance(pictures, Tensor):
            return pictures
        images = crop_and_normalise(pictures, self.image_size, self.interpolation, self._mean, self._std)
        return images.contiguous(memory_format=torch.channels_last) if self.channels_last else images

    @contextmanager
    def autocast(self) -> Iterator[None]:
        """The recipe's precision."""
        kind = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(self.precision, torch.bfloat16)
        with torch.autocast(self.device.type, dtype=kind, enabled=self.precision != "fp32"):
            yield


def _unit(rows: Tensor) -> Tensor:
    return normalize(rows.to(torch.promote_types(rows.dtype, torch.float32)), dim=-1)
