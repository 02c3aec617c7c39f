"""In which language captions are, where a set says so: several are never mixed unless somebody asked for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gaprun.errors import UserError

# Names, in small letters, of a table's column or of a key in JSON.
LANGUAGE_NAMES = ("lang", "language", "lang_code", "language_code")
ALL = "all"
HELP = "Language of the captions to keep, where the set says it; repeatable; `all` keeps them together."
_SHOWN = 8


def language_of(record: Mapping[str, Any]) -> str:
    """The language that an object in JSON, or a row by column, says of its text, in small letters; "" for none."""
    for name, value in record.items():
        if name.lower() in LANGUAGE_NAMES and isinstance(value, str) and value.strip():
            return value.strip().lower()
    return ""


def languages_to_keep(counts: Mapping[str, int], asked: Sequence[str], where: str) -> frozenset[str] | None:
    """The languages whose captions are kept, None for captions of any.

    counts: captions by language, "" being those of which nothing is said. asked: what `--language` names. Raises
    UserError, which begins with `where` or the option, for several languages of which none was asked for, and for a
    language that no caption has.
    """
    known = sorted((language for language in counts if language), key=lambda one: (-counts[one], one))
    named = ", ".join(f"{language} {counts[language]:,}" for language in known[:_SHOWN])
    if len(known) > _SHOWN:
        named += f" and {len(known) - _SHOWN} more"
    if not asked:
        if len(known) > 1:
            raise UserError(
                f"{where} has captions in {len(known)} languages ({named}): name the one to keep with --language, or "
                f"keep them together with --language {ALL}"
            )
        return None
    wanted = {one.strip().lower() for one in asked}
    if not known:
        names = " or ".join(LANGUAGE_NAMES[:2])
        raise UserError(f"--language {asked[0]}: {where} has no {names} beside its captions: leave it out")
    if absent := sorted(wanted - {*known, ALL}):
        raise UserError(f"--language {absent[0]}: {where} has no captions in it (it has: {named})")
    return None if ALL in wanted else frozenset(wanted)
