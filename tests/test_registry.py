"""Classes from outside the package: registered by a module that GAPRUN_PLUGINS names, chosen by a recipe, trained."""

from __future__ import annotations

import json
import subprocess
import sys
from abc import ABC, abstractmethod
from itertools import takewhile
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, ValidationError

from gaprun.data.readers import READERS
from gaprun.errors import UserError
from gaprun.evaluation.tasks import TASKS
from gaprun.model.loss import LOSSES
from gaprun.model.swap import SWAPS
from gaprun.model.temperature import RULES
from gaprun.model.terms import TERMS
from gaprun.registry import Registry, models_in, registries_of
from tests.conftest import RECIPES, REPO, TINY, run_gaprun

# What a researcher writes: a temperature rule, a swap, a loss and a loss term, in a file of their own.
OWN = '''
from typing import Any, Literal

from pydantic import Field

from gaprun.model.loss import LOSSES, Loss
from gaprun.model.swap import SWAPS, Swap
from gaprun.model.temperature import RULES, TemperatureRule
from gaprun.model.terms import TERMS, Term


@RULES.register
class Inverse(TemperatureRule):
    """tau falls as 1 / (1 + progress)."""

    rule: Literal["inverse"] = "inverse"
    start: float = Field(0.1, gt=0, description="tau at the first step.")

    def beta(self, nu, progress):
        return (1 + progress) / self.start


@SWAPS.register
class Exchange(Swap):
    """Images and texts change places in every step."""

    rule: Literal["exchange"] = "exchange"

    def apply(self, x, y, generator):
        return y, x


@LOSSES.register
class Pull(Loss):
    """-mean x_i . y_i: no negatives at all."""

    name: Literal["pull"] = "pull"

    def addend(self, x, y, rows, beta, parameters):
        return -(x[rows] * y[rows]).sum() / len(x)


@TERMS.register
class ConstantTerm(Term):
    """A learned number: what is minimised is its square."""

    name: Literal["constant"] = "constant"
    start: float = Field(2.0, description="Where it starts.")

    def parameters(self, size, random) -> dict[str, Any]:
        return {"number": self.start}

    def addend(self, x, y, rows, beta, parameters, step):
        return parameters["number"] ** 2 * (rows.stop - rows.start) / len(x)
'''


def documented() -> str:
    """The class that docs/methods.md shows."""
    page = (REPO / "docs" / "methods.md").read_text().split("# own.py\n")[1]
    lines = takewhile(lambda line: "GAPRUN_PLUGINS=" not in line, page.splitlines())
    return "\n".join(line.removeprefix("    ") for line in lines) + "\n"


def test_a_file_of_ones_own_adds_to_every_registry(scenes: Path, tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(OWN + documented())
    recipe = tmp_path / "mine.yaml"
    recipe.write_text(
        f"extends: {RECIPES / 'baseline.yaml'}\nname: mine\ntemperature: {{rule: inverse, start: 0.2}}\n"
        "swap: {rule: exchange}\n"
        "loss: {name: pull, terms: [{name: constant, start: 3}, {name: mean-gap}, {name: spread}]}\n"
    )
    env = {"GAPRUN_DATA": str(scenes), "GAPRUN_PLUGINS": "own.py"}
    sets = [*TINY, "--set", "eval=[{task: gap, data: [scenes/test]}]", "--set", "schedule.steps=2"]
    done = run_gaprun("train", str(recipe), "--seeds", "0", *sets, cwd=tmp_path, env=env)
    assert done.returncode == 0, done.stderr
    (run,) = json.loads(run_gaprun("runs", "list", "--json", cwd=tmp_path).stdout)
    shown = json.loads(run_gaprun("runs", "show", run["id"], "--json", cwd=tmp_path).stdout)
    assert run["status"] == "finished"
    temperature = next(m["value"] for m in shown["metrics"] if m["metric"] == "temperature")
    assert temperature == pytest.approx(0.2 / 2, rel=1e-6)
    assert shown["resolved_recipe"]["loss"]["terms"][0] == {"name": "constant", "start": 3.0, "weight": 1.0}
    assert set(shown["environment"]["plugins"]) == {"own.py"}
    content = "import torch; print(torch.load('{}', weights_only=True)['head'])"
    file = tmp_path / shown["checkpoint"]
    head = subprocess.run([sys.executable, "-c", content.format(file)], capture_output=True, text=True)
    assert "terms.0.number" in head.stdout and "tensor(3.)" not in head.stdout, head.stderr
    # The same checkpoint is measured again with the plugin, and says what is missing without it.
    words = ("eval", "--ckpt", run["id"], "--tasks", "gap", "--data", "scenes/test", "--json")
    assert run_gaprun(*words, cwd=tmp_path, env=env).returncode == 0
    bare = run_gaprun(*words, cwd=tmp_path, env={"GAPRUN_DATA": str(scenes)})
    assert bare.returncode == 2 and "GAPRUN_PLUGINS" in bare.stderr and "Traceback" not in bare.stderr


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("absent.py", None, "GAPRUN_PLUGINS: absent.py: no such file"),
        ("no_such_module_here", None, "GAPRUN_PLUGINS: no_such_module_here: ModuleNotFoundError"),
        ("broken.py", "1 / 0", "GAPRUN_PLUGINS: broken.py: ZeroDivisionError"),
        (
            "twice.py",
            OWN.replace('"constant"', '"mean-gap"'),
            "the loss term mean-gap is gaprun.model.terms.gap.MeanGap",
        ),
    ],
)
def test_a_plugin_that_cannot_be_used_is_named(
    name: str, text: str | None, said: str, tmp_path: Path
) -> None:
    if text is not None:
        (tmp_path / name).write_text(text)
    done = run_gaprun(
        "train", str(RECIPES / "baseline.yaml"), "--dry-run", cwd=tmp_path, env={"GAPRUN_PLUGINS": name}
    )
    assert done.returncode == 2 and said in done.stderr and "Traceback" not in done.stderr, done.stderr


class Shape(BaseModel):
    side: float = 1.0


SHAPES: Registry[Shape] = Registry("shape", "kind", usual="square")


@SHAPES.register
class Square(Shape):
    kind: Literal["square"] = "square"


class Frame(BaseModel):
    inner: Annotated[Shape, SHAPES]


FRAMES: Registry[Frame] = Registry("frame", "of")


@FRAMES.register
class Wood(Frame):
    of: Literal["wood"] = "wood"


class Wall(BaseModel):
    frames: list[Annotated[Frame, FRAMES]] = []


def test_what_is_registered_later_is_accepted_everywhere() -> None:
    """Also two registries deep: a shape in a frame on a wall."""
    SHAPES.used_by(FRAMES)
    FRAMES.used_by(Wall)
    wall = {"frames": [{"of": "wood", "inner": {"kind": "circle", "side": 2}}]}
    with pytest.raises(ValidationError, match="'circle' found using 'kind' does not match"):
        Wall.model_validate(wall)

    @SHAPES.register
    class Circle(Shape):
        kind: Literal["circle"] = "circle"

    made = Wall.model_validate(wall)
    assert isinstance(made.frames[0].inner, Circle)
    assert Wall.model_validate(made.model_dump()) == made
    assert isinstance(Wall(frames=[{"of": "wood", "inner": {"side": 3}}]).frames[0].inner, Square)
    assert models_in(Frame.model_fields["inner"]) == [Square, Circle] and SHAPES.names() == [
        "square",
        "circle",
    ]
    assert models_in(Wall.model_fields["frames"]) == [Wood]


def test_every_registry_of_a_recipe_is_found() -> None:
    """A kind whose classes a recipe did not accept later would be found missing only by those who add one."""

    class House(BaseModel):
        walls: dict[str, Wall]
        shape: Annotated[Shape, SHAPES] | None = None

    assert registries_of(House) == [FRAMES, SHAPES] and registries_of(Wall) == [FRAMES]
    from gaprun.recipe.schema import Recipe

    assert {registry.kind for registry in registries_of(Recipe)} >= {
        "temperature rule",
        "swap",
        "loss",
        "task",
    }


def test_a_class_that_cannot_stand_beside_the_others_is_refused() -> None:
    class Nameless(Shape):
        pass

    class Loose(Shape):
        kind: str = "loose"

    class Wrong(Shape):
        kind: Literal["right"] = "wrong"  # type: ignore[assignment]

    class Odd(Shape):
        kind: Literal["a, b"] = "a, b"  # no command could name it

    class Second(Shape):
        kind: Literal["square"] = "square"

    class Sided(Shape, ABC):
        @abstractmethod
        def area(self) -> float: ...

    class Blank(Sided):
        kind: Literal["blank"] = "blank"

        def aera(self) -> float:
            return 1.0

    for nameless in (Nameless, Loose, Wrong, Odd):
        with pytest.raises(
            UserError, match=f"{nameless.__name__}: a shape needs a name .* in its field `kind`"
        ):
            SHAPES.register(nameless)
    with pytest.raises(UserError, match="the shape square is tests.test_registry.Square"):
        SHAPES.register(Second)
    with pytest.raises(UserError, match="the shape blank needs the method area"):
        SHAPES.register(Blank)
    with pytest.raises(UserError, match="int: a shape derives from"):
        SHAPES.register(int)  # type: ignore[type-var]


@pytest.mark.parametrize("registry", [RULES, SWAPS, LOSSES, TERMS, TASKS, READERS], ids=lambda r: str(r.kind))
def test_a_class_without_its_formula_is_refused_when_it_is_read(registry: Registry[Any]) -> None:
    """It was found missing in the first step, or after all that was measured before."""
    base = next(one for one in next(iter(registry)).__mro__[::-1] if getattr(one, "__abstractmethods__", ()))
    field = {registry.tag: "formless", "__annotations__": {registry.tag: Literal["formless"]}}
    own = type(base)("Formless", (base,), {**field, "__module__": __name__})
    with pytest.raises(UserError, match=f"the {registry.kind} formless needs the method"):
        registry.register(own)
