"""Readers of data sets, one class a file; a new one is imported here, or lies in a module that GAPRUN_PLUGINS names."""

from __future__ import annotations

from gaprun.data.reader import READERS, Captioned, Reader
from gaprun.data.readers import captions, classes, coco, flickr8k, flickr30k, scenes

__all__ = [
    "READERS",
    "Captioned",
    "Reader",
    "captions",
    "classes",
    "coco",
    "flickr30k",
    "flickr8k",
    "scenes",
]
