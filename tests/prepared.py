"""A process that has imported what gaprun's heavy commands need, and forks for each command line given to it.

Tests run the real command line hundreds of times, and most of a short command is importing torch. gaprun itself is
imported anew by every command. What needs a process of its own (start-up, signals, threads) takes `sys.executable`.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import traceback
from pathlib import Path
from typing import Any

PACKAGES = (
    "torch",
    "open_clip",
    "pandas",
    "sqlalchemy",
    "alembic.command",
    "pydantic",
    "rich.progress",
    "typer",
)


class Prepared:
    """The process, started by the first command and ended with the tests."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None

    def run(
        self, args: list[str], cwd: Path, env: dict[str, str], timeout: float
    ) -> subprocess.CompletedProcess[str]:
        """`gaprun ARGS` in a fork, with its output; raises subprocess.TimeoutExpired."""
        with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
            request = {"args": args, "cwd": str(cwd), "env": env, "timeout": timeout}
            request |= {"parent": os.getpid(), "out": out.fileno(), "err": err.fileno()}
            answer = self._ask(request)
            if answer["code"] is None:
                raise subprocess.TimeoutExpired(["gaprun", *args], timeout)
            texts = [(file.seek(0), file.read())[1] for file in (out, err)]
            return subprocess.CompletedProcess(["gaprun", *args], answer["code"], *texts)

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        if self._process is None or self._process.poll() is not None:
            self._process = subprocess.Popen(
                [sys.executable, str(Path(__file__))],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer


def serve() -> None:
    """Answer requests, one a line, until the tests end."""
    for name in PACKAGES:
        __import__(name)
    for line in sys.stdin:
        request = json.loads(line)
        child = os.fork()
        if child == 0:
            _become_gaprun(request)
        print(json.dumps({"code": _code(child, request["timeout"])}), flush=True)


def _code(child: int, timeout: float) -> int | None:
    """The child's exit code, minus the signal that ended it; None where it took too long."""

    def too_long(*_: object) -> None:
        os.killpg(child, signal.SIGKILL)

    signal.signal(signal.SIGALRM, too_long)
    signal.alarm(int(timeout))
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    late = signal.alarm(0) == 0
    return None if late else code


def _become_gaprun(request: dict[str, Any]) -> None:
    os.setpgid(0, 0)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    nothing = os.open(os.devnull, os.O_RDONLY)
    parent = Path("/proc") / str(request["parent"]) / "fd"
    for target, source in ((0, nothing), (1, os.open(parent / str(request["out"]), os.O_RDWR | os.O_APPEND)),
                           (2, os.open(parent / str(request["err"]), os.O_RDWR | os.O_APPEND))):  # fmt: skip
        os.dup2(source, target)
    sys.stdin, sys.stdout, sys.stderr = open(0), open(1, "w"), open(2, "w")  # noqa: SIM115
    sys.argv = ["gaprun", *request["args"]]
    sys.path[0] = request["cwd"]  # as `python -m` has it
    code = 1
    try:
        from gaprun.cli.main import main

        main()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
    except BaseException:
        traceback.print_exc()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):
            stream.flush()
    import atexit

    atexit._run_exitfuncs()
    os._exit(code)


if __name__ == "__main__":
    serve()
