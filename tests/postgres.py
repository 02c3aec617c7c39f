"""A real PostgreSQL server for tests: Debian's binaries, a throw-away cluster, a socket in its own folder.

As root the server runs under another user, because PostgreSQL refuses root. Nothing listens on the network.
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from pathlib import Path

MISSING = "needs a PostgreSQL server: apt install postgresql, or name one in GAPRUN_TEST_POSTGRES"


def binaries() -> Path | None:
    """The folder of `initdb` and `pg_ctl`, of the newest version installed; None where there is none."""
    found = [path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/initdb")]
    on_path = shutil.which("initdb")
    if on_path:
        found.append(Path(on_path).resolve().parent)
    found = [folder for folder in found if (folder / "pg_ctl").is_file()]
    return max(found, key=lambda folder: _version(folder.parent.name)) if found else None


def _version(name: str) -> float:
    return float(name) if name.replace(".", "", 1).isdigit() else 0.0


class LocalPostgres:
    """One cluster in a temporary folder. `url` names its database `postgres`; user gaprun owns everything."""

    def __init__(self, bin_folder: Path, durable: bool = False) -> None:
        """`durable` leaves fsync on, as a real server has it; without it the tests are faster."""
        self.bin = bin_folder
        self.folder = Path(tempfile.mkdtemp(prefix="gaprun-pg-"))
        self.user = _unprivileged()
        if self.user is not None:
            account = pwd.getpwnam(self.user)
            os.chown(self.folder, account.pw_uid, account.pw_gid)
        self.folder.chmod(0o755)
        self.data = self.folder / "data"
        self.url = f"postgresql+psycopg://gaprun@/postgres?host={self.folder}"
        locale = ["--locale=C"]
        if _version(bin_folder.parent.name) >= 15:  # as servers have it: texts in the order of a language
            locale = ["--locale=C.UTF-8", "--locale-provider=icu", "--icu-locale=en-US"]
        account = ["-U", "gaprun", "-A", "trust"]
        self._run("initdb", "-D", self.data, *account, "-E", "UTF8", "--no-sync", *locale)
        settings = ["listen_addresses = ''", f"unix_socket_directories = '{self.folder}'"]
        settings += [] if durable else ["fsync = off", "synchronous_commit = off"]
        self._append("postgresql.conf", settings)
        self.start()

    def start(self) -> None:
        """Start the server and wait until it accepts connections."""
        self._run("pg_ctl", "-D", self.data, "-w", "-t", "60", "-l", self.folder / "log", "start")

    def stop(self, mode: str = "fast") -> None:
        """Stop it: `fast` ends connections in order, `immediate` is a crash that the next start recovers from."""
        self._run("pg_ctl", "-D", self.data, "-w", "-t", "60", "-m", mode, "stop")

    def close(self) -> None:
        """Stop the server and remove its folder."""
        if (self.data / "postmaster.pid").exists():
            self.stop("immediate")
        shutil.rmtree(self.folder, ignore_errors=True)

    def _append(self, name: str, lines: list[str]) -> None:
        with (self.data / name).open("a") as file:
            file.write("\n".join(["", *lines, ""]))

    def _run(self, program: str, *arguments: str | Path) -> None:
        account = {"user": self.user, "group": pwd.getpwnam(self.user).pw_gid} if self.user else {}
        done = subprocess.run(
            [self.bin / program, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=(self.folder / "out").open(
                "w"
            ),  # not a pipe: the server keeps it open for as long as it runs
            stderr=subprocess.STDOUT,
            cwd="/",
            extra_groups=[] if self.user else None,
            **account,
        )
        if done.returncode:
            raise RuntimeError(f"{program} failed: {(self.folder / 'out').read_text()}")


def _unprivileged() -> str | None:
    """The user to run the server as: None for oneself."""
    if os.getuid() != 0:
        return None
    names = {entry.pw_name for entry in pwd.getpwall()}
    return next(name for name in ("postgres", "nobody") if name in names)
