"""What a recipe says about kernels holds for the process, and nothing of an earlier recipe stays behind."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from gaprun.errors import UserError
from gaprun.recipe.identity import hash_of
from gaprun.recipe.jobs import recipe_hash
from gaprun.recipe.schema import Recipe
from gaprun.runtime.environment import environment
from gaprun.runtime.kernels import described, driver_version, set_kernels
from gaprun.runtime.spec import Compute
from gaprun.training.state import TrainState

CPU, CARD = torch.device("cpu"), torch.device("cuda")


@pytest.fixture(autouse=True)
def flags_restored():
    yield
    set_kernels(Compute(), CPU)


def flags() -> dict[str, object]:
    return {
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "cudnn": torch.backends.cudnn.deterministic,
        "benchmark": torch.backends.cudnn.benchmark,
        "convolutions": torch.backends.cudnn.allow_tf32,
        "products": torch.backends.cuda.matmul.allow_tf32,
        "flash": torch.backends.cuda.flash_sdp_enabled(),
        "efficient": torch.backends.cuda.mem_efficient_sdp_enabled(),
        "math": torch.backends.cuda.math_sdp_enabled(),
    }


def test_a_recipe_sets_what_it_says_and_unsets_what_the_one_before_said() -> None:
    set_kernels(
        Compute(deterministic=False, tf32=True, cudnn_benchmark=True, attention="math", threads=1), CARD
    )
    assert flags() == {
        "deterministic": False,
        "cudnn": False,
        "benchmark": True,
        "convolutions": True,
        "products": True,
        "flash": False,
        "efficient": False,
        "math": True,
    }
    set_kernels(Compute(), CARD)
    assert flags() == {
        "deterministic": True,
        "cudnn": True,
        "benchmark": False,
        "convolutions": False,
        "products": False,
        "flash": True,
        "efficient": True,
        "math": True,
    }


def test_threads_go_back_to_what_they_were() -> None:
    set_kernels(Compute(), CPU)
    before = torch.get_num_threads()
    set_kernels(Compute(threads=before + 1), CPU)
    assert torch.get_num_threads() == before + 1
    set_kernels(Compute(), CPU)
    assert torch.get_num_threads() == before


def test_a_workspace_with_which_cublas_does_not_repeat_itself_is_refused(monkeypatch) -> None:
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":0:0")
    with pytest.raises(UserError, match="CUBLAS_WORKSPACE_CONFIG is :0:0.*deterministic"):
        set_kernels(Compute(), CARD)
    set_kernels(Compute(deterministic=False), CARD)
    set_kernels(Compute(), CPU)  # the CPU has no cuBLAS


def test_the_variable_is_there_before_torch_is_imported() -> None:
    code = "import sys, os, gaprun; print(os.environ['CUBLAS_WORKSPACE_CONFIG'], 'torch' in sys.modules)"
    clean = {key: value for key, value in os.environ.items() if key != "CUBLAS_WORKSPACE_CONFIG"}
    done = subprocess.run([sys.executable, "-c", code], env=clean, capture_output=True, text=True)
    assert done.stdout.split() == [":4096:8", "False"]


def test_a_benchmark_that_would_not_repeat_is_refused_with_determinism() -> None:
    with pytest.raises(ValueError, match="set deterministic to false"):
        Compute(cudnn_benchmark=True)


def test_new_keys_at_their_defaults_leave_earlier_hashes_and_others_change_them() -> None:
    base = {
        "name": "a",
        "model": {"arch": "RN50"},
        "data": {"train": ["coco/train"]},
        "schedule": {"epochs": 100},
    }
    hashes = {
        recipe_hash(Recipe.model_validate(base | {"compute": compute}))
        for compute in ({}, {"tf32": True}, {"attention": "math"})
    }
    assert len(hashes) == 3
    plain = Recipe.model_validate(base)
    earlier = plain.model_dump(mode="json")
    for key in ("tf32", "cudnn_benchmark", "attention"):
        del earlier["compute"][key]
    assert hash_of(earlier) == recipe_hash(plain)


def test_measuring_prepares_the_device_first(monkeypatch, tmp_path: Path, scenes: Path, run_small) -> None:
    """`gaprun eval` computes as the recipe of the run says, whatever this process did before."""
    from gaprun.evaluation.choose import chosen_tasks
    from gaprun.jobs import measure

    job, store = run_small("baseline", "schedule.steps=2", "compute.deterministic=false")
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.allow_tf32 = True
    seen: list[dict[str, object]] = []
    original = measure.evaluate_run

    def watched(**given):
        seen.append(flags())
        return original(**given)

    monkeypatch.setattr(measure, "evaluate_run", watched)
    measure.measure_model(
        store, ckpt=job.id, arch=None, pretrained=None, tasks=chosen_tasks("gap", ["scenes/test"]).tasks
    )
    assert seen[0]["deterministic"] is False and seen[0]["convolutions"] is False


def test_the_environment_says_what_is_computed_with(monkeypatch, tmp_path: Path) -> None:
    set_kernels(Compute(deterministic=False), CPU)
    assert environment(CPU)["kernels"] == {"deterministic": False}
    model, _, instructions = environment(CPU)["processor"].rpartition(", ")
    assert model and instructions == torch.backends.cpu.get_cpu_capability()
    card = type("Card", (), {"major": 9, "minor": 0, "total_memory": 80 * 2**30})
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: card)
    set_kernels(Compute(tf32=True), CARD)
    found = described(CARD)
    assert found["tf32"] is True and found["deterministic"] is True and found["capability"] == "9.0"
    assert found["cuda"] == torch.version.cuda and "cudnn" in found and found["memory_gib"] == 80.0


def test_the_drivers_version_is_read_from_its_file(tmp_path: Path) -> None:
    file = tmp_path / "version"
    assert driver_version(file) is None
    file.write_text(
        "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  570.86.15  Release Build\nGCC version:  gcc 13.3.0"
    )
    assert driver_version(file) == "570.86.15"


def test_a_compiled_tower_meets_few_lengths_and_is_compiled_for_no_more(run_small, monkeypatch) -> None:
    from torch._dynamo.testing import CompileCounter

    counter, original = CompileCounter(), torch.compile
    monkeypatch.setattr(
        torch, "compile", lambda tower, dynamic: original(tower, backend=counter, dynamic=dynamic)
    )
    lengths: set[int] = set()
    step = TrainState.train_step

    def watched(self, batch, measure):
        lengths.add(batch.tokens.shape[1])
        return step(self, batch, measure)

    monkeypatch.setattr(TrainState, "train_step", watched)
    run_small("baseline", "compute.compile=true")
    assert lengths <= {6, 12, 18, 24} and 2 <= counter.frame_count <= 1 + len(lengths)
