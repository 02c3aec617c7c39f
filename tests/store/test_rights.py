"""Users of a server who may not write all that a run has are told so before anything is trained."""

import os
from contextlib import contextmanager

import pytest
from sqlalchemy import make_url, text

from gaprun.errors import UserError
from gaprun.store import open_store
from gaprun.store.copying import copy_database
from gaprun.store.queued import enqueue
from gaprun.store.rights import COUNTED, NEEDED

GRANTS = [(right, table) for table, rights in NEEDED.items() for right in rights]


@pytest.fixture
def user(new_database):
    """The owner's store, and a maker of stores for a user who has the named grants."""
    url = make_url(new_database())
    owner = open_store(url.render_as_string(False))
    name = f"writer_{os.getpid()}"
    sequences = [f"{table}_id_seq" for table in COUNTED]

    def run(*statements):
        with owner.engine.begin() as connection:
            for statement in statements:
                connection.execute(text(statement))

    @contextmanager
    def with_grants(grants, counters=sequences):
        run(
            f"CREATE ROLE {name} LOGIN PASSWORD 'x'",
            *(f"GRANT {right} ON {table} TO {name}" for right, table in grants),
            *(f"GRANT USAGE ON {sequence} TO {name}" for sequence in counters),
            f"GRANT SELECT ON alembic_version TO {name}",
        )
        theirs = open_store(url.set(username=name, password="x").render_as_string(False))
        try:
            yield theirs
        finally:
            theirs.close()
            run(f"DROP OWNED BY {name}", f"DROP ROLE {name}")

    return owner, with_grants


def test_what_is_asked_for_is_all_that_a_run_needs(user, new_run, key):
    _, with_grants = user
    with with_grants(GRANTS) as store:
        enqueue(store, [new_run()], {"cluster": "local"})
        store.begin_run(new_run())
        for loss in (0.5, 0.25):
            store.record("baseline-s0", [{"step": 1, "loss": loss}])
            store.add_evaluation("baseline-s0", key(), {"gap": loss}, 1, 1)
        store.set_note("baseline-s0", "x")
        store.finish_run("baseline-s0", "finished")
        assert [row["value"] for row in store.metrics("baseline-s0")] == [0.25]


def test_every_right_that_is_missing_is_named_and_nothing_begins(user, new_run, tmp_path):
    owner, with_grants = user
    other = open_store(str(tmp_path / "other.db"))
    other.begin_run(new_run())
    lacking = [
        *(
            ([one for one in GRANTS if one != grant], None, f"{grant[0]} on {grant[1]}")
            for grant in GRANTS[1:]
        ),
        (GRANTS, ["evaluations_id_seq"], "USAGE on public.metrics_id_seq"),
        ([("SELECT", table) for table in NEEDED], [], "INSERT, UPDATE on runs, evaluations, trajectory"),
    ]
    for grants, counters, said in lacking:
        with with_grants(grants, *([] if counters is None else [counters])) as store:
            for begin in (
                store.begin_run,
                lambda run: enqueue(store, [run], {"cluster": "local"}),
                lambda run: copy_database(other, store),
            ):
                with pytest.raises(UserError, match="user writer_.* may read but not store") as caught:
                    begin(new_run())
                assert said in str(caught.value) and "\n" not in str(caught.value)
    assert owner.runs() == []


def test_a_counter_that_belongs_to_no_column_is_not_asked_for(user, new_run):
    owner, with_grants = user
    with owner.engine.begin() as connection:
        connection.execute(text("ALTER SEQUENCE metrics_id_seq OWNED BY NONE"))
    with with_grants(GRANTS) as store:
        store.begin_run(new_run())
        assert store.run("baseline-s0").status == "running"
