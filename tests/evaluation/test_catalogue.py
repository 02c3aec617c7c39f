"""Metrics by name: what tasks declare, short names, families, the documentation, and a plugin's own."""

import re
import subprocess
import sys
from pathlib import Path
from typing import ClassVar, Literal

import pytest

from gaprun.errors import UserError
from gaprun.evaluation.catalogue import declared, expand_metric, families, in_order, metric, short_names
from gaprun.evaluation.reference import metric_list, renewed
from gaprun.evaluation.run import check_declared
from gaprun.evaluation.task import TASKS, Measured, Task
from gaprun.metrics import NONE, UP, Metric

DOCS = Path(__file__).parents[2] / "docs"


def test_short_names_expand_to_their_parts():
    assert expand_metric("recall@5") == ["image_recall@5", "text_recall@5"]
    assert expand_metric("uniformity") == ["uniformity_image", "uniformity_text", "uniformity_joint"]
    assert expand_metric("gap") == ["gap"]
    assert expand_metric("geometry") == [one.name for one in families()["geometry"]]
    assert expand_metric("sugarcrepe") == ["sugarcrepe"] and "sugarcrepe" not in short_names()


def test_direction_of_the_two_uniformities_differs():
    assert metric("uniformity_image").direction == "down"
    assert metric("uniformity_w2_image").direction == "up"
    assert (metric("gap").arrow, metric("image_recall@1").arrow, metric("temperature").arrow) == (
        " ↓",
        " ↑",
        "",
    )
    assert metric("somebody's own") == Metric("somebody's own", NONE, "somebody's own")
    assert metric("zeroshot_top1").title == "zero-shot top-1 (%)" and metric("gap").title == "modality gap"


def test_unknown_name_offers_the_nearest():
    with pytest.raises(UserError, match="text_recall@5"):
        expand_metric("text_recal@5")


def test_tables_list_metrics_in_one_order():
    mixed = [
        "own",
        "text_recall@1",
        "image_recall@10",
        "probe_top1",
        "image_recall@5",
        "gap",
        "image_recall@1",
    ]
    assert in_order(mixed) == [
        "gap", "image_recall@1", "text_recall@1", "image_recall@5", "image_recall@10", "probe_top1", "own",
    ]  # fmt: skip


def test_reading_declarations_loads_no_torch():
    code = "import sys; from gaprun.evaluation import catalogue; catalogue.declared(); print('torch' in sys.modules)"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "False"
    )


def test_docs_define_every_metric_and_agree_on_the_better_side():
    page = (DOCS / "metrics.md").read_text()
    assert renewed(page) == page, "make docs"
    text = page.replace(metric_list(), "") + (DOCS / "composition.md").read_text()
    for name in declared():
        if not name.startswith(("sugarcrepe_", "mmvp_")):  # one line stands for all categories there
            assert f"`{name}`" in text, name
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        for name in re.findall(r"^`[^|]*`(?= *\|)", line.strip("| ")) and re.findall(r"`([^`]+)`", cells[0]):
            stated = next(cell for cell in cells if cell in ("up", "down", "-"))
            assert stated.replace("-", "none") == metric(name).direction, name


@pytest.fixture
def scored():
    """A task from outside the package, registered for the length of a test."""

    class Scored(Task):
        task: Literal["scored"] = "scored"
        metrics: ClassVar[tuple[Metric, ...]] = (
            Metric("scored_by_hand", UP, "what a person gave", "of 5", 1, "by_hand"),
        )

        def measure(self, embedder, split, protocol):
            """Never asked for."""

    TASKS.register(Scored)
    yield Scored
    del TASKS._choices["scored"]
    TASKS._rebuild_users()


def test_a_metric_of_a_plugin_is_known_like_any_other(scored):
    assert metric("scored_by_hand").title == "what a person gave (of 5)"
    assert expand_metric("scored") == expand_metric("by_hand") == ["scored_by_hand"]
    assert "| scored | `scored_by_hand` | what a person gave | of 5 | up | 1 |  |" in metric_list()
    task = scored(data=["x"])
    check_declared(task, Measured({"scored_by_hand": 3.0, "gap": 0.1}, 1, 1))
    with pytest.raises(UserError, match="the task scored gives scored_by_machine, which no task declares"):
        check_declared(task, Measured({"scored_by_machine": 3.0}, 1, 1))


def test_two_tasks_do_not_declare_one_name(scored):
    scored.metrics = (Metric("gap", UP, "another gap"),)
    with pytest.raises(UserError, match="gap is declared twice, by the tasks geometry and scored"):
        declared()
    scored.family = "geometry"  # whose metrics it took the place of
    with pytest.raises(UserError, match="the task scored: the metrics of geometry are another's"):
        declared()


@pytest.mark.parametrize(
    ("metrics", "said"),
    [
        (
            (Metric("temperature", UP, "of the room"),),
            "temperature is declared twice",
        ),  # it hid the training's
        ((Metric("two words", UP, "words"),), "'two words'.* with a name of letters"),
        ((Metric("fine", "downward", "words"),), "one of up, down, none"),
        ((Metric("fine", UP, "words"), "another"), "holds 'another'"),
    ],
)
def test_a_metric_that_no_command_could_name_or_that_hides_another_is_refused(scored, metrics, said):
    scored.metrics = metrics
    with pytest.raises(UserError, match=said):
        declared()
