"""Processes that are measured: a Temporal dev server in memory, and workers."""

from __future__ import annotations

import os
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from temporalio.client import Client
from temporalio.service import RPCError

from abeyance.attributes import register
from abeyance.devserver import temporal_binary
from tests.processes import ChildProcess, free_port, identity_of, pollers, started
from tests.support import ROOT, until

TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Server:
    """A Temporal server, and a client that is connected to it."""

    client: Client
    address: str
    process: ChildProcess


UNHURRIED = ("--dynamic-config-value", "history.transferProcessorMaxPollRPS=2000")
"""A dev server has one shard, whose queue of tasks is read 20 times a second at most: one run at a time waits 50 ms for
most of its workflow tasks, whoever wrote it. A cluster has hundreds of shards and shows nothing of this."""


@asynccontextmanager
async def server(directory: Path, *, unhurried: bool = False) -> AsyncIterator[Server]:
    """Start a dev server in memory, with the search attributes registered as `up` does; end it with the block.

    Args:
        directory: for its log.
        unhurried: whether to lift the limit that is told of at `UNHURRIED`.
    """
    port = str(free_port())
    address = f"127.0.0.1:{port}"
    command = [temporal_binary(), "server", "start-dev", "--headless", "--ip", "127.0.0.1", "--port", port]
    command += ["--log-level", "never", *(UNHURRIED if unhurried else ())]
    with started(command, os.environ, directory / f"server-{port}.log") as process:

        async def look() -> Client | None:
            assert process.running, f"the server has ended: {process.output}"
            with suppress(RuntimeError, RPCError):
                client = await Client.connect(address)
                await pollers(client, "any")
                return client
            return None

        client = await until(look, what="the server to answer")
        assert (await register(client)).complete
        yield Server(client, address, process)


def plain_environment(address: str) -> dict[str, str]:
    """The environment of this process, with nothing of Temporal's and of Abeyance's set but the server's address."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("ABEYANCE_", "TEMPORAL_"))}
    return kept | {"TEMPORAL_ADDRESS": address, "PYTHONPATH": str(ROOT)}


@asynccontextmanager
async def worker(
    server: Server, queue: str, command: Sequence[str], environment: Mapping[str, str], log: Path
) -> AsyncIterator[ChildProcess]:
    """Start a worker and wait until it polls; end it with the block."""
    with started(command, environment, log, forked=False) as process:
        identity = identity_of(process)

        async def look() -> bool:
            assert process.running, f"the worker has ended: {process.output}"
            return identity in await pollers(server.client, queue)

        await until(look, what=f"the worker {' '.join(command)} to poll: {process.output}")
        yield process


def unique(prefix: str) -> str:
    """A name that nothing else has."""
    return f"{prefix}-{uuid.uuid4().hex[:10]}"


def resident_mb(pid: int) -> float:
    """The resident memory of a process, in MB."""
    status = Path(f"/proc/{pid}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) * 1024 / 1e6


def cpu_seconds(pid: int) -> float:
    """The seconds of CPU that a process has used so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS
