"""Embedding a data set by several processes: each encodes its share of the batches, the first one measures."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from gaprun.data.split import Split, open_split
from gaprun.errors import Failure, GaprunError
from gaprun.evaluation.embed import StoredEmbedder
from gaprun.evaluation.task import Source
from gaprun.runtime.distributed import World
from gaprun.runtime.events import LostProcess

Order = tuple[str, tuple[Any, ...]]  # which of the three below, and its arguments
IMAGES, TEXTS, END = "images", "texts", "end"


class SharedEmbedder(StoredEmbedder):
    """A StoredEmbedder whose batches are encoded by all processes of `world`.

    The first process measures inside `leading()`; the others are in `serve()` meanwhile. Batches are those of one
    process, so the embeddings are too, bit for bit on the same kind of device.
    """

    def __init__(self, *arguments: Any, world: World, **options: Any) -> None:
        """As StoredEmbedder, on every process."""
        super().__init__(*arguments, **options)
        self.world = world
        self._over = False

    def _image_batches(self, split: Source, part: int = 0, of: int = 1) -> list[np.ndarray]:
        sent = split.path.absolute() if isinstance(split, Split) else split  # an open split does not travel
        return self._asked((IMAGES, (sent,)))

    def _text_batches(self, texts: list[str], what: str, part: int = 0, of: int = 1) -> list[np.ndarray]:
        return self._asked((TEXTS, (texts, what)))

    def _asked(self, order: Order) -> list[np.ndarray]:
        self.world.from_first(order)
        return self._share(order)

    def _share(self, order: Order) -> list[np.ndarray]:
        """Do this process's part of `order`; on the first process, all batches in order."""
        kind, arguments = order
        place = (self.world.rank, self.world.size)

        def work() -> list[np.ndarray]:
            if kind == TEXTS:
                texts, what = arguments
                return super(SharedEmbedder, self)._text_batches(texts, what, *place)
            (named,) = arguments
            source = named if hasattr(named, "read_image") else open_split(named)
            return super(SharedEmbedder, self)._image_batches(source, *place)

        self._over = True  # should it fail here, all processes hear of it here
        parts = self.world.to_first(self.world.together(work))
        self._over = False
        count = sum(len(part) for part in parts)
        return [parts[k % len(parts)][k // len(parts)] for k in range(count)]

    @contextmanager
    def leading(self) -> Iterator[None]:
        """Around the first process's measuring: lets the others go, with its error where it ends with one."""
        try:
            yield
        except LostProcess:
            raise
        except Exception as error:
            self._end(error)
            raise
        self._end(None)

    def _end(self, error: Exception | None) -> None:
        if not self._over:
            told = error if error is None or isinstance(error, GaprunError) else Failure(str(error))
            self.world.from_first((END, (told,)))

    def serve(self) -> None:
        """On the other processes: encode what the first asks for, until it ends; raises what it ended with."""
        while True:
            kind, arguments = self.world.from_first((END, (None,)))
            if kind == END:
                break
            self._share((kind, arguments))
        (error,) = arguments
        if error is not None:
            raise error
