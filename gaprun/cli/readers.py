"""`gaprun data NAME` for every registered reader, made from the fields of its class when a `data` command is asked for.

Options that all readers share are declared here and in `gaprun.data.reader`, once.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gaprun.cli.help import CommandGroup, Commands
from gaprun.cli.options import ForceOption, WorkersOption
from gaprun.cli.output import Format, FormatOption, JsonOption, chosen
from gaprun.errors import UserError

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

    from gaprun.data.reader import Reader

Write = Callable[["Reader", bool, int | None, Format], None]
# How every reader's splits are written and shown.
_SHARED: dict[str, tuple[Any, Any]] = {
    "workers": (WorkersOption, None),
    "force": (ForceOption, False),
    "format": (FormatOption, Format.table),
    "json": (JsonOption, False),
}


def group_with_readers(write: Write) -> type[CommandGroup]:
    """A click group whose commands are those of the registered readers, plugins' too, and what is added to it."""

    class Readers(CommandGroup):
        def list_commands(self, ctx: Any) -> list[str]:
            self._add_readers()
            return super().list_commands(ctx)

        def get_command(self, ctx: Any, cmd_name: str) -> Any:
            self._add_readers()
            return super().get_command(ctx, cmd_name)

        def _add_readers(self) -> None:
            absent = {name: reader for name, reader in _readers().items() if name not in self.commands}
            made = {name: command_of(reader, write) for name, reader in absent.items()}
            self.commands = {**made, **self.commands}

    return Readers


def _readers() -> dict[str, type[Reader]]:
    from gaprun.data.readers import READERS
    from gaprun.registry import load_plugins

    load_plugins()
    return {str(reader.model_fields["reader"].default): reader for reader in READERS}


def command_of(reader: type[Reader], write: Write) -> Any:
    """The command of `reader`: its required fields first, then its own, those of its parents, and the shared ones."""
    fields = {name: field for name, field in reader.model_fields.items() if name != "reader"}
    own = reader.__annotations__
    order = sorted(fields, key=lambda name: (not fields[name].is_required(), name not in own))
    if clash := [name for name in order if name in _SHARED]:
        raise UserError(f"{reader.__module__}.{reader.__qualname__}: {clash[0]} is an option of every reader")
    kinds = {"context": typer.Context} | {
        name: _option(name, fields[name], name == reader.argument) for name in order
    }
    defaults = {name: _default(fields[name]) for name in order}
    kinds |= {name: kind for name, (kind, _) in _SHARED.items()}
    defaults |= {name: default for name, (_, default) in _SHARED.items()}

    def run(**values: Any) -> None:
        context = values["context"]
        given = {name: values[name] for name in fields if _was_given(context, name)}
        made = _made(reader, given)
        write(made, values["force"], values["workers"], chosen(values["format"], values["json"]))

    run.__doc__ = reader.__doc__
    run.__annotations__ = kinds
    run.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [
            inspect.Parameter(
                name,
                inspect.Parameter.KEYWORD_ONLY,
                default=defaults.get(name, inspect.Parameter.empty),
                annotation=kind,
            )
            for name, kind in kinds.items()
        ]
    )
    app = Commands(add_completion=False, pretty_exceptions_enable=False)
    epilog = f"Example: {reader.example}" if reader.example else None
    app.command(str(reader.model_fields["reader"].default), epilog=epilog)(run)
    return typer.main.get_command(app)


def _option(name: str, field: FieldInfo, argument: bool) -> Any:
    flag = f"--{name.replace('_', '-')}"
    if argument:
        return Annotated[field.annotation, typer.Argument(metavar=name.upper(), help=field.description)]
    return Annotated[field.annotation, typer.Option(flag, help=field.description)]


def _default(field: FieldInfo) -> Any:
    """A field's default as typer takes it."""
    return inspect.Parameter.empty if field.is_required() else field.get_default(call_default_factory=True)


def _was_given(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name != "DEFAULT"


def _made(reader: type[Reader], given: dict[str, Any]) -> Reader:
    from pydantic import ValidationError

    try:
        return reader(**given)
    except ValidationError as error:
        first = error.errors()[0]
        raise UserError(f"--{str(first['loc'][0]).replace('_', '-')}: {first['msg']}") from None
