"""A real SLURM on this machine for tests: munged, slurmctld and one slurmd in a temporary folder, with its own keys.

Debian's slurm-wlm and munge are enough. Nothing of the machine's own SLURM is touched: every daemon has its
configuration, state, socket and ports to itself, and is ended with the test.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scontrol", "scancel", "sinfo")
PATHS = ("/usr/sbin", "/usr/local/sbin")
START_SECONDS = 20.0


class CannotStart(Exception):
    """SLURM is not installed here, or this machine does not let it start; the message says which."""


def _program(name: str) -> str:
    found = shutil.which(name) or shutil.which(name, path=os.pathsep.join(PATHS))
    if found is None:
        raise CannotStart(f"needs SLURM: {name} is not installed (apt install slurm-wlm munge)")
    return found


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class LocalSlurm:
    """One node of `cpus` processors called as this host. `environment` makes commands talk to it.

    Raises CannotStart, with the daemons' last words, where it cannot run.
    """

    def __init__(self, cpus: int) -> None:
        self.programs = {name: _program(name) for name in PROGRAMS}
        self.cpus = cpus
        self.folder = Path(tempfile.mkdtemp(prefix="gaprun-slurm-"))
        self.folder.chmod(0o755)  # munge wants its socket reachable
        self.environment = {**os.environ, "SLURM_CONF": str(self.folder / "slurm.conf")}
        self._daemons: list[subprocess.Popen[bytes]] = []
        try:
            self._start()
        except BaseException:
            self.close()
            raise

    def _start(self) -> None:
        # Containers have no cgroups to give; before 23.11 SLURM names a plugin all the same, and never mounts it here.
        plugin = "disabled" if self._version() >= (23, 11) else "cgroup/v1"
        (self.folder / "cgroup.conf").write_text(
            f"CgroupPlugin={plugin}\nCgroupMountpoint={self.folder}/cgroup\n"
        )
        (self.folder / "slurm.conf").write_text(self._configuration())
        for name in ("state", "spool", "munge"):
            (self.folder / name).mkdir(mode=0o755)
        key = self.folder / "munge" / "key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o600)
        munge = self.folder / "munge"
        options = {"key-file": key, "socket": munge / "socket", "pid-file": munge / "pid"}
        options |= {"seed-file": munge / "seed", "log-file": munge / "log"}
        self._daemon("munged", "--foreground", "--force", *(f"--{k}={v}" for k, v in options.items()))
        self._wait(lambda: (munge / "socket").exists(), "munged")
        self._daemon("slurmctld", "-D", "-i")
        self._daemon("slurmd", "-D", "-N", self.host)
        self._wait(lambda: "idle" in self.run("sinfo", "--noheader", "--format=%T").stdout, "slurmd")

    def _version(self) -> tuple[int, ...]:
        said = subprocess.run([self.programs["slurmd"], "-V"], capture_output=True, text=True).stdout
        return tuple(int(part) for part in said.split()[-1].split(".")[:2])

    @property
    def host(self) -> str:
        """The node's name."""
        return socket.gethostname().split(".")[0]

    def _configuration(self) -> str:
        user = subprocess.run(["id", "-un"], capture_output=True, text=True, check=True).stdout.strip()
        place = self.folder
        return f"""
ClusterName=gaprun-test
SlurmctldHost={self.host}(127.0.0.1)
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
CredType=cred/munge
# A requeued job waits until its old credential has expired.
AuthInfo=socket={place}/munge/socket,cred_expire=5
SlurmctldPort={_free_port()}
SlurmdPort={_free_port()}
StateSaveLocation={place}/state
SlurmdSpoolDir={place}/spool
SlurmctldPidFile={place}/slurmctld.pid
SlurmdPidFile={place}/slurmd.pid
SlurmctldLogFile={place}/slurmctld.log
SlurmdLogFile={place}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerType=sched/backfill
SchedulerParameters=bf_interval=1,sched_min_interval=500000,batch_sched_delay=1
MpiDefault=none
ReturnToService=2
SlurmdParameters=config_overrides
OverTimeLimit=0
KillWait=2
InactiveLimit=0
MinJobAge=300
CompleteWait=0
NodeName={self.host} NodeAddr=127.0.0.1 CPUs={self.cpus} State=UNKNOWN
PartitionName=main Nodes={self.host} Default=YES MaxTime=60 State=UP
"""

    def _daemon(self, name: str, *arguments: str) -> None:
        log = (self.folder / f"{name}.out").open("w")
        self._daemons.append(
            subprocess.Popen(
                [self.programs[name], *arguments],
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        )

    def run(self, name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """One of SLURM's commands against this cluster."""
        command = [self.programs[name], *arguments]
        return subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=60)

    def _wait(self, ready, name: str) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not ready():
            if time.monotonic() > deadline or any(daemon.poll() is not None for daemon in self._daemons):
                raise CannotStart(f"SLURM does not start here ({name}): {self.last_words()}")
            time.sleep(0.2)

    def last_words(self, characters: int = 300) -> str:
        """The end of every daemon's log."""
        logs = sorted(
            [*self.folder.glob("*.out"), *self.folder.glob("*.log"), *self.folder.glob("munge/log")]
        )
        return "; ".join(
            f"{log.name}: {log.read_text(errors='replace')[-characters:].strip()}" for log in logs
        )

    def close(self) -> None:
        """Cancel what runs, end the daemons and remove the folder."""
        if len(self._daemons) == 3:
            self.run("scancel", "--signal=KILL", "--full", f"--user={os.getuid()}")
            self.run("scancel", f"--user={os.getuid()}")
            deadline = time.monotonic() + 10
            while self.run("squeue", "--noheader").stdout.strip() and time.monotonic() < deadline:
                time.sleep(0.2)
            self.run("scontrol", "shutdown")
        for daemon in reversed(self._daemons):
            daemon.terminate()
        for daemon in reversed(self._daemons):
            try:
                daemon.wait(10)
            except subprocess.TimeoutExpired:
                daemon.kill()
        shutil.rmtree(self.folder, ignore_errors=True)
