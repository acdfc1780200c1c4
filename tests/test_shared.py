"""What outlives a turn: an agent that another turn has had is refused, and so is a hook once it has changed."""

from __future__ import annotations

import asyncio
import gc
import uuid
import weakref
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from temporalio.client import Client

from abeyance.settings import Settings
from activities.shared_objects import _seen
from tests import shared_agents
from tests.conftest import Start
from tests.journal_agents import counted
from tests.processes import worker_process
from tests.support import StartedRun, World

OWN = ["agent", "sub-agent", "sub-sub-agent", "wrapper", "agent-in-tool", "agent-in-object", "agent-in-module"]
OWN += ["vended-subagent", "vended-swarm", "state", "manager"]
CHANGING = ["trust", "names", "closure", "trusting-intervention", "trusting-plugin"]
CONSTANT = ["constant", "intervention", "nothing"]


@pytest.fixture
async def place(start_world: Start) -> AsyncIterator[World]:
    async with start_world() as world:
        yield world


async def started(place: World, what: str, name: str) -> StartedRun:
    return await place.start("keeps", "go", options={"what": what, "name": name})


async def refused(run: StartedRun) -> None:
    problem = (await run.reaches("parked")).problem or ""
    assert "factory of agent 'keeps' (tests.shared_agents.keeps)" in problem
    assert "new ones for every turn" in problem
    await run.handle.signal("abort")


async def test_what_holds_a_conversation_is_refused_to_a_second_turn(place: World) -> None:
    async def check(what: str) -> None:
        name = f"{what} {uuid.uuid4().hex}"
        first = await started(place, what, name)
        await first.reaches("waiting", approvals=1)
        other = await started(place, what, name)
        await refused(other)
        await first.handle.signal("approve")
        await refused(first)
        assert counted(place.workspace, first.id)["pay start"] == 0
        assert counted(place.workspace, other.id)["pay start"] == 0

    await asyncio.gather(*map(check, OWN))


@pytest.mark.processes
async def test_what_a_module_has_made_is_refused_to_the_first_turn(
    client: Client, workspace: Path, tmp_path: Path
) -> None:
    """It would be refused to the second all the same, which may be a day later."""
    settings = Settings(task_queue=f"queue-{uuid.uuid4().hex[:8]}", workspace=workspace)
    async with worker_process(client, settings, tmp_path / "log", ABEYANCE_AGENTS="tests.shared_agents"):
        run = await started(World(client, settings), "early", "early")
        await refused(run)


async def test_a_hook_that_has_changed_is_refused(place: World) -> None:
    """Trust that was given in one run lets no other run pay."""

    async def check(what: str) -> None:
        name = f"{what} {uuid.uuid4().hex}"
        first, beside = await started(place, what, name), await started(place, what, name)
        for run in (first, beside):
            await run.reaches("waiting", approvals=1)
        await first.handle.signal("respond", {"approval": 1, "response": "t"})
        await refused(first)
        await beside.handle.signal("approve")
        await refused(beside)
        later = await started(place, what, name)
        await refused(later)
        for run in (first, beside, later):
            assert counted(place.workspace, run.id)["pay start"] == 0, what

    await asyncio.gather(*map(check, CHANGING))


async def test_what_holds_nothing_of_a_turn_may_be_shared(place: World) -> None:
    async def check(what: str) -> None:
        name = f"{what} {uuid.uuid4().hex}"
        runs = await asyncio.gather(*(started(place, what, name) for _ in range(10)))
        for run in runs:
            await run.reaches("waiting", approvals=1)
            await run.handle.signal("approve")
        for run in runs:
            assert (await run.result()).message == "Done."

    await asyncio.gather(*map(check, CONSTANT))


async def test_nothing_is_kept_alive(place: World) -> None:
    name = uuid.uuid4().hex
    run = await started(place, "trust", name)
    await run.reaches("waiting")
    hook = weakref.ref(shared_agents.KEPT.pop(name))
    await run.handle.signal("deny")
    await run.result()
    gc.collect()
    assert hook() is None
    assert all(seen.reference() is not None for seen in list(_seen.values()))
