"""Captions and label of one sample in foreign shards, from the members beside its picture."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gaprun.data.languages import language_of
from gaprun.data.tables import could_hold_captions
from gaprun.data.text import clean_caption, decode_text, listed

# Of img2dataset, of sets made from parquet files, of Karpathy's. Each may hold a text or a list.
_CAPTION_KEYS = ("captions", "sentences", "caption", "text", "TEXT")
_ITEM_KEYS = ("caption", "raw", "text", "sentence")  # of an entry in such a list
_MAX_LABEL = 2**31


@dataclass
class SampleWords:
    """What the members say, and the reasons to count (`tally.REASONS`).

    languages: of each caption, "" where that is not said; as long as `captions`.
    """

    captions: list[str] = field(default_factory=list)
    languages: list[str] = field(default_factory=list)
    label: int | None = None
    reasons: list[str] = field(default_factory=list)


def sample_words(texts: Mapping[str, bytes], others: Sequence[bytes] = ()) -> SampleWords:
    """Captions and label from the bytes of `json`, `txt` and `cls`, each of which may be missing.

    Captions are a list in json (`captions`, `sentences`, `caption`, `text` or `TEXT`, or json as a whole); else the
    lines of txt, one caption a line (CLIP_benchmark's convention), or all of txt as one caption where json's caption is
    that text; else json's caption; else the lines of `others`, texts of other names, in their order. A list that was
    written as one text is read as a list. The label is json's `label`, else the whole number in cls. White space is
    collapsed. A caption's language is what its entry in json says (`LANGUAGE_NAMES`), else what json says of the
    sample.
    """
    words = SampleWords()
    meta = _meta(texts.get("json"), words)
    several, single = _of_json(meta, words)
    lines = _lines(texts.get("txt"), single, words)
    language = language_of(meta)
    if several:
        words.captions = [caption for caption, _ in several]
        words.languages = [own or language for _, own in several]
        if set(lines) - set(words.captions):
            words.reasons.append("caption_from_json")
    elif lines:
        words.captions = lines
        if single is not None and clean_caption(single) not in lines:
            words.reasons.append("caption_from_txt")
    elif single is not None:
        words.captions = _clean([single], words)
    words.label = _label(meta, texts.get("cls"), words)
    if others and not words.captions:
        words.captions = [caption for data in others for caption in _lines(data, None, words)]
        words.reasons += ["caption_from_other"] if words.captions else []
    elif others:
        words.reasons += ["unread_text"] * len(others)
    words.languages = words.languages or [language] * len(words.captions)
    if meta and not words.captions and "label" not in meta:
        held = [meta[key] for key in _CAPTION_KEYS if key in meta]
        if not held or any(not isinstance(value, str | list | None) for value in held):
            words.reasons.append("json_without_caption")
    return words


def _of_json(meta: Mapping[str, Any], words: SampleWords) -> tuple[list[tuple[str, str]], str | None]:
    """What the first name that holds captions has: several with the language that each says, or a single text."""
    for key in _CAPTION_KEYS:
        value = meta.get(key)
        if isinstance(value, str) and (spread := listed(value)) is not None:
            words.reasons.append("listed_captions")
            value = spread
        if isinstance(value, list):
            spoken = [(_item(one), language_of(one) if isinstance(one, dict) else "") for one in value if one]
            if captions := [(text, own) for item, own in spoken for text in _clean([item], words)]:
                _count_others(meta, key, [text for text, _ in captions], words)
                return captions, None
        if isinstance(value, str) and value.strip():
            _count_others(meta, key, [value], words)
            return [], value
    return [], None


def _count_others(meta: Mapping[str, Any], chosen: str, captions: Sequence[str], words: SampleWords) -> None:
    """Count where another name than the `chosen` one could hold captions too and has other texts."""
    read = {" ".join(text.split()) for text in captions}
    for name, value in meta.items():
        if name != chosen and (name in _CAPTION_KEYS or could_hold_captions(name)):
            texts = [_item(one) for one in value] if isinstance(value, list) else [value]
            if {" ".join(text.split()) for text in texts if isinstance(text, str)} - read - {""}:
                words.reasons.append("other_caption")
                return


def _item(one: Any) -> Any:
    return next((one[key] for key in _ITEM_KEYS if key in one), None) if isinstance(one, dict) else one


def _meta(data: bytes | None, words: SampleWords) -> dict[str, Any]:
    if data is None:
        return {}
    try:
        meta = json.loads(data)
    except (ValueError, RecursionError):
        meta = None
    if isinstance(meta, list | str):
        meta = {"captions": meta}
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
    if (spread := listed(text)) is not None:
        words.reasons.append("listed_captions")
        return _clean(spread, words)
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
    labels = [_number(text) for text in (meta.get("label"), _text(data)) if text is not None]
    if not labels:
        return None
    if labels[0] is None:
        words.reasons.append("unreadable_label")
    elif len(set(labels)) > 1:
        words.reasons.append("label_from_json")
    return labels[0]


def _text(data: bytes | None) -> str | None:
    return None if data is None else data.decode("ascii", "replace").strip()


def _number(label: Any) -> int | None:
    """A class's number, also where it was written as a text or as `3.0`; None for anything else."""
    if isinstance(label, str) and re.fullmatch(r"\d{1,10}", label, re.ASCII):
        label = int(label)
    if isinstance(label, float) and label.is_integer():
        label = int(label)
    known = isinstance(label, int) and not isinstance(label, bool) and 0 <= label < _MAX_LABEL
    return label if known else None
