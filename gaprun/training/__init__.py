"""Training: the step, the optimiser, checkpoints, and running the jobs of a recipe side by side."""
