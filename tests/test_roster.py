"""What workers say of themselves: `agents` lists it, and `start` refuses what none of them has."""

from __future__ import annotations

import re
import uuid
from dataclasses import replace
from pathlib import Path

import pytest
from temporalio.client import Client

from abeyance.roster import serving
from abeyance.settings import Settings
from tests.command_line import Cli
from tests.conftest import Start
from tests.processes import address_of, environment, worker_process
from tests.support import until


@pytest.fixture
def settings(workspace: Path) -> Settings:
    return Settings(task_queue=f"queue-{uuid.uuid4().hex[:8]}", workspace=workspace)


@pytest.fixture
def cli(client: Client, settings: Settings) -> Cli:
    return Cli(environment(address_of(client), settings))


async def test_workers_tell_what_they_have(
    cli: Cli, client: Client, settings: Settings, start_world: Start, tmp_path: Path
) -> None:
    cli.env = cli.bare | {"ABEYANCE_AGENTS": "agents.smart_delete,agents.file_manager"}
    before = {found["agent"]: found["workers"] for found in await cli.json("agents")}
    assert not before["file-manager"]
    async with worker_process(client, settings, tmp_path / "w.log", ABEYANCE_AGENTS="agents.file_manager") as worker:

        async def told() -> bool:
            return bool(await serving(client, settings.task_queue))

        await until(told, what="the worker to tell its agents")
        found = {found["agent"]: found["workers"] for found in await cli.json("agents")}
        assert [identity.split("@")[0] for identity in found["file-manager"]] == [str(worker.pid)]
        assert found["smart-delete"] == []
        listed = await cli("agents")
        assert re.search(r"file-manager +1 ", listed.stdout)
        assert settings.task_queue in listed.stderr

        run = f"roster-{uuid.uuid4().hex[:8]}"
        refused = await cli("start", "file-manger", "x", "--id", run, status=2)
        assert "no worker of task queue" in refused.stderr
        assert "Did you mean 'file-manager'?" in refused.stderr
        assert "no run" in (await cli("show", run, status=3)).stderr
        await cli("start", "file-manager", "x", "--id", run)

        # Another worker, which has not said yet what it has, may have it.
        async with start_world(task_queue=settings.task_queue):
            await cli("start", "counted", "go", "--id", f"{run}-2")


@pytest.mark.long
async def test_another_queues_workers_do_not_count(client: Client, settings: Settings, tmp_path: Path) -> None:
    async with worker_process(client, settings, tmp_path / "w.log"):

        async def told() -> bool:
            return bool(await serving(client, settings.task_queue))

        await until(told, what="the worker to tell its agents")
        assert await serving(client, replace(settings, task_queue="another").task_queue) == []
