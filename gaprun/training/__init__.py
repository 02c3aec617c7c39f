"""Training: the step, its loop, the optimiser, checkpoints."""
