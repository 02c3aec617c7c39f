"""Captions to token ids, once: the result is kept beside the runs and found again by its content."""

from __future__ import annotations

import hashlib
import io
import mmap
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from gaprun.files import content_hash, is_refused, write_atomically
from gaprun.model.identity import tokenizer_identity
from gaprun.model.towers import original_tokens
from gaprun.model.vocabulary import AnyTokens

CHUNK = 4096
_CHECKSUM = 32  # bytes of sha256 at a kept file's end


def caption_tokens(
    texts: Sequence[str],
    tokenizer: Callable[..., object],
    context_length: int,
    cache: Path,
    progress: Callable[[int, int], None],
) -> AnyTokens:
    """(len(texts), context_length) original ids, of the smallest type that holds them; kept in folder `cache`.

    What is kept is found by the tokenizer's identity and the texts, used only if its checksum agrees, and then mapped:
    processes share it.
    """
    digest = hashlib.sha256(content_hash(tokenizer_identity(tokenizer, context_length)).encode())
    for text in texts:
        digest.update(text.encode() + b"\0")
    path = cache / f"{digest.hexdigest()[:32]}.tokens"
    kept = _read(path)
    if kept is not None and kept.shape == (len(texts), context_length):
        return kept
    parts = [np.zeros((0, context_length), dtype=np.int64)]
    for start in range(0, len(texts), CHUNK):
        parts.append(original_tokens(tokenizer, texts[start : start + CHUNK], context_length))  # type: ignore[arg-type]
        progress(min(start + CHUNK, len(texts)), len(texts))
    tokens = np.concatenate(parts)
    small: AnyTokens = tokens.astype(np.uint16 if tokens.max(initial=0) < 2**16 else np.int32)
    buffer = io.BytesIO()
    np.save(buffer, small)
    content = buffer.getvalue()
    try:
        write_atomically(path, lambda target: target.write_bytes(content + hashlib.sha256(content).digest()))
    except OSError as error:
        if not is_refused(error):  # else another user's folder: they are made again each time
            raise
    return small


def _read(path: Path) -> AnyTokens | None:
    """The array in `path`, mapped; None where there is none, or it is damaged and has to be made again."""
    try:
        with path.open("rb") as file:
            whole = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        content, checksum = whole[:-_CHECKSUM], whole[-_CHECKSUM:]
        if hashlib.sha256(content).digest() != checksum:
            return None
        found: AnyTokens = np.load(path, mmap_mode="r")
        return found
    except (OSError, ValueError):
        return None
