"""The torture benchmark at its small size: more than twenty kills, every result identical."""

import json
import os
import subprocess

import pytest

from tests.conftest import PREPARED, REPO


@pytest.mark.slow
def test_killed_and_resumed_is_identical_and_seeks() -> None:
    command = [PREPARED.python, str(REPO / "benchmarks" / "resume.py"), "--json", "--small"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    answer = json.loads(done.stdout.splitlines()[-1])
    assert answer["identical"] is True and answer["kills"] >= 20 and answer["seek_share"] < 0.2, done.stderr
