"""Captions and label of one sample in foreign shards, from the members beside its picture."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from gaprun.data.text import clean_caption, decode_text

_CAPTION_KEYS = ("caption", "text", "TEXT")  # of img2dataset, and of sets made from parquet files
_MAX_LABEL = 2**31


@dataclass
class SampleWords:
    """What the members say, and the reasons to count (`tally.REASONS`)."""

    captions: list[str] = field(default_factory=list)
    label: int | None = None
    reasons: list[str] = field(default_factory=list)


def sample_words(texts: Mapping[str, bytes]) -> SampleWords:
    """Captions and label from the bytes of `json`, `txt` and `cls`, each of which may be missing.

    Captions are json's list `captions`; else the lines of txt, one caption a line (CLIP_benchmark's convention), or all
    of txt as one caption where json's `caption` is that text; else json's `caption`, `text` or `TEXT`. The label is
    json's `label`, else the whole number in cls. White space is collapsed.
    """
    words = SampleWords()
    meta = _meta(texts.get("json"), words)
    single = next(
        (meta[key] for key in _CAPTION_KEYS if isinstance(meta.get(key), str) and meta[key].strip()), None
    )
    listed = (
        _clean([one for one in meta["captions"] if one], words)
        if isinstance(meta.get("captions"), list)
        else []
    )
    lines = _lines(texts.get("txt"), single, words)
    if listed:
        words.captions = listed
        if set(lines) - set(listed):
            words.reasons.append("caption_from_json")
    elif lines:
        words.captions = lines
        if single is not None and clean_caption(single) not in lines:
            words.reasons.append("caption_from_txt")
    elif single is not None:
        words.captions = _clean([single], words)
    words.label = _label(meta, texts.get("cls"), words)
    return words


def _meta(data: bytes | None, words: SampleWords) -> dict[str, Any]:
    if data is None:
        return {}
    try:
        meta = json.loads(data)
    except (ValueError, RecursionError):
        meta = None
    if not isinstance(meta, dict):
        words.reasons.append("undecodable_json")
        return {}
    return meta


def _lines(data: bytes | None, single: str | None, words: SampleWords) -> list[str]:
    if data is None:
        return []
    try:
        text = decode_text(data)
    except UnicodeError:
        words.reasons.append("undecodable_caption")
        return []
    if single is not None and text.split() == single.split():
        return _clean([single], words)
    return _clean(text.split("\n"), words)


def _clean(texts: list[Any], words: SampleWords) -> list[str]:
    """The captions that are texts and not empty, cleaned; the others are counted where they are broken."""
    captions = []
    for text in texts:
        cleaned = clean_caption(text) if isinstance(text, str) else None
        if cleaned is None:
            words.reasons.append("undecodable_caption")
        elif cleaned:
            captions.append(cleaned)
    return captions


def _label(meta: dict[str, Any], data: bytes | None, words: SampleWords) -> int | None:
    label = meta.get("label")
    if label is None and data is not None:
        text = data.decode("ascii", "replace").strip()
        label = int(text) if re.fullmatch(r"\d{1,10}", text, re.ASCII) else text
    if label is None:
        return None
    if isinstance(label, int) and not isinstance(label, bool) and 0 <= label < _MAX_LABEL:
        return label
    words.reasons.append("unreadable_label")
    return None
