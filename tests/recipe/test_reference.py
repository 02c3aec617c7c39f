"""docs/recipes.md says what the schema says, and every shipped recipe is named in the README or its folder's sweep."""

from gaprun.recipe.reference import reference
from tests.conftest import RECIPES, REPO


def test_the_reference_is_current() -> None:
    assert (REPO / "docs" / "recipes.md").read_text() == reference(), "run `make docs`"


def test_every_key_is_described() -> None:
    for line in reference().splitlines():
        if line.startswith("| `"):
            assert not line.endswith("|  |"), line


def test_every_method_file_is_in_the_readme() -> None:
    readme = (REPO / "README.md").read_text()
    missing = [path.stem for path in RECIPES.glob("*.yaml") if path.stem not in readme]
    assert not missing
