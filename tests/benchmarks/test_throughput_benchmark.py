"""The training benchmark runs beside its peer and keeps its contract; what it says of speed is not tested."""

import json
import os
import subprocess

import pytest

from tests.conftest import PREPARED, REPO


@pytest.mark.slow
def test_throughput_runs_beside_open_clips_loop() -> None:
    command = [PREPARED.python, str(REPO / "benchmarks" / "throughput.py"), "--json", "--small"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    answer = json.loads(done.stdout.splitlines()[-1])
    assert answer["tower"] == "tiny"
    for name in ("ratio_stream", "ratio_cached", "ceiling_share"):
        assert answer[name] > 0
    peer, cached = answer["peer_images_s"], answer["cached_images_s"]
    assert answer["ratio_cached"] == pytest.approx(cached / peer, rel=0.01)
