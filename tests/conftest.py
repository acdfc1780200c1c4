"""A real Temporal server for the whole session, and a worker per test that wants one."""

from __future__ import annotations

import os
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import boto3
import hypothesis
import pytest
from moto.server import ThreadedMotoServer
from temporalio.client import Client
from temporalio.runtime import Runtime, TelemetryConfig

from abeyance.attributes import register
from abeyance.places import Place
from abeyance.registry import load_agents
from abeyance.settings import Settings
from tests.processes import DevServer
from tests.support import PATIENCE, World, with_converter
from worker import build_worker, collect_less_garbage

TEST_AGENTS = (
    "agents",
    "tests.agents",
    "tests.decision_agents",
    "tests.foreign_agents",
    "tests.exit_agents",
    "tests.hostile_agents",
    "tests.input_agents",
    "tests.journal_agents",
    "tests.mcp_agents",
    "tests.once_agents",
    "tests.session_agents",
    "tests.shared_agents",
)

# How long an example takes says nothing but how busy the machine is.
hypothesis.settings.register_profile(
    "any machine", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("any machine")

# A worker of this process tells nobody which agents it has, or `start` would refuse the odd ones in time.
Runtime.set_default(Runtime(telemetry=TelemetryConfig(), worker_heartbeat_interval=None))

# No test may reach a real model or a real account, whatever the machine's environment holds.
for name in [name for name in os.environ if name.startswith(("ABEYANCE_", "TEMPORAL_", "AWS_"))]:
    del os.environ[name]


def pytest_collection_finish() -> None:
    """Tests run workers in this process, which are to be as quick as those of `worker.py`."""
    collect_less_garbage()


@pytest.fixture(scope="session")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Client]:
    """A Temporal dev server in memory, with the search attributes registered as `up` does."""
    # One partition for each task queue: these are many, and each is small.
    partitions = {f"matching.numTaskqueue{way}Partitions": 1 for way in ("Read", "Write")}
    async with DevServer(tmp_path_factory.mktemp("server"), partitions, in_memory=True).up() as (connected, _):
        assert (await register(connected)).complete
        yield connected


@pytest.fixture
def client(server: Client) -> Client:
    return server


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """A workspace with four small files."""
    root = tmp_path / "workspace"
    root.mkdir()
    for name in ("a.txt", "b.txt", "c.txt", "d.txt"):
        (root / name).write_text(f"This is {name}.\n")
    return root


Start = Callable[..., AbstractAsyncContextManager[World]]


@pytest.fixture
def start_world(client: Client, workspace: Path) -> Start:
    """Starts a worker on a task queue of its own: `async with start_world(model=..., max_cached_workflows=0) as world`.

    Keyword arguments that are fields of `Settings` become settings; the others go to the Temporal worker.
    """

    @asynccontextmanager
    async def start(connected: Client | None = None, **more: Any) -> AsyncIterator[World]:
        fields = {name: more.pop(name) for name in list(more) if name in Settings.__dataclass_fields__}
        queue = f"queue-{uuid.uuid4().hex[:8]}"
        given: dict[str, Any] = {
            "task_queue": queue,
            "workspace": workspace,
            # Long, since it is the machine's fault if a worker of this process comes late to its heartbeats.
            "heartbeat_timeout": 30,
            "shutdown_grace": 1,
        } | fields
        settings = Settings(**given)
        used = with_converter(connected or client, settings)
        # What no worker knows is to be parked at once.
        more.setdefault("patience", timedelta(0))
        worker = build_worker(used, settings, load_agents(TEST_AGENTS), **more)
        assert worker._workflow_worker
        # The SDK cannot always let go of what it has interrupted, and a crowded machine may take this long.
        worker._workflow_worker._deadlock_timeout_seconds = int(PATIENCE)
        async with worker:
            yield World(used, settings)

    return start


@pytest.fixture(params=[None, 0], ids=["cached", "replayed"])
async def world(request: pytest.FixtureRequest, start_world: Start) -> AsyncIterator[World]:
    """A worker, once with its cache and once without: then every workflow task is also a replay."""
    more = {} if request.param is None else {"max_cached_workflows": request.param}
    async with start_world(**more) as started:
        yield started


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def s3_place(s3_server: str, monkeypatch: pytest.MonkeyPatch) -> Place:
    """A new bucket on an S3 server of this machine."""
    for name, value in {
        "AWS_ENDPOINT_URL": s3_server,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test-secret",
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    bucket = f"bucket-{uuid.uuid4().hex[:8]}"
    boto3.client("s3").create_bucket(Bucket=bucket)
    return Place(bucket=bucket, prefix="some/where")


@pytest.fixture(params=["directory", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    if request.param == "directory":
        return Place(tmp_path / "storage")
    found: Place = request.getfixturevalue("s3_place")
    return found
