"""The version of the code that runs: that of gaprun's own repository and of no other that lies around it."""

import subprocess

from gaprun.runtime.environment import checkout_commit

PROJECT = '[project]\nname = "{}"\n'


def git(folder, *words):
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    done = subprocess.run(["git", *identity, *words], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def checkout(folder, project, ignored=""):
    package = folder / "gaprun"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("x = 1\n")
    (folder / "pyproject.toml").write_text(PROJECT.format(project))
    (folder / ".gitignore").write_text(ignored)
    git(folder, "init", "-q")
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "first")
    return package


def test_a_checkout_of_gaprun_gives_its_commit_and_says_when_it_was_changed(tmp_path):
    package = checkout(tmp_path / "a", "gaprun")
    commit = git(package, "rev-parse", "--short=12", "HEAD")
    assert checkout_commit(package) == commit
    (package / "__init__.py").write_text("x = 2\n")
    assert checkout_commit(package) == f"{commit}-dirty"


def test_a_repository_that_only_surrounds_the_package_is_not_its_own(tmp_path):
    """Installed in an environment inside of a thesis; ignored there; or copied into another project."""
    thesis = checkout(tmp_path / "thesis", "thesis", "venv/\n").parent
    installed = thesis / "venv" / "site-packages" / "gaprun"
    installed.mkdir(parents=True)
    (installed / "__init__.py").write_text("x = 1\n")
    assert checkout_commit(installed) is None
    (installed.parent / "pyproject.toml").write_text(PROJECT.format("gaprun"))
    assert checkout_commit(installed) is None  # not among what the repository keeps
    assert checkout_commit(thesis / "gaprun") is None
    nowhere = tmp_path / "nowhere" / "gaprun"
    nowhere.mkdir(parents=True)
    assert checkout_commit(nowhere) is None
