"""`gaprun eval --transform` and a recipe's `transforms`: every task after a map, kept under a name of its own."""

import json

import pytest

from tests.conftest import RECIPES, TINY

pytestmark = pytest.mark.slow


def values(done):
    assert done.returncode == 0, done.stderr
    return {(m["protocol"], m["metric"]): m["value"] for m in json.loads(done.stdout)["metrics"]}


def test_a_run_is_measured_as_it_is_and_after_each_map(gaprun):
    done = gaprun("train", str(RECIPES / "baseline.yaml"), *TINY, "--seeds", "0")
    assert done.returncode == 0, done.stderr
    (run,) = json.loads(gaprun("runs", "list", "--json").stdout)
    maps = [word for name in ("centre", "shift,fraction=0.5") for word in ("--transform", name)]
    asked = ["eval", "--ckpt", run["id"], "--data", "scenes/test", "--tasks", "gap,retrieval,mixed", "--json"]
    found = values(gaprun(*asked, *maps))
    assert {p for p, _ in found} == {
        base + end for base in ("full", "pool96") for end in ("", "+centre", "+shift,fraction=0.5")
    }
    assert found["full+centre", "gap"] < found["full", "gap"]
    assert found["full+shift,fraction=0.5", "gap"] < found["full", "gap"]
    assert ("full+centre", "mixed_ndcg@10") in found
    # Liang's own task gives the same numbers for the same map.
    shifted = values(gaprun(*asked[:-2], "shift", "--json"))
    for metric in ("gap", "image_recall@5", "text_recall@5"):
        assert shifted["centred", metric] == pytest.approx(found["full+centre", metric], abs=1e-6)
        assert shifted["shift=0.5", metric] == pytest.approx(
            found["full+shift,fraction=0.5", metric], abs=1e-6
        )
    # Asked again, nothing is measured anew; the plain values stand in columns of their own.
    again = gaprun(*asked, *maps)
    assert json.loads(again.stdout)["images_encoded"] == 0 and values(again) == found
    rows = json.loads(gaprun("compare", "--metric", "gap", "--json").stdout)
    by_protocol = {row["protocol"]: row["mean"] for row in rows}
    assert by_protocol["full"] == pytest.approx(found["full", "gap"])
    assert by_protocol["full+centre"] == pytest.approx(found["full+centre", "gap"])


def test_labelled_tasks_after_a_map_that_is_fitted_on_captioned_pairs(gaprun, tmp_path):
    recipe = tmp_path / "mapped.yaml"
    recipe.write_text(
        f"extends: {RECIPES}/baseline.yaml\nname: mapped\neval:\n"
        + "".join(
            f"  - {{task: {task}, data: [scenes/classes-test], transforms: [{{name: identity}}, {{name: realign}}], "
            "fit: scenes/train}\n"
            for task in ("zeroshot", "probe", "clustering", "transfer", "intra")
        )
        + "seeds: [0]\n"
    )
    done = gaprun("train", str(recipe), *TINY)
    assert done.returncode == 0, done.stderr
    (run,) = json.loads(gaprun("runs", "list", "--json").stdout)
    shown = json.loads(gaprun("runs", "show", run["id"], "--json").stdout)["metrics"]
    found = {(m["protocol"], m["metric"]): m["value"] for m in shown}
    mapped = "full,fit=scenes/train+realign"
    for metric in ("zeroshot_top1", "probe_top1", "cluster_nmi", "transfer_kept", "intra_map"):
        assert {("full", metric), (mapped, metric)} <= found.keys(), metric
    # Images stay where they are under this map, and so does all that looks at images alone.
    for metric in ("probe_top1", "intra_map", "transfer_image_to_image"):
        assert found[mapped, metric] == pytest.approx(found["full", metric]), metric


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--transform", "center"], "did you mean centre"),
        (["--transform", "shift,half"], "key=value"),
        (["--transform", "drop-dimensions,k=0"], "k"),
        (["--fit", "scenes/train"], "name a transform"),
        (["--transform", "centre", "--fit", "scenes/test"], "set fit"),
    ],
)
def test_odd_requests_get_one_line(gaprun, words, said):
    done = gaprun(
        "eval", "--model", "ViT-S-32-alt", "--random", "--data", "scenes/test", "--tasks", "gap", *words
    )
    assert done.returncode in (1, 2) and said in done.stderr and "Traceback" not in done.stderr
