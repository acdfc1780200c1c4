"""The guarantees under hooks, tools and providers that do what ordinary ones rarely do."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from temporalio.client import Client

from abeyance.settings import Settings
from tests.chaos.workers import Nursery
from tests.conftest import Start
from tests.journal_agents import counted
from tests.processes import address_of
from tests.support import StartedRun, World, short
from tests.test_crash import dead

pytestmark = pytest.mark.processes


@pytest.fixture
def queue(client: Client, workspace: Path) -> World:
    return World(client, Settings(task_queue=f"queue-{uuid.uuid4().hex[:8]}", workspace=workspace))


@pytest.fixture
def nursery(client: Client, workspace: Path) -> Iterator[Nursery]:
    with Nursery(address_of(client), workspace, heartbeat=short(), agents=["tests.hostile_agents"]) as workers:
        yield workers


async def killed_in_pay(queue: World, nursery: Nursery, agent: str, **more: Any) -> StartedRun:
    """Start a run, answer "t" or "y" to what it asks first, and have its worker die while it pays."""
    (queue.workspace / "die-1").touch()
    doomed = nursery.fork(queue.settings.task_queue)
    run = await queue.start(agent, "go", **more)
    if agent in ("rewrites", "sub-agent"):
        status = await run.reaches("waiting")
        response = "t" if agent == "rewrites" else "y"
        answers = [{"approval": approval.number, "response": response} for approval in status.approvals]
        await run.handle.signal("respond", answers)
    await dead(nursery, doomed)
    nursery.fork(queue.settings.task_queue)
    return run


@pytest.mark.parametrize("agent", ["another-tool", "rewrites", "sub-agent", "skips-and-retries"])
async def test_a_call_in_doubt_is_asked_about_and_skip_is_final(agent: str, queue: World, nursery: Nursery) -> None:
    """Whatever hooks do: it is not paid twice, and `skip` means that it is not paid again."""
    run = await killed_in_pay(queue, nursery, agent)
    status = await run.reaches("waiting", approvals=1)
    assert status.approvals[0].name == "in-doubt"
    assert status.approvals[0].tool is not None
    await run.handle.signal("respond", {"approval": status.approvals[0].number, "response": "skip"})
    await run.result()
    assert counted(queue.workspace, run.id)["pay start"] == 1


async def test_a_hooks_retry_survives_a_crash(queue: World, nursery: Nursery) -> None:
    """The failed result is in the journal; the hook that wants another try after the crash gets one, not a loop."""
    (queue.workspace / "die-1").touch()
    doomed = nursery.fork(queue.settings.task_queue)
    run = await queue.start("flaky", "go")
    await dead(nursery, doomed)
    nursery.fork(queue.settings.task_queue)
    await run.result()
    assert counted(queue.workspace, run.id)["flaky start"] == 2


@pytest.mark.parametrize("data", ["aGVsbG8=", "abc", 5])
async def test_what_was_shown_is_what_runs(data: Any, start_world: Start) -> None:
    """An input that only looks like encoded bytes reaches the tool as it was approved."""
    async with start_world() as world:
        run = await world.start("looks-like-bytes", "go", options={"data": data})
        status = await run.reaches("waiting", approvals=1)
        assert str(data) in str(status.approvals[0].input)
        await run.handle.signal("approve")
        await run.result()
        document = {"__bytes_encoded__": True, "data": data}
        assert counted(world.workspace, run.id)[f"put {document!r}"] == 1


async def test_a_failure_that_cannot_be_encoded_parks_the_run(start_world: Start) -> None:
    async with start_world() as world:
        run = await world.start("half-a-character", "go")
        status = await run.reaches("parked")
        assert "bad ? name" in (status.problem or "")


async def test_what_cannot_be_carried_over_cannot_be_retried(start_world: Start) -> None:
    """A retry from the beginning would pay twice: only `abort` is left, and the run says so."""
    async with start_world() as world:
        run = await world.start("large-after-pay", "go")
        status = await run.reaches("parked")
        assert "only be aborted" in (status.problem or "")
        await run.handle.signal("retry")
        await run.refuses(1)
        assert (await run.status()).state == "parked"
        assert counted(world.workspace, run.id)["pay start"] == 1
        await run.handle.signal("abort")


async def test_idempotency_keys_never_repeat(start_world: Start) -> None:
    """Not even where the provider repeats its ids and the conversation has forgotten them."""
    async with start_world() as world:
        run = await world.start("forgets-ids", "go")
        await run.result()
        keys = {key: times for key, times in counted(world.workspace, run.id).items() if key.startswith("key")}
        assert sorted(keys.values()) == [1, 1, 1, 1]


async def test_a_sub_agent_that_would_lose_its_answers_is_refused(start_world: Start) -> None:
    async with start_world() as world:
        run = await world.start("sub-agent", "go", options={"preserve": 1})
        assert "preserve_context" in ((await run.reaches("parked")).problem or "")


async def test_background_tasks_are_refused(start_world: Start) -> None:
    async with start_world() as world:
        run = await world.start("in-background", "go")
        assert "brings background tasks" in ((await run.reaches("parked")).problem or "")


async def test_trust_does_not_reach_a_denied_neighbour_through_a_crash(queue: World, nursery: Nursery) -> None:
    """The journal carries the trust to the next worker, and the denied call is denied there too."""
    (queue.workspace / "die-1").touch()
    doomed = nursery.fork(queue.settings.task_queue)
    run = await queue.start("trusts-and-dies", "go")
    status = await run.reaches("waiting", approvals=2)
    answers = [{"approval": a.number, "response": "t" if a.tool == "pay" else "n"} for a in status.approvals]
    await run.handle.signal("respond", answers)
    await dead(nursery, doomed)
    nursery.fork(queue.settings.task_queue)
    doubt = (await run.reaches("waiting", approvals=1)).approvals[0]
    assert (doubt.name, doubt.tool) == ("in-doubt", "pay")
    assert counted(queue.workspace, run.id)["tip given"] == 0
    await run.handle.signal("respond", {"approval": doubt.number, "response": "skip"})
    await run.result()
    effects = counted(queue.workspace, run.id)
    assert (effects["pay start"], effects["tip given"]) == (1, 1)


async def test_nobody_is_told_that_a_call_in_doubt_was_not_run(queue: World, nursery: Nursery) -> None:
    """Its answer was no plain yes and is not asked for any more, but by then it was running."""
    (queue.workspace / "die-1").touch()
    doomed = nursery.fork(queue.settings.task_queue)
    run = await queue.start("stops-asking", "go")
    await run.reaches("waiting", approvals=1)
    await run.handle.signal("respond", "as you like")
    await dead(nursery, doomed)
    (queue.workspace / "relaxed").touch()
    nursery.fork(queue.settings.task_queue)
    assert (await run.reaches("waiting", approvals=1)).approvals[0].name == "in-doubt"
    await run.handle.signal("respond", {"approval": 2, "response": "skip"})
    await run.result()


async def test_structured_output_is_in_the_result(start_world: Start) -> None:
    async with start_world() as world:
        run = await world.start("structured", "go")
        assert (await run.result()).structured_output == {"ok": True, "why": "because"}
