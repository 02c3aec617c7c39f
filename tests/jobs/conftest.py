"""Small jobs, as in tests/training."""

from tests.training.conftest import run_small

__all__ = ["run_small"]
