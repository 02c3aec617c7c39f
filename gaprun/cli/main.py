"""Entry point of `gaprun`: collects the commands and turns every error into one line and an exit code."""

from __future__ import annotations

import errno
import gc
import importlib
import os
import signal
import sys
from collections.abc import Sequence
from functools import cache

import typer

from gaprun.cli import interrupt
from gaprun.cli.common import err_console, with_hints
from gaprun.cli.help import Commands
from gaprun.cluster import asking  # noqa: F401 (the store then asks SLURM whether a queued run still waits)
from gaprun.errors import GaprunError
from gaprun.leaving import leave

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
COMMANDS = (
    "train",
    "submit",
    "eval",
    "compare",
    "runs",
    "data",
    "theory",
    "paper",
    "report",
    "watch",
    "db",
    "doctor",
    "init",
)

HELP = "Train CLIP models by recipe, measure their modality gap, and compare methods with error bars."


def _version(asked: bool) -> None:
    if asked:
        from gaprun.version import __version__

        print(f"gaprun {__version__}")
        raise typer.Exit


def root(
    version: bool = typer.Option(
        False, "--version", callback=_version, is_eager=True, help="Print gaprun's version and end."
    ),
    debug: bool = typer.Option(False, "--debug", envvar="GAPRUN_DEBUG", help="Show tracebacks."),
) -> None:
    """Train CLIP models by recipe, measure their modality gap, and compare methods with error bars."""
    os.environ["GAPRUN_DEBUG"] = "1" if debug else ""


@cache
def application(commands: tuple[str, ...] = COMMANDS) -> typer.Typer:
    """The command line with these commands: to make them all takes an eighth of a small `compare`."""
    made = Commands(
        name="gaprun",
        no_args_is_help=True,
        add_completion=True,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},  # inherited by every command
        help=HELP,
    )
    made.callback(help=HELP)(root)
    for name in commands:
        importlib.import_module(f"gaprun.cli.{name}").register(made)
    return made


def __getattr__(name: str) -> typer.Typer:
    """`app`: the whole command line, made when somebody asks for it."""
    if name != "app":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return application()


def asked(words: Sequence[str]) -> tuple[str, ...]:
    """The command that the words after `gaprun` ask for; all where that is none of them, as for help and completion."""
    first = next((word for word in words if not word.startswith("-")), None)
    completing = any(name.endswith("_COMPLETE") for name in os.environ)
    return (first,) if first in COMMANDS and not completing else COMMANDS


def main() -> None:
    """Run the command line; exit code 2 for a user's mistake, 1 for a failure, 130 after Ctrl-C."""
    if signal.getsignal(signal.SIGINT) is leave:
        signal.signal(signal.SIGINT, interrupt)
    try:
        application(asked(sys.argv[1:]))()
    except GaprunError as error:
        if os.environ.get("GAPRUN_DEBUG"):
            raise
        err_console.print(
            f"[bold red]error:[/] {_escape(with_hints(str(error)))}", soft_wrap=True, highlight=False
        )
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        err_console.print("interrupted")
        sys.exit(130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except Exception as error:
        if os.environ.get("GAPRUN_DEBUG"):
            raise
        from gaprun.files import refusal

        code = 1
        if refused := refusal(error):
            told, code = refused, 2
        elif isinstance(error, OSError) and error.errno in FULL:
            told = f"{error.strerror}: what was to be printed or written is not whole; free some space"
        else:
            first = f"{type(error).__name__}: {error}".splitlines()[0]
            told = f"{first} (unexpected; run again with --debug for the traceback)"
        err_console.print(f"[bold red]error:[/] {_escape(told)}", soft_wrap=True, highlight=False)
        sys.exit(code)
    finally:
        if signal.getsignal(signal.SIGINT) is interrupt:
            signal.signal(signal.SIGINT, leave)  # what is left to do is Python's own end
            gc.freeze()  # which looks for circles in all that was made, several times, before memory goes anyway


def _escape(text: str) -> str:
    from rich.markup import escape

    return escape(text)


if __name__ == "__main__":
    main()
