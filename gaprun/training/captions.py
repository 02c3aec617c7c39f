"""Captions to token ids, once: the result is kept beside the runs and found again by its content."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np

from gaprun.files import write_atomically
from gaprun.model.towers import original_tokens
from gaprun.model.vocabulary import Tokens

CHUNK = 4096


def caption_tokens(
    texts: list[str],
    tokenizer: Callable[..., object],
    context_length: int,
    cache: Path,
    progress: Callable[[int, int], None],
) -> Tokens:
    """int64 (len(texts), context_length) original ids; kept in folder `cache` as the smallest type that holds them."""
    digest = hashlib.sha256(
        f"{type(tokenizer).__name__} {getattr(tokenizer, 'vocab_size', 0)} {context_length}".encode()
    )
    for text in texts:
        digest.update(text.encode() + b"\0")
    path = cache / f"{digest.hexdigest()[:32]}.npy"
    try:
        return np.load(path).astype(np.int64)
    except (OSError, ValueError):
        pass  # absent or damaged: made again
    parts = [np.zeros((0, context_length), dtype=np.int64)]
    for start in range(0, len(texts), CHUNK):
        parts.append(original_tokens(tokenizer, texts[start : start + CHUNK], context_length))  # type: ignore[arg-type]
        progress(min(start + CHUNK, len(texts)), len(texts))
    tokens = np.concatenate(parts)
    small = tokens.astype(np.uint16 if tokens.max(initial=0) < 2**16 else np.int32)
    cache.mkdir(parents=True, exist_ok=True)

    def write(target: Path) -> None:
        with target.open("wb") as file:
            np.save(file, small)

    write_atomically(path, write)
    return tokens
