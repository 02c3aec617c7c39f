"""gaprun: train CLIP by recipe, measure the modality gap, compare methods with error bars (arXiv 2412.07909)."""

__version__ = "0.1.0"
