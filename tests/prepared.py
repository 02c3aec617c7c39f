"""A Python that has imported what gaprun's heavy commands need: `PREPARED.python` is a program to call like python.

Tests run real processes hundreds of times, and most of a short one is importing torch. Here a server imports it once
and forks for every call: `prepared_client.py`, which stands where python would, hands over its arguments, files,
folder, environment and signals, and ends as the fork ends. Of gaprun, what lies below the command line is there too,
but for calls with plugins or a path of their own. What needs a process of its own (start-up, limits, threads) takes
`sys.executable`.
"""

from __future__ import annotations

import atexit
import fcntl
import io
import json
import multiprocessing
import multiprocessing.process
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import types
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
    "scipy.optimize",
    "typer",
    "gaprun.jobs.run",
    "gaprun.jobs.parallel",
    "gaprun.jobs.preflight",
    "gaprun.evaluation.run",
    "gaprun.evaluation.probe",
    "gaprun.evaluation.retrieval",
    "gaprun.comparison.table",
    "gaprun.report.page",
)
CLIENT = Path(__file__).with_name("prepared_client.py")


class Prepared:
    """The server, started by the first use and ended with the tests."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    @property
    def python(self) -> str:
        """The program to call in place of `sys.executable`."""
        if self._process is None or self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="prepared-")
            place = Path(self._folder.name)
            program = place / "python"
            program.write_text(
                f"#!{sys.executable} -IS\n{CLIENT.read_text()}\nmain({str(place / 'socket')!r})\n"
            )
            program.chmod(0o755)
            with socket.socket(socket.AF_UNIX) as listener:
                listener.bind(str(place / "socket"))
                listener.listen(128)
                command = [sys.executable, __file__, str(listener.fileno()), str(program)]
                self._process = subprocess.Popen(
                    command, stdin=subprocess.PIPE, pass_fds=[listener.fileno()], start_new_session=True
                )
        return str(Path(self._folder.name) / "python")


def serve(number: int, program: str) -> None:
    """Fork for every call, until the tests end and with them this process's input."""
    for name in PACKAGES:
        __import__(name)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # whoever attends a call is nobody's to wait for
    listener = socket.socket(fileno=number)
    while True:
        ready, _, _ = select.select([listener, 0], [], [])
        if 0 in ready:
            return
        call, _ = listener.accept()
        if os.fork() == 0:
            listener.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            _attend(call, program)
        call.close()


def _attend(call: socket.socket, program: str) -> None:
    """Run what was asked for in a fork, tell its pid and how it ended; it does not outlive who called."""
    size, files, _, _ = socket.recv_fds(call, 8, 253)
    text = b""
    while len(text) < int.from_bytes(size, "big"):
        text += call.recv(1 << 20)
    child = os.fork()
    if child == 0:
        call.close()
        _become_python(json.loads(text), files, program)
    for file in files:
        os.close(file)
    ended = os.pidfd_open(child)
    try:
        call.sendall(child.to_bytes(8, "big"))
        gone = call in select.select([call, ended], [], [])[0]
    except OSError:  # gone before it was told
        gone = True
    if gone:
        os.kill(child, signal.SIGKILL)
    status = os.waitpid(child, 0)[1]
    try:
        call.sendall(status.to_bytes(8, "big"))
    finally:
        os._exit(0)


def _become_python(request: dict[str, Any], files: list[int], program: str) -> None:
    os.setpgid(0, 0)
    above = [fcntl.fcntl(file, fcntl.F_DUPFD, 600) for file in files]  # clear of all that they are to become
    for file in files:
        os.close(file)
    for file, target in zip(above, request["files"], strict=True):
        os.dup2(file, target)
        os.close(file)
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    for kind in request["heard"]:
        signal.signal(kind, signal.default_int_handler if kind == signal.SIGINT else signal.SIG_DFL)
    for kind in request["ignored"]:
        signal.signal(kind, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, request["mask"])
    at_once = {"write_through": True} if "PYTHONUNBUFFERED" in os.environ or "-u" in request["args"] else {}
    sys.stdin = sys.__stdin__ = open(0, closefd=False)
    sys.stdout = sys.__stdout__ = io.TextIOWrapper(
        open(1, "wb", 0 if at_once else -1, closefd=False), **at_once
    )
    sys.stderr = sys.__stderr__ = open(2, "w", 1, errors="backslashreplace", closefd=False)
    sys.executable = program
    multiprocessing.set_executable(program)
    multiprocessing.process.ORIGINAL_DIR = os.getcwd()
    code = _run(request["args"])
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        try:
            if not stream.closed:
                stream.flush()
        except OSError:
            code = code or 120  # as python has it
    os._exit(code)


def _run(args: list[str]) -> int:
    """What `python ARGS` does, and the code it ends with."""
    args = list(args)
    while args and args[0][0] == "-" and args[0] not in ("-c", "-m"):
        del args[: 2 if args[0] in ("-X", "-W") else 1]
    paths = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    if paths or "GAPRUN_PLUGINS" in os.environ:  # another gaprun, or one whose recipes know more
        for name in [name for name in sys.modules if name.partition(".")[0] == "gaprun"]:
            del sys.modules[name]
    first = "" if args[0] == "-c" else os.getcwd() if args[0] == "-m" else str(Path(args[0]).resolve().parent)
    sys.path[:1] = [first, *paths]
    try:
        if args[0] == "-c":
            sys.argv = ["-c", *args[2:]]
            module = sys.modules["__main__"] = types.ModuleType("__main__")
            exec(compile(args[1], "<string>", "exec"), module.__dict__)
        elif args[0] == "-m":
            sys.argv = args[1:]
            runpy.run_module(args[1], run_name="__main__", alter_sys=True)
        else:
            sys.argv = args
            runpy.run_path(args[0], run_name="__main__")
    except SystemExit as end:
        if end.code is None or isinstance(end.code, int):
            return (end.code or 0) & 255
        print(end.code, file=sys.stderr)
        return 1
    except BaseException as error:
        sys.excepthook(type(error), error, error.__traceback__)
        if isinstance(error, KeyboardInterrupt):
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGINT)
        return 1
    return 0


if __name__ == "__main__":
    serve(int(sys.argv[1]), sys.argv[2])
