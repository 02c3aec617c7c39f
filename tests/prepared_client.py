"""What stands in python's place (see prepared.py, which writes it out as a program of its own): small, to be quick."""

import fcntl
import json
import os
import signal
import socket
import sys

HEARD = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2]


def main(place: str) -> None:
    """Have `place`'s server run this process's arguments, pass on every signal, and end as that ended."""
    ignored = [kind for kind in HEARD if signal.getsignal(kind) is signal.SIG_IGN]
    heard = [kind for kind in HEARD if kind not in ignored]
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, heard)  # until there is somebody to pass them to
    files = [file for file in map(int, os.listdir("/proc/self/fd")) if inherited(file)]
    request = {"args": sys.argv[1:], "cwd": os.getcwd(), "env": dict(os.environ), "files": files}
    request |= {"heard": heard, "ignored": ignored, "mask": list(mask)}
    text = json.dumps(request).encode()
    server = socket.socket(socket.AF_UNIX)
    server.connect(place)
    socket.send_fds(server, [len(text).to_bytes(8, "big")], files)
    server.sendall(text)
    for file in files:  # whoever waits for them to be closed waits for the other
        os.close(file)
    pid = int.from_bytes(server.recv(8, socket.MSG_WAITALL), "big")

    def pass_on(kind: int, frame: object) -> None:
        try:
            os.kill(pid, kind)
        except ProcessLookupError:
            pass

    for kind in heard:
        signal.signal(kind, pass_on)
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    code = os.waitstatus_to_exitcode(int.from_bytes(server.recv(8, socket.MSG_WAITALL), "big"))
    if code < 0:
        if -code != signal.SIGKILL:
            signal.signal(-code, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, [-code])
        os.kill(os.getpid(), -code)
    os._exit(code)


def inherited(file: int) -> bool:
    """Whether a file descriptor came from the caller: Python's own are closed for other programs."""
    try:
        return not fcntl.fcntl(file, fcntl.F_GETFD) & fcntl.FD_CLOEXEC
    except OSError:
        return False
