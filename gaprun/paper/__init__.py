"""The paper (arXiv 2412.07909) beside our own runs: its published tables, and verdicts on its claims."""
