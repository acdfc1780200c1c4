"""Programs of this project as real processes, forked from one that has imported what they import.

A program takes a second of processor time to import Temporal and Strands, and the tests start hundreds. A forked one
has its own environment, arguments, directory, session and streams, as if it had been started; its imports are done.
"""

from __future__ import annotations

import array
import ctypes
import gc
import importlib
import io
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

ROOT = Path(__file__).resolve().parent.parent
PROGRAMS = {
    # Commands that only talk to Temporal must not import Strands: theirs is kept from it from the beginning.
    "commands": ("abeyance.cli", "rich.console", "rich.table", "rich.live", "rich.markdown"),
    "workers": ("worker", "abeyance.cli", "tests.chaos.agents", "tests.journal_agents"),
}
LARGEST_ORDER = 1 << 20
WITHOUT_STRANDS = "TESTS_WITHOUT_STRANDS"


class Forked:
    """A forked program; as much of `subprocess.Popen` as tests use."""

    def __init__(self, pid: int, status: int):
        self.pid = pid
        self.returncode: int | None = None
        self._status = status
        self._lock = threading.Lock()
        self._handle = -1
        with suppress(ProcessLookupError):
            # Signals through it reach no stranger that was given the process id meanwhile.
            self._handle = os.pidfd_open(pid)

    def poll(self) -> int | None:
        """Its exit status, `None` as long as it runs."""
        with self._lock:
            if self.returncode is None and self._told(0):
                told = os.read(self._status, 4)
                # Without a word, what it was forked from has ended, and it with that.
                self.returncode = array.array("i", told)[0] if told else -int(signal.SIGKILL)
                os.close(self._status)
                if self._handle >= 0:
                    os.close(self._handle)
            return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait until it has ended; gives its exit status."""
        end = None if timeout is None else time.monotonic() + timeout
        while (status := self.poll()) is None:
            left = None if end is None else end - time.monotonic()
            if left is not None and left <= 0:
                raise subprocess.TimeoutExpired(str(self.pid), timeout or 0)
            self._told(left)
        return status

    def _told(self, seconds: float | None) -> bool:
        ready = select.poll()
        ready.register(self._status, select.POLLIN | select.POLLHUP)
        return bool(ready.poll(None if seconds is None else 1_000 * seconds))

    def send_signal(self, number: int) -> None:
        """Send it a signal, if it runs."""
        if self.poll() is None:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._handle, number)

    def kill(self) -> None:
        """End it with SIGKILL."""
        self.send_signal(signal.SIGKILL)


class _Forks:
    """The process that programs of one kind are forked from; it ends with this one."""

    def __init__(self, kind: str):
        self._lock = threading.Lock()
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for one in (self._socket, theirs):
            one.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, LARGEST_ORDER)
        command = [sys.executable, "-m", "tests.forks", kind, str(theirs.fileno())]
        clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        self._process = subprocess.Popen(
            command, cwd=ROOT, env=clean, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, start_new_session=True
        )
        theirs.close()

    def fork(
        self, command: Sequence[str], env: Mapping[str, str], cwd: Path, stdin: int, stdout: int, stderr: int
    ) -> Forked:
        ended, tell = os.pipe()
        order = json.dumps({"command": list(command), "env": dict(env), "cwd": str(cwd)}).encode()
        with self._lock:
            socket.send_fds(self._socket, [order], [stdin, stdout, stderr, tell])
            pid = self._socket.recv(100)
        os.close(tell)
        assert pid, "what programs are forked from has ended"
        return Forked(int(pid), ended)


_forks: dict[str, _Forks] = {}
_forks_lock = threading.Lock()


def launch(
    command: Sequence[str],
    env: Mapping[str, str],
    cwd: Path,
    stdin: int,
    stdout: int,
    stderr: int,
    *,
    forked: bool = True,
) -> Forked | subprocess.Popen[bytes]:
    """Start a program, in a session of its own; one of this project by forking.

    Args:
        command: the program and its arguments.
        env: its whole environment. One with `WITHOUT_STRANDS` is kept from importing Strands.
        cwd: its directory.
        stdin: a descriptor, as are `stdout` and `stderr`. The caller closes them.
        forked: whether a program of this project may begin with what is imported already. What is measured may not.
    """
    ours = command[0] == sys.executable and (command[1] == "-m" or command[1].endswith(".py"))
    if not (forked and ours):
        return subprocess.Popen(
            command, cwd=cwd, env=env, stdin=stdin, stdout=stdout, stderr=stderr, start_new_session=True
        )
    kind = "commands" if WITHOUT_STRANDS in env else "workers"
    with _forks_lock:
        if kind not in _forks:
            _forks[kind] = _Forks(kind)
    return _forks[kind].fork(command[1:], env, cwd, stdin, stdout, stderr)


def run(
    command: Sequence[str], env: Mapping[str, str], cwd: Path, timeout: float, given: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run a program of this project to its end, without a terminal and with `given` to read; gives what it wrote."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err, tempfile.TemporaryFile() as read:
        read.write(given.encode())
        read.seek(0)
        process = launch(command, env, cwd, read.fileno(), out.fileno(), err.fileno())
        try:
            status = process.wait(timeout)
        finally:
            process.kill()
        out.seek(0)
        err.seek(0)
        return subprocess.CompletedProcess(list(command), status, out.read().decode(), err.read().decode())


class _NoStrands:
    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        if name == "strands" or name.startswith("strands."):
            sys.stderr.write("STRANDS WAS IMPORTED")
            raise ImportError("a command that only talks to Temporal must not import Strands")


def _main(kind: str, descriptor: int) -> None:
    if kind == "commands":
        sys.meta_path.insert(0, _NoStrands())
    for name in PROGRAMS[kind]:
        importlib.import_module(name)
    assert threading.active_count() == 1, "a process with threads cannot be forked"
    # Pages that no fork's garbage collector writes to are not copied.
    gc.collect()
    gc.freeze()
    orders = socket.socket(fileno=descriptor)
    waking, woken = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(woken, warn_on_full_buffer=False)
    tells: dict[int, int] = {}
    while True:
        ready, _, _ = select.select([orders.fileno(), waking], [], [])
        if waking in ready:
            with suppress(BlockingIOError):
                os.read(waking, 4096)
        for pid in list(tells):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                with suppress(OSError):
                    os.write(tells[pid], array.array("i", [os.waitstatus_to_exitcode(status)]).tobytes())
                os.close(tells.pop(pid))
        if orders.fileno() not in ready:
            continue
        order, descriptors, _, _ = socket.recv_fds(orders, LARGEST_ORDER, 4)
        if not order:
            return
        pid = os.fork()
        if pid == 0:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            # As on a terminal, even if the tests themselves run where Ctrl-C is not to end them.
            signal.signal(signal.SIGINT, signal.default_int_handler)
            for mine in (orders.fileno(), waking, woken, descriptors[3], *tells.values()):
                os.close(mine)
            _become(json.loads(order), descriptors[:3])
        for theirs in descriptors[:3]:
            os.close(theirs)
        tells[pid] = descriptors[3]
        orders.send(str(pid).encode())


def die_with_the_parent() -> None:
    """Have the kernel end this process with the one that has forked it."""
    parent_death_signal = 1
    ctypes.CDLL(None).prctl(parent_death_signal, signal.SIGKILL)


def _become(order: Mapping[str, Any], streams: Sequence[int]) -> NoReturn:
    """Be the program."""
    os.setsid()
    die_with_the_parent()
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    os.environ.clear()
    os.environ.update(order["env"])
    time.tzset()
    os.chdir(order["cwd"])
    for number, name, mode in ((0, "stdin", "rb"), (1, "stdout", "wb"), (2, "stderr", "wb")):
        raw = open(number, mode, closefd=False)  # noqa: SIM115 - as long as the process lives
        terminal = raw.isatty() or name == "stderr"
        errors = "backslashreplace" if name == "stderr" else "strict"
        made = io.TextIOWrapper(raw, "utf-8", errors, line_buffering=terminal)
        setattr(sys, name, made)
        setattr(sys, f"__{name}__", made)
    command = order["command"]
    for place in reversed(order["env"].get("PYTHONPATH", "").split(os.pathsep)):
        if place and place not in sys.path:
            sys.path.insert(0, place)
    status: Any = 1
    try:
        if command[0] == "-m":
            sys.argv = command[1:]
            sys.path[0] = order["cwd"]
            runpy.run_module(command[1], run_name="__main__", alter_sys=True)
        else:
            sys.argv = command
            sys.path[0] = str(Path(order["cwd"], command[0]).parent)
            runpy.run_path(command[0], run_name="__main__")
        status = 0
    except SystemExit as leaving:
        status = leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None)
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


if __name__ == "__main__":
    _main(sys.argv[1], int(sys.argv[2]))
