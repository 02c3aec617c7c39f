"""Is the process behind a 'running' row still there? A killed one cannot write its own end; readers do."""

from __future__ import annotations

import os
import socket
from datetime import UTC, datetime, timedelta
from pathlib import Path

SILENCE = timedelta(minutes=10)


def this_host() -> str:
    """The name under which this machine's processes are recorded."""
    return socket.gethostname()


def lost_because(
    host: str | None, pid: int | None, started: datetime | None, heartbeat: datetime | None
) -> str | None:
    """Why a run that says it is running is not, or None while it may well be.

    On this host the process itself is asked for (same pid, alive, and not started after the run: pids come
    again); another host's run counts as lost after ten minutes without a heartbeat.
    """
    if host == this_host() and pid is not None:
        return None if _alive(pid, started) else f"process {pid} ended without saying so"
    last = heartbeat or started
    if last is None or datetime.now(UTC) - last > SILENCE:
        since = last.isoformat(timespec="seconds") if last else "ever"
        return f"no heartbeat from {host or 'an unknown host'} since {since}"
    return None


def _alive(pid: int, started: datetime | None) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    try:
        state, born = _stat(pid)
    except (OSError, ValueError, IndexError):
        return True  # no /proc here: the pid is all there is to go by
    # A zombie has ended; some seconds allow for the coarse and corrected clock of boot.
    return state not in ("Z", "X") and (started is None or born <= started + timedelta(seconds=5))


def _stat(pid: int) -> tuple[str, datetime]:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    boot = next(
        int(line.split()[1])
        for line in Path("/proc/stat").read_text().splitlines()
        if line.startswith("btime ")
    )
    return fields[0], datetime.fromtimestamp(boot + int(fields[19]) / os.sysconf("SC_CLK_TCK"), UTC)
