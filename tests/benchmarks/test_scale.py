"""docs/scale.md: its tables are the script's, and its counts are those of the code they speak of."""

import json
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch

from tests.conftest import REPO

sys.path.insert(0, str(REPO / "benchmarks"))
import scale  # noqa: E402


def test_the_page_shows_what_the_script_prints() -> None:
    page = (REPO / "docs" / "scale.md").read_text()
    for line in scale.tables(scale.values([])).splitlines():
        assert line in page


def test_json_and_changed_inputs() -> None:
    script = str(REPO / "benchmarks" / "scale.py")
    done = subprocess.run(
        [sys.executable, script, "--json", "--set", "price=6"], capture_output=True, text=True
    )
    answer = json.loads(done.stdout)
    assert len(answer["experiments"]) == 9
    mscoco = answer["experiments"][0]
    assert mscoco["dollars"] == pytest.approx(6 * mscoco["gpu_hours"])
    with pytest.raises(ValueError, match="no input prize"):
        scale.values(["prize=6"])


def test_mscoco_by_hand() -> None:
    inputs = scale.values(["mfu=1", "peak_flops=1e15"])
    found = scale.estimate(scale.COCO, inputs)
    assert found["steps"] == 110 * 100 and found["collective_share"] == 0
    pairs = 1024 * 3 * 18.017e9
    logits = 3 * 2 * 2 * 1024 * 1024 * 1024
    assert found["step_seconds"] == pytest.approx((pairs + logits) / 1e15)
    assert found["gpu_hours"] == pytest.approx(40 * 11_000 * found["step_seconds"] / 3600)
    assert found["checkpoint_disk"] == pytest.approx(120 * 1.2247e9)


@pytest.mark.parametrize(("ranks", "local", "dimension"), [(2, 8, 4), (4, 16, 32), (8, 4, 16)])
def test_bytes_sent_are_those_of_the_training_code(ranks, local, dimension, monkeypatch) -> None:
    from gaprun.runtime import distributed
    from gaprun.training.gradients import adding_up

    sent = {"gathered": 0, "reduced": 0}

    def all_gather(everyone, rows) -> None:
        sent["gathered"] += (len(everyone) - 1) * rows.numel() * rows.element_size()
        for part in everyone:
            part.copy_(rows)

    def all_reduce(tensor, *args, **options):
        sent["reduced"] += 2 * (ranks - 1) / ranks * tensor.numel() * tensor.element_size()
        done = torch.futures.Future()
        done.set_result([tensor])
        return SimpleNamespace(get_future=lambda: done)

    monkeypatch.setattr(distributed.dist, "all_gather", all_gather)
    monkeypatch.setattr(distributed.dist, "all_reduce", all_reduce)
    world = distributed.World(0, ranks)
    x = torch.randn(local, dimension, requires_grad=True)
    every_x, every_y = world.gathered(x, torch.randn(local, dimension, requires_grad=True))
    (every_x.sum() + every_y.sum()).backward()
    said = scale.collective_bytes(local * ranks, dimension, 1000, ranks)
    assert sum(sent.values()) == pytest.approx(said["features"])
    sent["reduced"] = 0
    parameters = [torch.nn.Parameter(torch.randn(600)), torch.nn.Parameter(torch.randn(20, 20))]
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    try:
        through = adding_up(parameters, world)
        through(lambda: sum(parameter.sum() for parameter in parameters)).backward()
    finally:
        torch.distributed.destroy_process_group()
    spare = 2 * (ranks - 1) / ranks * 4  # one number that is sent beside them
    assert sent["reduced"] == pytest.approx(said["gradients"] + spare)


def test_counts_of_rn50() -> None:
    sys.path.insert(0, str(REPO / "benchmarks"))
    import scale_measure

    found = scale_measure.model_counts("RN50")
    for name in ("parameters", "forward_flops", "activation_bytes_fp32", "batchnorms"):
        assert found[name] == pytest.approx(scale.INPUTS[name].value, rel=0.01), name


def test_cache_bytes_are_the_cache_of_the_training_code() -> None:
    import math

    margin, side = 1.125, 224
    stored = math.ceil(side * margin) ** 2 * 3
    found = scale.estimate(scale.COCO, scale.values([]))
    assert found["cache_bytes"] == scale.COCO.images * stored
