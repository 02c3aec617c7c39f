"""A store to test on: a SQLite file, and the same tests on a PostgreSQL server.

The server is the one of GAPRUN_TEST_POSTGRES, or one that is started here from installed binaries.
"""

import os
import uuid

import pytest
from sqlalchemy import create_engine, make_url, text

from gaprun.store import EvaluationKey, NewRun, open_store
from tests.postgres import MISSING, LocalPostgres, binaries
from tests.protocols import named


@pytest.fixture(scope="session")
def postgres():
    """URL of a database on a PostgreSQL server where databases may be created; skips where there is no server."""
    if named := os.environ.get("GAPRUN_TEST_POSTGRES"):
        yield named
        return
    folder = binaries()
    if folder is None:
        pytest.skip(MISSING)
    server = LocalPostgres(folder)
    yield server.url
    server.close()


@pytest.fixture
def new_database(postgres):
    """A maker of empty databases on the server: `new_database()` gives a URL; they are dropped after the test."""
    admin = create_engine(postgres, isolation_level="AUTOCOMMIT")
    made = []

    def make():
        name = f"gaprun_{uuid.uuid4().hex}"
        with admin.connect() as connection:
            connection.execute(text(f"CREATE DATABASE {name}"))
        made.append(name)
        return make_url(postgres).set(database=name).render_as_string(hide_password=False)

    yield make
    with admin.connect() as connection:
        for name in made:
            connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
    admin.dispose()


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request, tmp_path):
    """The URL of an empty database of its own."""
    if request.param == "sqlite":
        return str(tmp_path / "results.db")
    return request.getfixturevalue("new_database")()


@pytest.fixture
def store(url):
    """An empty store."""
    return open_store(url)


@pytest.fixture
def new_run():
    """A maker of runs: `new_run("baseline", 0, lr=0.1)`."""

    def make(recipe="baseline", seed=0, **recipe_keys):
        return NewRun(
            id=f"{recipe}-s{seed}",
            recipe=recipe,
            kind="train",
            seed=seed,
            recipe_hash=f"hash-of-{recipe}",
            resolved_recipe={"name": recipe, **recipe_keys},
            environment={"python": "3.11"},
            code_version="0.1.0",
            folder=f"runs/{recipe}-s{seed}",
            total_steps=100,
        )

    return make


@pytest.fixture
def key():
    """A maker of evaluation keys: `key(step=20, protocol="pool512")`."""

    def make(protocol="full", **changes):
        return EvaluationKey(
            **{
                "checkpoint_hash": "c0ffee",
                "step": 100,
                "task": "gap",
                "dataset": "scenes",
                "split": "test",
                "data_fingerprint": "f1",
                "protocol": named(protocol),
                **changes,
            }
        )

    return make
