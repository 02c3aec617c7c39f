"""A copy of a SQLite results database that can be given away: no host names, no process numbers, one file.

python -m gaprun.store.publish results.db results.db.example
"""

from __future__ import annotations

import os
import sqlite3
import sys
from pathlib import Path

from gaprun.errors import GaprunError, UserError
from gaprun.store.database import open_store


def publish(source: Path, target: Path) -> None:
    """Copy `source` to `target`, which appears whole or not at all. Raises UserError for what is no database."""
    open_store(str(source), create=False)
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    try:
        with sqlite3.connect(source) as connection:
            connection.execute("VACUUM INTO ?", (str(temporary),))
        copy = sqlite3.connect(temporary)
        copy.execute("UPDATE runs SET host = NULL, pid = NULL")
        copy.commit()
        copy.execute("PRAGMA journal_mode = DELETE")  # so that readers leave no files beside it
        copy.execute("VACUUM")
        copy.close()
        temporary.replace(target)
    except (sqlite3.Error, OSError) as error:
        raise UserError(f"{target}: could not be written ({error})") from None
    finally:
        temporary.unlink(missing_ok=True)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: python -m gaprun.store.publish SOURCE TARGET")
    try:
        publish(Path(sys.argv[1]), Path(sys.argv[2]))
    except GaprunError as error:
        sys.exit(f"error: {error}")
