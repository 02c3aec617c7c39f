"""The prepared Python behaves as python does: arguments, files, exit codes, signals both ways, processes of its own."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import PREPARED

HELD = "import signal, sys; print('here', flush=True); signal.pause()"
SPAWNED = """
import multiprocessing, sys
if __name__ == "__main__":
    for kind in ("spawn", "forkserver"):
        queue = multiprocessing.get_context(kind).Queue()
        process = multiprocessing.get_context(kind).Process(target=queue.put, args=(kind,))
        process.start()
        print(queue.get())
        process.join()
        print(process.exitcode)
"""
CALLS = {
    "code": (
        ["-c", "import sys; print(sys.argv, sys.path[0], input(), file=sys.stderr); sys.exit(3)", "a", "b"],
        3,
    ),
    "module": (["-u", "-m", "json.tool", "--compact"], 0),
    "refused": (["-c", "raise SystemExit('one line')"], 1),
    "traceback": (["-c", "1 / 0"], 1),
    "killed": (["-c", "import os; os.kill(os.getpid(), 9)"], -9),
    "ended": (["-c", "import os; os.kill(os.getpid(), 15)"], -15),
    "own processes": (["spawned.py"], 0),
    "at the end": (["-c", "import atexit; atexit.register(print, 'last'); print('first')"], 0),
    "file": (["-c", "import os; os.write(GIVEN, b'seven')"], 0),
}


def call(python: str, args: list[str], folder: Path) -> tuple[int, str, str, bytes]:
    with (folder / "given").open("wb") as file:
        words = [word.replace("GIVEN", str(file.fileno())) for word in args]
        done = subprocess.run(
            [python, *words],
            cwd=folder,
            input='{"a": 1}',
            capture_output=True,
            text=True,
            pass_fds=[file.fileno()],
        )
    last = done.stderr.splitlines()[-1:]
    return done.returncode, done.stdout, "".join(last), (folder / "given").read_bytes()


@pytest.mark.parametrize("name", CALLS)
def test_a_call_ends_as_python_ends_it(name: str, tmp_path: Path) -> None:
    (tmp_path / "spawned.py").write_text(SPAWNED)
    args, code = CALLS[name]
    found = call(PREPARED.python, args, tmp_path)
    assert found == call(sys.executable, args, tmp_path) and found[0] == code
    assert any(found[1:]) or code < 0


def test_signals_pass_both_ways_and_nothing_outlives_the_caller() -> None:
    for kind, code in ((signal.SIGINT, -2), (signal.SIGTERM, -15), (signal.SIGKILL, -9)):
        command = [PREPARED.python, "-c", f"import os; print(os.getpid()); {HELD}"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        pid = int(process.stdout.readline())
        assert process.stdout.readline() == "here\n" and pid != process.pid
        process.send_signal(kind)
        assert process.wait() == code
        assert process.stdout.read() == ""
        while alive(pid):  # on its way out
            time.sleep(0.01)


def test_torch_is_there_and_gaprun_unless_it_may_be_another() -> None:
    look = "import sys; print('torch' in sys.modules, any(name.startswith('gaprun') for name in sys.modules))"
    for env, gaprun in (
        ({}, "True"),
        ({"GAPRUN_PLUGINS": "own"}, "False"),
        ({"PYTHONPATH": "/site"}, "False"),
    ):
        command = [PREPARED.python, "-c", look]
        done = subprocess.run(command, env=os.environ | env, capture_output=True, text=True)
        assert done.stdout.split() == ["True", gaprun]


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):  # the latter when it ends between opening and reading
        return False
