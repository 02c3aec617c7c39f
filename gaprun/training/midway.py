"""Measuring in the middle of training: the state as its checkpoint holds it, and afterwards as it was, bit for bit."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch

from gaprun.training.state import TrainState


@contextmanager
def as_saved(state: TrainState) -> Iterator[None]:
    """Inside the block, towers and head are the run's model (the average, where there is one) in evaluation mode.

    Afterwards weights, each layer's mode and torch's random numbers are what they were. An average takes a copy of the
    weights' memory meanwhile.
    """
    clip, cuda = state.towers.clip, state.device.type == "cuda"
    modes = [(layer, layer.training) for layer in clip.modules()]
    averaged = state.average.shown() if state.average is not None else nullcontext()
    try:
        with averaged, torch.random.fork_rng([state.device] if cuda else []):
            clip.eval()
            yield
    finally:
        for layer, training in modes:
            layer.training = training
