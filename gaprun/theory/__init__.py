"""The theory laboratory: gradient flow of the reduced and the particle system, rate fits, figures."""
