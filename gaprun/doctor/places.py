"""Where things are kept: data, the database, disks; and the cluster where there is one."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from gaprun.data.split import data_root, list_splits, open_split, read_index
from gaprun.doctor.result import CheckResult, State
from gaprun.errors import GaprunError, UserError

FEW_BYTES, LITTLE_BYTES = 2**30, 20 * 2**30
MAKE_DATA = (
    "draw some with `gaprun data scenes --out data/scenes`, see `gaprun data --help`, or set GAPRUN_DATA"
)


def data() -> Iterator[CheckResult]:
    """The data root and every split in it; pictures are not read (`gaprun data check` does that)."""
    root = data_root()
    if not root.is_dir():
        yield CheckResult("data", "warn", f"no folder {root}", MAKE_DATA)
        return
    good, images = [], 0
    for name in list_splits(root):
        try:
            split = open_split(name, root)
            shards = [shard["file"] for shard in read_index(split.path)["shards"]]
            missing = [file for file in shards if not (split.path / file).is_file()]
            if missing:
                said = f"{len(missing)} shards are missing, such as {missing[0]}"
                yield CheckResult(f"data {name}", "fail", said, "write it again")
                continue
            good.append(name)
            images += split.samples
        except (GaprunError, OSError, KeyError, ValueError) as error:
            yield CheckResult(f"data {name}", "fail", str(error), "write it again, or remove it")
    if good:
        more = f" and {len(good) - 6} more" if len(good) > 6 else ""
        yield CheckResult("data", "ok", f"{root}: {images} pictures in {', '.join(good[:6])}{more}")
    else:
        yield CheckResult("data", "warn", f"no usable split in {root}", MAKE_DATA)


def database(db: str | None) -> Iterator[CheckResult]:
    """Reached, of which revision, and writable."""
    from gaprun.store.engine import journal_mode_for
    from gaprun.store.place import check_file, locate

    try:
        place = locate(db)
        if place.path is not None and not place.path.exists():
            check_file(place, create=True)
            yield CheckResult("database", "ok", f"{place.name} does not exist yet; the first run creates it")
            return
    except GaprunError as error:
        yield CheckResult("database", "fail", str(error))
        return
    yield from _look_inside(db)
    if place.path is not None and journal_mode_for(place.path) != "wal":
        yield CheckResult(
            "database",
            "warn",
            f"{place.name} is on a network disk",
            "SQLite is slow and unsafe there: use PostgreSQL (--db URL)",
        )


def _look_inside(db: str | None) -> Iterator[CheckResult]:
    from sqlalchemy.exc import DBAPIError

    from gaprun.store.engine import explain, make_engine
    from gaprun.store.info import describe
    from gaprun.store.place import check_file, locate
    from gaprun.store.rights import check_rights

    try:
        facts = describe(db)
        name, here, ours = facts["database"], facts["schema"], facts["schema_of_this_gaprun"]
        if here is None:
            yield CheckResult("database", "ok", f"{name} is empty; the first run makes the tables")
            return
        if here != ours:
            newer = here > ours
            advice = (
                "upgrade gaprun, or name another database"
                if newer
                else "gaprun db upgrade (a backup is kept)"
            )
            yield CheckResult(
                "database", "fail" if newer else "warn", f"{name} has schema {here}, not {ours}", advice
            )
            return
        place = check_file(locate(db), create=False)
        if place.read_only:
            yield CheckResult(
                "database", "warn", f"{name} is read-only", "copy it to a folder where you may write"
            )
            return
        try:
            engine = make_engine(place)
            check_rights(engine, place.name)
            with engine.execution_options(gaprun_write=True).connect() as connection:
                connection.exec_driver_sql("UPDATE runs SET step = step WHERE 1 = 0")
                connection.rollback()
        except DBAPIError as error:
            said = f"{name} can be read but not written: {explain(error, place.name)}"
            yield CheckResult(
                "database", "fail", said, "ask its owner for the right to write, or name another"
            )
            return
        except UserError as error:
            yield CheckResult("database", "fail", str(error))
            return
        yield CheckResult("database", "ok", f"{name}: {facts['runs']} runs, schema {here}, writable")
    except GaprunError as error:
        yield CheckResult("database", "fail", str(error), "is the server running, and the URL right?")


def runs_folder(db: str | None) -> Path:
    """Where runs are kept, which may not exist yet."""
    from gaprun.store.place import locate

    try:
        path = locate(db).path
    except GaprunError:
        path = None
    return Path(os.environ.get("GAPRUN_RUNS") or (path.absolute().parent if path else Path.cwd())).absolute()


def disk(db: str | None) -> Iterator[CheckResult]:
    """Free space where runs and data are kept."""
    for what, folder in (("runs", runs_folder(db)), ("data", data_root())):
        existing = next(place for place in (folder.absolute(), *folder.absolute().parents) if place.is_dir())
        free = shutil.disk_usage(existing).free
        said = f"{free / 2**30:.1f} GiB free for {what} ({folder})"
        advice = "a checkpoint of RN50 takes 1.2 GiB; choose a larger disk (GAPRUN_RUNS, GAPRUN_DATA)"
        state: State = "fail" if free < FEW_BYTES else "warn" if free < LITTLE_BYTES else "ok"
        yield CheckResult("disk", state, said, advice if state != "ok" else "")


def cluster() -> Iterator[CheckResult]:
    """SLURM, where its commands are."""
    if shutil.which("sbatch") is None:
        return
    from gaprun.cluster.asking import cluster_name

    name = cluster_name()
    if name is None:
        yield CheckResult(
            "slurm", "warn", "its commands are here, its controller does not answer", "try `sinfo`"
        )
    else:
        yield CheckResult("slurm", "ok", f"cluster {name}; `gaprun submit --cluster slurm` sends jobs there")
