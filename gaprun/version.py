"""This version of gaprun, as pyproject.toml has it, and the folder that it lies in."""

from pathlib import Path

__version__ = "0.1.0"
PACKAGE = Path(__file__).resolve().parent
