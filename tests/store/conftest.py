"""A store to test on: a SQLite file, and the same tests on the PostgreSQL server of GAPRUN_TEST_POSTGRES."""

import os
import uuid

import pytest
from sqlalchemy import create_engine, make_url, text

from gaprun.store import EvaluationKey, NewRun, open_store


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request, tmp_path):
    """The URL of an empty database of its own."""
    if request.param == "sqlite":
        yield str(tmp_path / "results.db")
        return
    server = os.environ.get("GAPRUN_TEST_POSTGRES")
    if not server:
        pytest.skip("GAPRUN_TEST_POSTGRES names no PostgreSQL server (postgresql+psycopg://user@host/name)")
    name = f"gaprun_{uuid.uuid4().hex}"
    admin = create_engine(server, isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    yield make_url(server).set(database=name).render_as_string(hide_password=False)
    with admin.connect() as connection:
        connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))


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

    def make(**changes):
        return EvaluationKey(
            **{
                "checkpoint_hash": "c0ffee",
                "step": 100,
                "task": "gap",
                "dataset": "scenes",
                "split": "test",
                "data_fingerprint": "f1",
                "protocol": "full",
                **changes,
            }
        )

    return make
