"""What training itself gives, stored beside the tasks' values as the task `training`."""

from __future__ import annotations

from gaprun.metrics import DOWN, NONE, Metric

TRAINING = (
    Metric("temperature", NONE, "temperature tau at the last step", places=4),
    Metric("loss", DOWN, "loss at the last step"),
)
