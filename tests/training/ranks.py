"""Several gloo processes on this machine doing one piece of work each: `together(count, work, folder)`.

The processes are forked from a fresh one that has imported everything and computed nothing, so that importing is paid
once. `work` is named as `module:function` and called with (world, folder) in each.
"""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from pathlib import Path

import torch

import gaprun.jobs.run  # noqa: F401 - imported before the fork
from gaprun.runtime.joining import joined
from tests.conftest import PREPARED, REPO


def together(count: int, work: str, folder: Path) -> None:
    """Run `work` in `count` processes; fails where any of them does."""
    done = subprocess.run(
        [PREPARED.python, "-m", "tests.training.ranks", str(count), work, str(folder)],
        cwd=REPO,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def _main(count: int, work: str, folder: Path) -> int:
    module, _, name = work.partition(":")
    function = getattr(importlib.import_module(module), name)
    # The store is made after the forks: its thread looks up the names of who connects, and a process that is forked in
    # the middle of that holds the resolver's lock for ever.
    read, write = os.pipe()
    children = []
    for rank in range(count):
        child = os.fork()
        if child == 0:
            port = int.from_bytes(os.read(read, 4), "big")
            torch.set_num_threads(1)
            place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "MASTER_PORT": port}
            os.environ |= {key: str(value) for key, value in place.items()}
            os.environ |= {"MASTER_ADDR": "127.0.0.1", "TORCHELASTIC_USE_AGENT_STORE": "True"}
            code = 1
            try:
                with joined("cpu") as world:
                    function(world, folder)
                code = 0
            except BaseException:
                import traceback

                traceback.print_exc()
            finally:
                sys.stderr.flush()
                os._exit(code)
        children.append(child)
    rendezvous = torch.distributed.TCPStore("127.0.0.1", 0, count, is_master=True, wait_for_workers=False)
    os.write(write, rendezvous.port.to_bytes(4, "big") * count)
    return max(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children)


if __name__ == "__main__":
    sys.exit(_main(int(sys.argv[1]), sys.argv[2], Path(sys.argv[3])))
