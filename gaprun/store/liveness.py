"""Is the process behind a 'running' row still there? A killed one cannot write its own end; readers do.

A process is known by the boot of its kernel, its PID namespace, its number there and when it was started in ticks
since boot: clocks that are set and containers that share a host's name do not confuse two of them. Where it cannot be
looked up (another machine, another namespace), its heartbeats speak.
"""

from __future__ import annotations

import os
import socket
from datetime import UTC, datetime, timedelta
from pathlib import Path

SILENCE = timedelta(minutes=10)


def this_host() -> str:
    """The name under which this machine's processes are recorded."""
    return socket.gethostname()


def this_process() -> str:
    """This process as `BOOT/NAMESPACE/PID/TICKS HOST`; the first two are ? where the system does not say."""
    pid = os.getpid()
    try:
        ticks = _fields(pid)[19]
    except (OSError, IndexError):
        ticks = "?"
    return f"{_kernel()}/{pid}/{ticks} {this_host()}"


def is_this(owner: str) -> bool:
    """Whether `owner` is this process; where /proc does not say enough, another container's could be called alike."""
    return "?" not in owner.split(" ")[0] and owner == this_process()


def is_alive(owner: str) -> bool | None:
    """Whether the process that `this_process` called `owner` is alive; None where that cannot be told from here."""
    try:
        boot, namespace, pid, ticks = owner.split(" ")[0].split("/")
        number = int(pid)
    except ValueError:
        return None
    if "?" in (boot, namespace, ticks) or f"{boot}/{namespace}" != _kernel():
        return None
    try:
        fields = _fields(number)
    except OSError:
        return None if _is_hidden(number) else False
    # A zombie has ended; a number that comes again belongs to a process of another start.
    return fields[0] not in ("Z", "X") and fields[19] == ticks


def lost_because(
    host: str | None,
    pid: int | None,
    started: datetime | None,
    heartbeat: datetime | None,
    owner: str | None = None,
    now: datetime | None = None,
) -> str | None:
    """Why a run that says it is running is not, or None while it may well be.

    `owner` is the claim's process, None for a run of an earlier gaprun: then a process of this host's name is asked
    for by its number. Others count as lost after ten minutes without a heartbeat, by the clock that `now` is of.
    """
    if owner is not None and (alive := is_alive(owner)) is not None:
        return None if alive else f"process {pid} ended without saying so"
    if owner is None and host == this_host() and pid is not None:
        return None if _alive(pid, started) else f"process {pid} ended without saying so"
    last = heartbeat or started
    if last is None or (now or datetime.now(UTC)) - last > SILENCE:
        since = last.isoformat(timespec="seconds") if last else "ever"
        return f"no heartbeat from {host or 'an unknown host'} since {since}"
    return None


def _kernel() -> str:
    """`BOOT/NAMESPACE` of this process; ?/? where /proc does not say, or shows another PID namespace's numbers."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        namespace = os.readlink("/proc/self/ns/pid").strip("pid:[]")
        if os.readlink("/proc/self") != str(os.getpid()):
            return "?/?"
    except OSError:
        return "?/?"
    return f"{boot}/{namespace}"


def _fields(pid: int) -> list[str]:
    """/proc/PID/stat from the third field (state) on; the name before it may hold anything."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def _is_hidden(pid: int) -> bool:
    """Whether a process whose /proc/PID is not shown is there all the same, as with /proc's hidepid."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's
        pass
    return True


def _alive(pid: int, started: datetime | None) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    try:
        state, born = _stat(pid)
    except (OSError, ValueError, IndexError, StopIteration):
        return True  # no /proc here: the pid is all there is to go by
    # A zombie has ended; some seconds allow for the coarse and corrected clock of boot.
    return state not in ("Z", "X") and (started is None or born <= started + timedelta(seconds=5))


def _stat(pid: int) -> tuple[str, datetime]:
    fields = _fields(pid)
    boot = next(
        int(line.split()[1])
        for line in Path("/proc/stat").read_text().splitlines()
        if line.startswith("btime ")
    )
    return fields[0], datetime.fromtimestamp(boot + int(fields[19]) / os.sysconf("SC_CLK_TCK"), UTC)
