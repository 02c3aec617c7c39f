"""One job from start to end: what can be known before, training, measuring, several side by side, and loading its model."""
