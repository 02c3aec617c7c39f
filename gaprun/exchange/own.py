"""An export of gaprun's own (CSV, a folder or a .zip) back into a database, under the rules of `db copy`."""

from __future__ import annotations

import tempfile
from pathlib import Path

from sqlalchemy.exc import SQLAlchemyError

from gaprun.errors import GaprunError, UserError
from gaprun.store import Store, open_store
from gaprun.store.content import Rows
from gaprun.store.copying import CopyReport, OtherContent, copy_database, write_rows


def import_export(store: Store, rows: Rows, source: str) -> CopyReport:
    """Bring every run of an export's `rows` into `store`, with its metrics and trajectory, wholly or not at all.

    Runs that are there already with the same content are left alone. Raises UserError, naming `source`, for rows
    that do not fit each other, and for a run that is there with other content.
    """
    ids = {row["id"] for row in rows["runs"]}
    for name in ("evaluations", "metrics", "trajectory"):
        if alone := sorted({row["run_id"] for row in rows[name]} - ids):
            raise UserError(
                f"{source}: its tables do not fit each other ({name} of {alone[0]}, which is no run there)"
            )
    with tempfile.TemporaryDirectory(prefix="gaprun-") as scratch:
        between = open_store(str(Path(scratch) / "export.db"))
        try:
            with between.engine.execution_options(gaprun_write=True).begin() as connection:
                write_rows(connection, rows, ids)
        except (KeyError, SQLAlchemyError) as error:
            reason = str(getattr(error, "orig", None) or error).splitlines()[0]
            raise UserError(f"{source}: its tables do not fit each other ({reason})") from None
        try:
            return copy_database(between, store)
        except OtherContent as error:
            raise UserError(
                f"{source}: {error.held}; nothing came in: `gaprun runs rm` those first, or name another --db"
            ) from None
        except GaprunError as error:
            raise UserError(f"{source}: {error}") from None
        finally:
            between.close()
