"""Everything of one database into another, SQLite or PostgreSQL, in one transaction that is verified before it ends.

Runs are told apart by their id. A run that the target holds with the same content is left alone; one that it holds
with other content is an error, unless the caller says which of the two to keep. Files (checkpoints, embeddings) stay
where they are: only the database is copied.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from sqlalchemy import delete, insert, select
from sqlalchemy.engine import Connection

from gaprun.errors import Failure, UserError
from gaprun.files import inner_path, plain_name, write_atomically
from gaprun.store.content import TABLES, Content, Rows, batches, by_run, read_rows, run_ids
from gaprun.store.database import Store, open_place, open_store
from gaprun.store.engine import retried
from gaprun.store.models import Base, Evaluation, Run
from gaprun.store.place import Place, check_file, locate, remove_logs
from gaprun.store.rights import check_rights
from gaprun.store.texts import check_texts

Conflict = Literal["error", "keep", "replace"]
Progress = Callable[[int, int], None]


class OtherContent(UserError):
    """The target holds some of the runs, and they differ: nothing was copied. `held` says which."""

    def __init__(self, held: str) -> None:
        self.held = held
        way_out = "say --on-conflict keep (what it has) or --on-conflict replace; nothing was copied"
        super().__init__(f"{held}: {way_out}")


@dataclass
class CopyReport:
    """What a copy did to the target: ids of runs by their fate, and the content that was verified there."""

    copied: list[str] = field(default_factory=list)
    replaced: list[str] = field(default_factory=list)
    equal: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    content: Content = field(default_factory=Content)


def copy_between(
    source: str | None, target: str, on_conflict: Conflict = "error", progress: Progress | None = None
) -> CopyReport:
    """`copy_database` from one database to another, each a SQLite file or URL.

    A SQLite file that is not there yet appears whole or not at all. Raises as `copy_database` and `open_store`.
    """
    with closing(open_store(source, create=False)) as theirs:
        place = check_file(locate(target), create=True)
        if place.path is None or place.path.exists():
            with closing(open_place(place)) as ours:
                return copy_database(theirs, ours, on_conflict, progress)
        return _into_new_file(theirs, place, place.path, on_conflict, progress)


def _into_new_file(
    source: Store, place: Place, path: Path, on_conflict: Conflict, progress: Progress | None
) -> CopyReport:
    reports: list[CopyReport] = []

    def write(temporary: Path) -> None:
        try:
            beside = replace(locate(str(temporary)), name=place.name)
            with closing(open_place(beside)) as ours:
                reports.append(copy_database(source, ours, on_conflict, progress))
                ours.fold_log()
            if path.exists():
                raise UserError(f"{place.name} was made by another program meanwhile: nothing was copied")
        finally:
            remove_logs(temporary)

    try:
        write_atomically(path, write)
    except OSError as error:
        raise Failure(f"{place.name} cannot be written: {error.strerror or error}") from None
    return reports[0]


def copy_database(
    source: Store, target: Store, on_conflict: Conflict = "error", progress: Progress | None = None
) -> CopyReport:
    """Copy every run of `source` with all that hangs on it to `target`; `progress(runs done, runs)`.

    The source is read as it was at one moment, the target changes wholly or not at all. What was written is read
    back and must have the source's content hashes. Runs that are `kept` are outside the verified content. Raises
    OtherContent for runs that differ (with `error`), UserError for a target that cannot be written and a copy onto
    itself; Failure when the hashes differ.
    """
    if source.place.url == target.place.url:
        raise UserError(f"{source.place.name} cannot be copied onto itself: name another database")
    if target.place.read_only:
        raise UserError(f"database {target.place.name} is read-only: name one that can be written")
    check_rights(target.engine, target.place.name)
    reading = source.engine.execution_options()
    if source.place.path is None:
        reading = reading.execution_options(isolation_level="REPEATABLE READ")
    writing = target.engine.execution_options(gaprun_write=True)

    def attempt() -> CopyReport:
        with reading.connect() as theirs:
            ids = run_ids(theirs)
            with writing.begin() as ours:
                return _Copy(theirs, ours, on_conflict, target.place.name).run(ids, progress)

    return retried(attempt, target.place.name)


class _Copy:
    """One attempt, between two open transactions."""

    def __init__(self, source: Connection, target: Connection, on_conflict: Conflict, name: str) -> None:
        self.source, self.target, self.on_conflict, self.name = source, target, on_conflict, name
        self.report = CopyReport()
        self.conflicts: list[str] = []

    def run(self, ids: Sequence[str], progress: Progress | None) -> CopyReport:
        done = 0
        for part in batches(ids):
            self._part(part)
            done += len(part)
            if progress is not None:
                progress(done, len(ids))
        if self.conflicts:
            names = ", ".join(self.conflicts[:5]) + (", ..." if len(self.conflicts) > 5 else "")
            raise OtherContent(
                f"{self.name} holds {len(self.conflicts)} of these runs with other content ({names})"
            )
        return self.report

    def _part(self, ids: Sequence[str]) -> None:
        rows = read_rows(self.source, ids)
        _check(rows)
        theirs = by_run(rows)
        present = list(self.target.scalars(select(Run.id).where(Run.id.in_(ids))))
        ours = by_run(read_rows(self.target, present)) if present else {}
        equal = [run for run in present if ours[run] == theirs[run]]
        differing = sorted(set(present) - set(equal))
        new = [run for run in ids if run not in ours]
        self.report.equal += equal
        if differing and self.on_conflict == "error":
            self.conflicts += differing
        if self.conflicts:
            return
        if differing and self.on_conflict == "replace":
            self.target.execute(delete(Run).where(Run.id.in_(differing)))
            self.report.replaced += differing
            write = [*new, *differing]
        else:
            self.report.kept += differing
            write = new
        self.report.copied += new
        if write:
            write_rows(self.target, rows, set(write))
            self._verify(theirs, write)
        for run in [*equal, *write]:
            self.report.content.add(theirs[run])

    def _verify(self, theirs: dict[str, Content], written: Sequence[str]) -> None:
        """Read back what was written, still inside the transaction: a difference undoes the whole copy."""
        found = by_run(read_rows(self.target, written))
        wrong = [run for run in written if found.get(run) != theirs[run]]
        if wrong:
            raise Failure(
                f"run {wrong[0]} did not arrive in {self.name} as it was sent: nothing was copied "
                "(is something between them changing rows, such as a trigger?)"
            )


def _check(rows: Rows) -> None:
    """Raise UserError, naming the run, for a name that is no name, a place outside its folder or an unkeepable text.

    Such a database was not written by gaprun: what it names would be written to and removed here.
    """
    for row in rows["runs"]:
        run = f"run {plain_name(row['id'], 'nothing was copied: the run')}"
        for key in ("folder", "checkpoint") if row["kind"] == "train" else ("folder",):
            if row[key]:
                inner_path(row[key], f"nothing was copied: the {key} of {run}")
    for row in rows["evaluations"]:
        if row["details"]:
            inner_path(row["details"], f"nothing was copied: the details of run {row['run_id']}")
    for name, found in rows.items():
        for row in found:
            check_texts(row, f"nothing was copied: run {row['id' if name == 'runs' else 'run_id']} ({name})")


def write_rows(target: Connection, rows: Rows, ids: set[str]) -> None:
    """Insert the rows of the runs `ids`; evaluations are counted anew, in their order."""
    for name in TABLES:
        table = Base.metadata.tables[name]
        chosen = [row for row in rows[name] if row["id" if name == "runs" else "run_id"] in ids]
        if not chosen:
            continue
        if name == "evaluations":
            fresh = [{key: value for key, value in row.items() if key != "id"} for row in chosen]
            returned = insert(table).returning(Evaluation.id, sort_by_parameter_order=True)
            numbers = target.scalars(returned, fresh).all()
            renumbered = {row["id"]: number for row, number in zip(chosen, numbers, strict=True)}
        elif name == "metrics":
            fresh = [
                {key: value for key, value in row.items() if key != "id"}
                | {"evaluation_id": renumbered[row["evaluation_id"]]}
                for row in chosen
            ]
            target.execute(insert(table), fresh)
        else:
            target.execute(insert(table), chosen)
