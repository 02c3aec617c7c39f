"""From stored metrics to answers: means over seeds with intervals, differences, and their tables."""
