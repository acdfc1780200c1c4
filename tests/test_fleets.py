"""Workers that do not all have the same agents, as in any rolling deployment."""

from __future__ import annotations

import uuid
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path

import pytest
from temporalio.client import Client

from abeyance.settings import Settings
from tests.conftest import Start
from tests.processes import address_of, worker_process
from tests.support import World, until


@pytest.mark.long
@pytest.mark.processes
async def test_a_turn_goes_to_the_worker_that_has_its_agent(client: Client, workspace: Path, tmp_path: Path) -> None:
    """Half of them are offered to the worker that lacks it first; none is parked, and nobody has to send `retry`."""
    settings = Settings(task_queue=f"queue-{uuid.uuid4().hex[:8]}", workspace=workspace, heartbeat_timeout=5)
    world = World(client, settings)
    async with AsyncExitStack() as stack:
        lacking = await stack.enter_async_context(
            worker_process(client, settings, tmp_path / "lacking.log", ABEYANCE_AGENTS="agents")
        )
        runs = [await world.start("elsewhere", "go") for _ in range(2)]
        await lacking.says("Unknown agent 'elsewhere'")
        await stack.enter_async_context(
            worker_process(client, settings, tmp_path / "other.log", ABEYANCE_AGENTS="tests.poison_agents")
        )
        runs += [await world.start("elsewhere", "go") for _ in range(8)]
        results = [await run.result() for run in runs]
        asked = {note.work.failure for result in results for note in result.turn_notes}
    assert all(len(result.turn_notes) == 1 for result in results)
    assert all((workspace / f"ran-{run.id}").exists() for run in runs)
    assert any("Unknown agent 'elsewhere'" in str(failure) for failure in asked)


async def test_an_agent_that_nobody_has_parks_the_run(client: Client, start_world: Start) -> None:
    """After a while, with words that name the workers that were asked."""
    another = await Client.connect(address_of(client))
    async with (
        start_world(patience=timedelta(seconds=1.5), identity="one") as world,
        start_world(another, task_queue=world.settings.task_queue, patience=timedelta(seconds=1.5), identity="two"),
    ):
        run = await world.start("nobody-has-it", "go")
        status = await run.reaches("parked")
        problem = status.problem or ""
        assert problem.startswith("Unknown agent 'nobody-has-it'. This worker knows: ")
        asked = problem.partition("Asked for ")[2]
        assert "one" in asked or "two" in asked
        assert int(asked.partition("with ")[2].split()[0]) > 1
        await run.handle.signal("retry")

        async def again() -> bool:
            now = await run.status()
            return now.state == "parked" and len(now.turn_notes) == 2

        await until(again, what="it to be parked once more")
        assert not (await run.status()).refused
