"""Help texts as a terminal of any width shows them: paragraphs flow, and an option that takes no value shows none."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup


class _Plain:
    """Of a command: typer keeps the line ends of a docstring, and writes `<bool>` beside what is only named."""

    help: str | None

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        if self.help:
            self.help = re.sub(r"(?<=\S)\n(?=\S)", " ", self.help)

    def get_params(self, ctx: Any) -> list[Any]:
        params: list[Any] = super().get_params(ctx)  # type: ignore[misc]
        for param in params:
            if getattr(param, "is_flag", False):
                param.metavar = ""
        return params


class Command(_Plain, TyperCommand):
    """A command with such a help text."""


class CommandGroup(_Plain, TyperGroup):
    """A group of commands, of such commands itself."""


class Commands(typer.Typer):
    """A typer application of these commands and groups."""

    def __init__(self, **named: Any) -> None:
        super().__init__(**{"cls": CommandGroup, "rich_markup_mode": "rich", **named})

    def command(
        self, name: str | None = None, *, cls: type[TyperCommand] | None = None, **named: Any
    ) -> Callable[[Any], Any]:
        """typer's, with `Command` where no class is given."""
        return super().command(name, cls=cls or Command, **named)
