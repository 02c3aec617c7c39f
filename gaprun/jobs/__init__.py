"""One job from start to end: what is known before, training, measuring; several side by side; loading its model."""
