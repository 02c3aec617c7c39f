"""The server that processes of jobs are forked from: it may be forked, hears no stop and passes on what it should."""

import os
import signal
import subprocess
import sys

import pytest

from gaprun.jobs import children
from gaprun.jobs.children import PRELOADED, child_context, start_child
from tests.conftest import REPO

LOOK = f"""
import os, threading
import torch
asked = []
for name in ("is_available", "device_count", "init", "current_device", "get_device_capability"):
    setattr(torch.cuda, name, lambda *_, name=name, **__: asked.append(name) or False)
for name in {PRELOADED}:
    __import__(name)
print(asked, torch.cuda.is_initialized(), threading.active_count(), len(os.listdir("/proc/self/task")))
"""


def test_what_the_server_imports_starts_no_thread_and_asks_for_no_gpu() -> None:
    """A fork has only the thread that forks, and may not use a GPU that its parent woke."""
    # Four threads are allowed for a loop of torch's: none may have begun. OpenBLAS starts its own when it is loaded,
    # and ends them before a fork.
    env = {**os.environ, "OMP_NUM_THREADS": "4", "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", LOOK], env=env, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["[]", "False", "1", "1"]


def tell(answers) -> None:
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    answers.put(
        {
            "torch": "torch" in sys.modules,
            "SIGINT": signal.getsignal(signal.SIGINT) is signal.SIG_IGN,
            "SIGTERM": signal.getsignal(signal.SIGTERM) is signal.SIG_DFL and signal.SIGTERM not in blocked,
            "environment": os.environ.get("GAPRUN_TEST_WORD"),
            "server": os.getppid(),
        }
    )


def wait_for_ever(answers) -> None:
    answers.put(os.getppid())
    signal.pause()


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere jobs' processes are started anew")
def test_processes_come_from_one_server_that_no_stop_ends() -> None:
    """In a process of its own: this one may have a server for other work by now."""
    code = "from tests.jobs.test_children import one_server_that_no_stop_ends as check; check()"
    done = subprocess.run([sys.executable, "-c", code], cwd=REPO, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def one_server_that_no_stop_ends() -> None:
    answers = None
    servers = set()
    for word in ("first", "second"):
        os.environ["GAPRUN_TEST_WORD"] = word
        context = child_context(cards=False)
        answers = context.Queue()
        process = start_child(context, tell, answers)
        told = answers.get(timeout=300)
        process.join()
        assert process.exitcode == 0
        servers.add(told.pop("server"))
        assert told == {"torch": True, "SIGINT": True, "SIGTERM": True, "environment": word}
    (server,) = servers
    assert server != os.getpid()
    waiting = start_child(context, wait_for_ever, answers)
    assert answers.get(timeout=300) == server
    for kind in (signal.SIGINT, signal.SIGTERM):
        os.kill(server, kind)
    os.kill(waiting.pid, signal.SIGTERM)
    waiting.join()
    assert waiting.exitcode == -signal.SIGTERM  # as the server, which is still there, tells


def test_on_gpus_and_where_forking_is_unsafe_processes_start_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    assert child_context(cards=True).get_start_method() == "spawn"
    monkeypatch.setattr(sys, "platform", "darwin")
    assert child_context(cards=False).get_start_method() == "spawn"
    monkeypatch.undo()
    monkeypatch.setattr(children, "_server", lambda: 12345)  # one of somebody else's
    assert child_context(cards=False).get_start_method() == "spawn"
