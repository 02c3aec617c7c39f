"""The GPU's benchmarks run to their end on the CPU at the small size, and keep what they know when they are stopped."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import PREPARED, REPO

sys.path.insert(0, str(REPO / "benchmarks"))
import gpu_hour  # noqa: E402
import gpu_parts  # noqa: E402


def run(script: str, *given: str) -> dict:
    command = [
        PREPARED.python,
        str(REPO / "benchmarks" / script),
        "--device",
        "cpu",
        "--small",
        "--json",
        *given,
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
def test_every_part_gives_its_answer(tmp_path: Path) -> None:
    parts = "machine,agreement,repeat,resume,breakdown,options,fig4b"
    answer = run("gpu_hour.py", "--out", str(tmp_path), "--parts", parts, "--minutes", "15")
    assert answer["sound"] is True
    found = json.loads((tmp_path / "gpu_hour.json").read_text())
    assert list(found) == parts.split(",") and not [part for part in found if "error" in found[part]], found
    assert found["repeat"]["identical"] is True and found["resume"]["identical"] is True
    assert 0 < found["resume"]["killed_at_step"] < found["resume"]["steps"]
    assert {value["agree"] for value in found["agreement"].values()} == {True} and len(
        found["agreement"]
    ) == 2
    assert found["breakdown"]["ms"]["convolutions"] > 0 and found["options"]["contiguous"]["images_s"] > 0
    assert found["fig4b"]["seeds"] == 2
    page = (tmp_path / "gpu_hour.md").read_text()
    assert "| killed_at_step |" in page and "## Where a step's time goes, ms" in page


@pytest.mark.slow
def test_the_contracts_keys_come_from_the_loop_and_the_measuring() -> None:
    answer = run("gpu.py", "--minutes", "15")
    keys = {"device", "images_s", "ceiling_share", "ratio_open_clip", "memory_mb", "eval_images_s"}
    assert set(answer) == keys and answer["memory_mb"] is None  # the CPU's memory is no card's
    assert answer["images_s"] > 0 and answer["eval_images_s"] > 0 and 0 < answer["ceiling_share"] < 2


def test_a_part_that_fails_or_hangs_leaves_the_others(tmp_path: Path, monkeypatch) -> None:
    script = tmp_path / "benchmarks" / "gpu_parts.py"
    script.parent.mkdir()
    script.write_text(
        "import sys, time\n"
        "print('{\"one\": 1}', flush=True)\n"
        "if sys.argv[1] == 'steps': raise SystemExit('no memory is left')\n"
        "if sys.argv[1] == 'loop': time.sleep(60)\n"
    )
    monkeypatch.setattr(gpu_hour, "REPO", tmp_path)
    monkeypatch.setitem(gpu_hour.LIMITS, "loop", 5)
    size = gpu_hour.sizes("cpu", False, tmp_path)
    found = gpu_hour.measure(size, ["machine", "steps", "loop", "eval"], 1, tmp_path / "out")
    assert found == {
        "machine": {"one": 1},
        "steps": {"one": 1, "error": "no memory is left"},
        "loop": {"one": 1, "stopped": "after 5 s"},
        "eval": {"one": 1},
    }
    assert json.loads((tmp_path / "out" / "gpu_hour.json").read_text()) == found


def test_an_answer_that_is_not_the_cpus_is_no_success() -> None:
    good = {
        "agreement": {"baseline": {"agree": True}, "stopped": "after 90 s"},
        "repeat": {"identical": True},
    }
    assert gpu_hour.sound(good) and gpu_hour.sound({})
    assert not gpu_hour.sound(good | {"resume": {"identical": False}})
    assert not gpu_hour.sound({"agreement": {"baseline": {"agree": True}, "flt": {"agree": False}}})


def test_kernels_are_told_apart_by_name() -> None:
    named = {
        "void cudnn::bn_fw_tr_1C11_kernel_NCHW": "normalisation",
        "sm90_xmma_fprop_implicit_gemm_bf16": "convolutions",
        "nvjet_hsh_128x256_64x4_2x1": "products",
        "void at::native::multi_tensor_apply_kernel<FusedAdamMathFunctor>": "optimiser",
        "Memcpy HtoD (Pinned -> Device)": "copies",
        "void at::native::vectorized_elementwise_kernel": "elementwise",
    }
    assert {name: gpu_parts.kernel_kind(name) for name in named} == named
