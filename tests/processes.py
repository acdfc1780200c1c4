"""Real processes for tests: workers, servers and programs, started, killed and started anew."""

from __future__ import annotations

import asyncio
import os
import pty
import random
import signal
import socket
import subprocess
import sys
import sysconfig
import threading
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path

from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.enums.v1 import TaskQueueType
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import DescribeTaskQueueRequest, ResetStickyTaskQueueRequest
from temporalio.client import Client
from temporalio.service import RPCError
from temporalio.testing import WorkflowEnvironment

from abeyance.devserver import PRAGMAS, temporal_binary
from abeyance.settings import Settings
from tests.forks import Forked, launch
from tests.support import PATIENCE, ROOT, until

AGENTS = "agents,tests.agents"


def free_port() -> int:
    """A port of the loopback interface that nobody listens on, of those that no outgoing connection is given."""
    while True:
        port = random.randrange(15_000, 32_000)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def address_of(client: Client) -> str:
    """Where the server of `client` answers."""
    return client.service_client.config.target_host


def environment(address: str, settings: Settings | None = None, **more: str) -> dict[str, str]:
    """The environment of a program of this project that is to use that server and those settings."""
    given = {
        "TEMPORAL_ADDRESS": address,
        "ABEYANCE_AGENTS": AGENTS,
        "PYTHONPATH": str(ROOT),
        # A worker of a busy machine answers late, and what commands say then is for one that does not answer at all.
        "ABEYANCE_WORKER_TIMEOUT": "120",
    }
    if settings:
        given |= {
            "ABEYANCE_TASK_QUEUE": settings.task_queue,
            "ABEYANCE_WORKSPACE": str(settings.workspace),
            "ABEYANCE_HEARTBEAT_TIMEOUT": str(settings.heartbeat_timeout),
            "ABEYANCE_SHUTDOWN_GRACE": str(settings.shutdown_grace),
        }
    return os.environ | given | more


class ChildProcess:
    """A process that a test started, in a session of its own."""

    def __init__(self, process: subprocess.Popen[bytes] | Forked, log: Path):
        self._process = process
        self._log = log

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    @property
    def output(self) -> str:
        """What it has written so far, both streams."""
        return self._log.read_text(errors="replace")

    def kill(self) -> None:
        """End it with SIGKILL; it cannot say goodbye to anybody."""
        self._process.kill()
        self._process.wait()

    def send(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def interrupt(self) -> None:
        """What Ctrl-C does: SIGINT to its whole process group."""
        os.killpg(self._process.pid, signal.SIGINT)

    async def ends(self, patience: float = PATIENCE) -> int:
        """Wait until it has ended by itself; gives its exit status."""

        async def look() -> bool:
            return not self.running

        await until(look, what=f"process {self.pid} to end, which says: {self.output}", patience=patience)
        return int(self._process.returncode or 0)

    async def says(self, text: str, times: int = 1) -> str:
        """Wait until it has written `text` so many times; gives all that it has written."""

        async def look() -> bool:
            running = self.running
            if not running:
                await self.arrived()
            told = self.output.count(text) >= times
            assert running or told, f"ended with {self._process.returncode}: {self.output}"
            return told

        await until(look, what=f"{text!r} in: {self.output}")
        return self.output

    async def arrived(self) -> None:
        """Wait, once it has ended, until all that it wrote can be read."""

    def children(self) -> set[int]:
        """The process ids of its children."""
        tasks = Path(f"/proc/{self.pid}/task")
        return {int(pid) for task in tasks.iterdir() for pid in (task / "children").read_text().split()}


def is_alive(pid: int) -> bool:
    """Whether there is a process of that id, zombies not counted."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


@contextmanager
def started(
    command: Sequence[str], env: Mapping[str, str], log: Path, cwd: Path = ROOT, *, forked: bool = True
) -> Iterator[ChildProcess]:
    """Start a program without a terminal; whatever is left of it when the block ends is killed."""
    with log.open("ab") as out, Path(os.devnull).open("rb") as nothing:
        process = launch(command, env, cwd, nothing.fileno(), out.fileno(), out.fileno(), forked=forked)
    child = ChildProcess(process, log)
    try:
        yield child
    finally:
        offspring = child.children() if child.running else set()
        child.kill()
        for pid in offspring:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


@asynccontextmanager
async def worker_process(client: Client, settings: Settings, log: Path, **env: str) -> AsyncIterator[ChildProcess]:
    """A worker in a process of its own that polls already; it is killed when the block ends."""
    command = [sys.executable, str(ROOT / "worker.py")]
    with started(command, environment(address_of(client), settings, **env), log) as worker:
        identity = identity_of(worker)

        async def look() -> bool:
            assert worker.running, f"the worker has ended: {worker.output}"
            return identity in await pollers(client, settings.task_queue)

        await until(look, what=f"the worker to poll: {worker.output}")
        yield worker


def identity_of(worker: ChildProcess) -> str:
    """The name under which histories show a worker."""
    return f"{worker.pid}@{socket.gethostname()}"


async def pollers(client: Client, task_queue: str) -> set[str]:
    """The identities of the workers that have polled for activities lately."""
    described = await client.workflow_service.describe_task_queue(
        DescribeTaskQueueRequest(
            namespace=client.namespace,
            task_queue=TaskQueue(name=task_queue),
            task_queue_type=TaskQueueType.TASK_QUEUE_TYPE_ACTIVITY,
        )
    )
    return {poller.identity for poller in described.pollers}


async def forget_dead_worker(client: Client, run: str) -> None:
    """Have the server give the run's next task to any worker at once, as it does by itself after ten seconds."""
    await client.workflow_service.reset_sticky_task_queue(
        ResetStickyTaskQueueRequest(namespace=client.namespace, execution=WorkflowExecution(workflow_id=run))
    )


class DevServer:
    """A Temporal server whose state is a file; the process may be killed and started again.

    The SDK's own way to start one gives up after five seconds, which a busy machine may take.

    Args:
        directory: where its file and its log are.
        dynamic: settings of its dynamic configuration.
        ui_port: the port of its web UI; `None` for a server without one.
        in_memory: whether its state goes with its process instead, for speed.
    """

    def __init__(
        self,
        directory: Path,
        dynamic: Mapping[str, int] | None = None,
        ui_port: int | None = None,
        *,
        in_memory: bool = False,
    ):
        self._in_memory = in_memory
        self.address = f"127.0.0.1:{free_port()}"
        self._ui = ["--headless"] if ui_port is None else ["--ui-port", str(ui_port)]
        self._directory = directory
        self._dynamic = [f"{name}={value}" for name, value in (dynamic or {}).items()]

    @asynccontextmanager
    async def up(self) -> AsyncIterator[tuple[Client, ChildProcess]]:
        """Start it and connect to it; it is killed when the block ends."""
        port = self.address.rpartition(":")[2]
        command = [temporal_binary(), "server", "start-dev", *self._ui, "--ip", "127.0.0.1", "--port", port]
        command += ["--log-level", "error"]
        if not self._in_memory:
            command += ["--db-filename", str(self._directory / "temporal.db")]
            for pragma in PRAGMAS:
                command += ["--sqlite-pragma", pragma]
        for setting in self._dynamic:
            command += ["--dynamic-config-value", setting]
        with started(command, os.environ, self._directory / "server.log") as server:
            clients: list[Client] = []

            async def look() -> bool:
                assert server.running, f"the server has ended: {server.output}"
                with suppress(RuntimeError, RPCError):
                    client = await Client.connect(self.address)
                    await pollers(client, "any")
                    clients.append(client)
                return bool(clients)

            await until(look, what=f"the server to answer: {server.output}")
            yield clients[0], server


async def time_skipping() -> WorkflowEnvironment:
    """A server that skips the time in which nothing happens, started as often as a busy machine takes."""
    path = str(Path(sysconfig.get_path("scripts"), "temporal-test-server"))

    async def look() -> WorkflowEnvironment | None:
        with suppress(RuntimeError):
            return await WorkflowEnvironment.start_time_skipping(test_server_existing_path=path)
        return None

    return await until(look, what="the time-skipping server to start")


class Terminal(ChildProcess):
    """A program on a terminal of its own, as a person would have it."""

    def __init__(self, process: subprocess.Popen[bytes] | Forked, log: Path, master: int):
        super().__init__(process, log)
        self._master = master
        log.touch()
        self._copying = threading.Thread(target=self._copy, args=(log,), daemon=True)
        self._copying.start()

    async def ends(self, patience: float = PATIENCE) -> int:
        """Wait until the program has ended, and all that it printed has arrived; gives its exit status."""
        status = await super().ends(patience)
        await self.arrived()
        return status

    async def arrived(self) -> None:
        """Wait until the terminal is read to its end, or long enough: a process that was left may still have it."""
        await asyncio.to_thread(self._copying.join, 10)

    def _copy(self, log: Path) -> None:
        with suppress(OSError), log.open("ab", buffering=0) as out:
            while data := os.read(self._master, 65_536):
                out.write(data)

    def type(self, text: str) -> None:
        """Type a text."""
        os.write(self._master, text.encode())


@contextmanager
def on_terminal(command: Sequence[str], env: Mapping[str, str], log: Path, cwd: Path = ROOT) -> Iterator[Terminal]:
    """Start a program on a new terminal; whatever is left of it when the block ends is killed."""
    master, slave = pty.openpty()
    process = launch(command, env, cwd, slave, slave, slave)
    os.close(slave)
    terminal = Terminal(process, log, master)
    try:
        yield terminal
    finally:
        offspring = terminal.children() if terminal.running else set()
        terminal.kill()
        for pid in offspring:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
