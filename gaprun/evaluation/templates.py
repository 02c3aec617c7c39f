"""Prompt templates for zero-shot classification, by name or the user's own."""

from __future__ import annotations

from collections.abc import Sequence

from gaprun.errors import UserError

PLAIN = ("{}",)
NAMES = ("simple", "openai", "plain")


def templates(choice: str | Sequence[str]) -> list[str]:
    """Templates with one `{}` each for the class name.

    `simple` (7) and `openai` (80) are open_clip's copies of OpenAI's sets, `plain` (also `none`) is the
    bare class name; a list stands for itself. Raises UserError for another name, an empty list, or a
    template in which `{}` does not occur exactly once.
    """
    if isinstance(choice, str):
        return _named(choice)
    own = list(choice)
    if not own:
        raise UserError(
            f"no prompt templates given: list some with one {{}} each, or name {', '.join(NAMES)}"
        )
    for template in own:
        if template.count("{}") != 1:
            raise UserError(
                f"prompt template {template!r} must hold {{}} exactly once, where the class name goes"
            )
    return own


def _named(name: str) -> list[str]:
    if name in ("plain", "none"):
        return list(PLAIN)
    if name not in NAMES:
        raise UserError(
            f"unknown prompt templates {name!r}: name {', '.join(NAMES)} or list your own with {{}}"
        )
    from open_clip import zero_shot_metadata as published

    chosen = published.OPENAI_IMAGENET_TEMPLATES if name == "openai" else published.SIMPLE_IMAGENET_TEMPLATES
    # open_clip ships functions of the class name; as text they can be stored beside the result.
    return [fill("{}") for fill in chosen]


def prompts(classes: Sequence[str], choice: str | Sequence[str]) -> list[str]:
    """Every prompt, class by class: classes[0] in each template, then classes[1] ... (K * T strings).

    Underscores in class names (folder names) become spaces.
    """
    filled = templates(choice)
    return [template.replace("{}", name.replace("_", " ")) for name in classes for template in filled]
