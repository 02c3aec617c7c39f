"""One name for one thing in all commands: an option has one type and one meaning wherever it stands."""

from collections.abc import Iterator
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from gaprun.cli.main import app

# Options whose help says more in some commands, of one thing: what is written, measured, or simulated.
SAME_THING = {
    "--out",  # the place that the command writes
    "--data",  # a split
    "--name",  # what the stored run is to be called
    "--model",  # an architecture to build
    "--dry-run",  # show, and do nothing
    "--seed",  # of the command's random draws
    "--captions",  # a file of captions
    "--metric",  # a column of its values
    "--sort",  # what rows are ordered by
    "--size",  # side of a picture
    "--test",  # how many pictures are held out
    "--rule", "--gamma", "--temperature", "--pairs", "--horizon", "--points", "--features", "--mismatched", "--rate",
    "--steps", "--dimension",  # of a simulation
}  # fmt: skip
# Where one command takes several and another one: a list of the same thing, or a name among those that fit.
SEVERAL = {
    "--data",
    "--captions",
    "--features",
    "--mismatched",
    "--rule",
    "--out",
}  # --out may be MLflow's URI


def options(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, str, Any]]:
    """Every option's name, its command's words, and the option."""
    if hasattr(command, "list_commands"):
        for name in command.list_commands(None):
            yield from options(command.get_command(None, name), (*path, name))
        return
    for option in command.params:
        for name in option.opts + option.secondary_opts if option.param_type_name == "option" else ():
            yield name, " ".join(path), option


OPTIONS = list(options(typer.main.get_command(app)))


def kind(option: Any) -> Any:
    """What an option takes; older versions of typer have click's type alone."""
    descriptor = getattr(option, "type_descriptor", None)
    return descriptor.annotation if descriptor is not None else option.type.name


@pytest.mark.parametrize("name", sorted({name for name, _, _ in OPTIONS}))
def test_one_meaning(name: str) -> None:
    own = [(where, option) for other, where, option in OPTIONS if other == name]
    assert all(option.help for _, option in own), own
    if name not in SAME_THING:
        assert len({option.help for _, option in own}) == 1, own
    if name not in SEVERAL:
        assert len({kind(option) for _, option in own}) == 1, own


def test_one_name() -> None:
    """Two names with one help text would be one thing twice."""
    named: dict[str, set[str]] = {}
    for _, _, option in OPTIONS:
        named.setdefault(option.help, set()).add(option.opts[0])
    assert {text: names for text, names in named.items() if len(names) > 1} == LISTS


LISTS = {"Names of the split's pictures, one a line.": {"--test-list", "--train-list", "--val-list"}}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["submit", "r.yaml", "--cluster", "slurm", "--at-once", "4"], "--at-once is now --jobs"),
        (["submit", "r.yaml", "--tasks-per-node=4"], "--tasks-per-node is now --nproc-per-node"),
        (["theory", "flow", "--margin", "-0.3"], "--margin is now --pair-margin"),
        (["runs", "list", "--limit", "3"], "--limit is now --top"),
        (["runs", "export", "--format", "mlflow"], "--format mlflow is now --as mlflow"),
        (["runs", "export", "--run", "a"], "--run is now a word of its own"),
    ],
)
def test_names_of_before(words: list[str], said: str) -> None:
    assert said in str(CliRunner().invoke(app, words).exception)
