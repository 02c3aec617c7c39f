"""SQLite results databases as one that can be given away: no host names, processes or places on a disk, one file.

python -m gaprun.store.publish results.db results.db.example
python -m gaprun.store.publish results.db.example photos.db results.db.example   # adds the runs of photos.db
"""

from __future__ import annotations

import json
import re
import sqlite3
import sys
import uuid
from collections.abc import Iterable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote

from gaprun.errors import Failure, GaprunError, UserError
from gaprun.files import beside, check_replaceable
from gaprun.store.copying import copy_database
from gaprun.store.database import open_store
from gaprun.store.liveness import this_host
from gaprun.store.place import remove_logs
from gaprun.store.schema import TABLES

# Keys of notes and environments whose values say where something ran.
PRIVATE = ("host", "hostname", "pid", "queue", "imported_on", "user", "cluster_name", "job", "log", "node")
TEXTS = {"runs": ("error", "checkpoint", "folder", "tags", "note"), "evaluations": ("details",)}
DOCUMENTS = {"runs": ("environment", "notes", "resolved_recipe"), "evaluations": ("options",)}
_PATH = re.compile(r"(?<![\w.:/])(?:/|~/|[A-Za-z]:\\)(?:[^\s\"'/\\:;,()]+[/\\])+([^\s\"'/\\:;,()]*)")
_PROCESS = re.compile(r"\b(process|pid)\s+\d+", re.IGNORECASE)


def publish(sources: Sequence[Path], target: Path) -> None:
    """Copy the runs of all `sources` to `target`, which appears whole or not at all and may be one of several sources.

    Of a run that several hold the last one's counts. A place on a disk keeps its last part. Raises UserError for what
    is no database, also at `target`, Failure where a host's name would stay.
    """
    if len(sources) == 1 and target.exists() and target.resolve() == sources[0].resolve():
        raise UserError(f"{target} cannot be published onto itself: name another file")
    check_replaceable(target, _is_database, "name another file")
    for source in sources:
        open_store(str(source), create=False).close()
    temporary = beside(target)
    try:
        hosts = _merged(sources, temporary)
        copy = sqlite3.connect(temporary)
        copy.execute("DELETE FROM claims")
        copy.execute("UPDATE identity SET id = ?", (uuid.uuid4().hex,))
        copy.execute("UPDATE runs SET host = NULL, pid = NULL")
        _clean(copy, hosts)
        copy.commit()
        copy.execute("PRAGMA journal_mode = DELETE")  # so that readers leave no files beside it
        copy.execute("VACUUM")
        left = _left(copy, hosts)
        copy.close()
        if left:
            raise Failure(f"{target}: not written, since {left} would still name a host")
        temporary.replace(target)
    except (sqlite3.Error, OSError) as error:
        raise UserError(f"{target}: could not be written ({error})") from None
    finally:
        temporary.unlink(missing_ok=True)
        remove_logs(temporary)


def _merged(sources: Sequence[Path], target: Path) -> list[str]:
    """Copy all `sources` to `target` as they are; returns the hosts that they know."""
    hosts: set[str] = set()
    for number, source in enumerate(sources):
        with closing(sqlite3.connect(source)) as connection:
            hosts.update(_hosts(connection))
            if not number:
                connection.execute("VACUUM INTO ?", (str(target),))
    for source in sources[1:]:
        theirs, ours = open_store(str(source), create=False), open_store(str(target), create=False)
        copy_database(theirs, ours, "replace")
        theirs.close()
        ours.close()
    return sorted(hosts, key=len, reverse=True)


def _is_database(path: Path) -> bool:
    """Whether a file holds a gaprun database, of this version or an older one."""
    try:
        with closing(sqlite3.connect(f"file:{quote(str(path.absolute()))}?mode=ro", uri=True)) as connection:
            tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
    except sqlite3.Error:
        return False
    return tables >= TABLES


def cleaned(value: Any, hosts: Iterable[str]) -> Any:
    """A plain value without private keys, and its texts without hosts, process numbers and folders."""
    if isinstance(value, dict):
        return {key: cleaned(item, hosts) for key, item in value.items() if key not in PRIVATE}
    if isinstance(value, list):
        return [cleaned(item, hosts) for item in value]
    if not isinstance(value, str):
        return value
    value = _PROCESS.sub(r"\1", _PATH.sub(r"\1", value))
    for host in hosts:
        value = re.sub(rf"(?<![\w-]){re.escape(host)}(?![\w-])", "a host", value)
    return value


def _hosts(copy: sqlite3.Connection) -> list[str]:
    """Every name of a host that the database or this machine knows, longest first."""
    found = {
        this_host(),
        *(name for (name,) in copy.execute("SELECT DISTINCT host FROM runs WHERE host <> ''")),
    }
    found |= {owner.partition(" ")[2] for (owner,) in copy.execute("SELECT owner FROM claims")}
    for row in copy.execute("SELECT environment, notes FROM runs"):
        found |= {name for text in row if text for name in _named(json.loads(text))}
    found |= {name.partition(".")[0] for name in found}
    return sorted(found - {"", "localhost"}, key=len, reverse=True)


def _named(value: Any) -> Iterable[str]:
    if isinstance(value, dict):
        for key, item in value.items():
            if key in ("host", "hostname", "node", "imported_on") and isinstance(item, str):
                yield item
            yield from _named(item)


def _clean(copy: sqlite3.Connection, hosts: list[str]) -> None:
    for columns, is_document in ((TEXTS, False), (DOCUMENTS, True)):
        for table, names in columns.items():
            for name in names:
                rows = copy.execute(f"SELECT rowid, {name} FROM {table} WHERE {name} IS NOT NULL").fetchall()
                for number, text in rows:
                    value = cleaned(json.loads(text) if is_document else text, hosts)
                    new = json.dumps(value) if is_document else value
                    if new != text:
                        copy.execute(f"UPDATE {table} SET {name} = ? WHERE rowid = ?", (new, number))


def _left(copy: sqlite3.Connection, hosts: list[str]) -> str:
    """The first column that still holds a host's name as a word, or nothing."""
    words = [re.compile(rf"(?<![\w-]){re.escape(host)}(?![\w-])") for host in hosts]
    for table, names in (*TEXTS.items(), *DOCUMENTS.items()):
        for name in names:
            for (text,) in copy.execute(f"SELECT {name} FROM {table} WHERE {name} IS NOT NULL"):
                if any(word.search(text) for word in words):
                    return f"{table}.{name}"
    return ""


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit("usage: python -m gaprun.store.publish SOURCE [SOURCE ...] TARGET")
    *given, to = map(Path, sys.argv[1:])
    try:
        publish(given, to)
    except GaprunError as error:
        sys.exit(f"error: {error}")
