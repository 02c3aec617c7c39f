"""What no task measures: values that training itself gives (stored as the task `training`), and those that only results
of other programs bring."""

from __future__ import annotations

from gaprun.metrics import DOWN, NONE, Metric

TRAINING = (
    Metric("temperature", NONE, "temperature tau at the step measured", places=4),
    Metric("loss", DOWN, "loss at the last step"),
)
IMPORTED = (
    Metric("val_loss", DOWN, "contrastive loss of validation pairs"),
    Metric("image_mean_rank", DOWN, "mean rank of the right image", places=1, short="mean_rank"),
    Metric("text_mean_rank", DOWN, "mean rank of the best right caption", places=1, short="mean_rank"),
)
