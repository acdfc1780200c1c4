"""Conversations that are cut, summarised and edited are those of an ordinary agent that was told the same."""

from __future__ import annotations

from typing import Any

import pytest
from temporalio.client import Client, WorkflowHistory
from temporalio.worker import Replayer

from abeyance import AgentContext
from abeyance.contracts import RunResult
from abeyance.converter import data_converter
from abeyance.places import Place
from abeyance.sessions import Sessions
from abeyance.settings import Settings
from activities.conversations import Conversations
from tests.conftest import Start
from tests.session_agents import Clerk, managed
from tests.support import StartedRun, a_key, noise, until, with_converter
from tests.test_carried import grow, latest
from tests.test_growing import executions, impatient, listening, noted  # noqa: F401 - a fixture
from tests.test_sessions_runs import begin, name, place  # noqa: F401 - fixtures
from workflows.agent_run import AgentRun

pytestmark = pytest.mark.long

PROMPTS = [f"note {n}" if n % 3 else f"hello {n}" for n in range(12)]


def said(messages: list[Any]) -> list[tuple[str, Any]]:
    return [(message["role"], message["content"]) for message in messages]


@pytest.mark.parametrize("worker", ["that has it", "that reads it"])
@pytest.mark.parametrize("manager", ["sliding", "summarizing", "editing"])
async def test_a_run_remembers_what_an_ordinary_agent_does(
    manager: str,
    worker: str,
    impatient: Client,  # noqa: F811
    start_world: Start,
    place: Place,  # noqa: F811
    name: str,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Message by message, and its state, through turns and executions."""
    if worker == "that reads it":
        monkeypatch.setattr(Conversations, "keep", lambda *_: None)
    options = {"manager": manager}
    async with start_world(impatient, sessions=place) as world:
        run = latest(await begin(world, name, PROMPTS[0], "managed", options=options, interactive=True))
        await listening(run, 1)
        for turn, prompt in enumerate(PROMPTS[1:], 2):
            await run.handle.signal("say", prompt)
            await listening(run, turn)
        await run.handle.signal("finish")
        await run.result()
        assert len(await executions(impatient, run)) > 2
        ordinary = managed(AgentContext(Clerk(), "ordinary", None, options, world.workspace))
        for prompt in PROMPTS:
            await ordinary.invoke_async(prompt)
        stored = await Sessions(place).load(name, "managed")
        assert stored
        assert said(stored.messages) == said(ordinary.messages)
        assert repr(stored.state) == repr(ordinary.state.get())
        managed_state = stored.snapshot["data"]["conversation_manager_state"]
        assert managed_state["removed_message_count"] == ordinary.conversation_manager.removed_message_count


async def test_workers_of_which_each_knows_something_else(
    impatient: Client,  # noqa: F811
    start_world: Start,
    place: Place,  # noqa: F811
) -> None:
    """New keys, old keys, a storage: a turn waits for a worker that can read it, and nothing parks the run."""
    old, new = a_key("old"), a_key("new")
    both = with_converter(impatient, Settings(keys=f"{new},{old}", storage=place))
    async with start_world(impatient, keys=old, storage=place) as world:
        run = latest(await world.start("clerk", "big 500000", interactive=True))
        await listening(run, 1)
        await run.handle.signal("say", "note 2")
        await listening(run, 2)
    queue = world.settings.task_queue
    run = StartedRun(both.get_workflow_handle(run.id, result_type=RunResult))
    async with start_world(impatient, keys=f"{new},{old}", storage=place, task_queue=queue):
        await run.handle.signal("say", "note 3")
        await listening(run, 3)
        await grow(run)
        await run.handle.signal("say", "note 4")
        await listening(run, 4)
    async with start_world(impatient, keys=new, storage=place, task_queue=queue):
        # All of the new execution is under the new key.
        await run.handle.signal("say", "note 5")
        status = await listening(run, 5)
        assert status.message == "Done, after 19 messages."
        await run.handle.signal("say", "ask 6")
        await run.reaches("waiting", approvals=1)
    async with start_world(impatient, keys=f"{new},{old}", storage=place, task_queue=queue):
        await run.handle.signal("deny")
        await listening(run, 7)
        await run.handle.signal("finish")
        await run.result()
        assert noted(world, run) == ["2", "3", "4", "5"]


@pytest.mark.parametrize("missing", ["key", "storage"])
async def test_a_conversation_that_a_worker_cannot_read_waits_for_one_that_can(
    missing: str,
    client: Client,
    place: Place,  # noqa: F811
) -> None:
    """The activity fails so that it is tried again, and says why."""
    from temporalio.exceptions import ApplicationError

    from worker import build_worker  # noqa: F401 - imports all that a worker does

    key = a_key("a")
    able = with_converter(client, Settings(keys=key, storage=place))
    lacking = with_converter(
        client, Settings(keys=key if missing == "storage" else "", storage=place if missing == "key" else None)
    )
    handle = await able.start_workflow(
        "AgentRun",
        {"agent": "clerk", "prompt": noise(800_000)},
        id=f"unread-{missing}-{key[-9:-2].encode().hex()}",
        task_queue="nobody",
    )
    with pytest.raises(ApplicationError) as told:
        await Conversations().find("x", lacking, handle.id, handle.first_execution_run_id or "")
    assert not told.value.non_retryable
    await handle.terminate()


@pytest.mark.parametrize(("agent", "options"), [("sub-agent", {}), ("structured", {})])
async def test_what_else_travels_to_the_next_execution(
    agent: str,
    options: dict[str, Any],
    impatient: Client,  # noqa: F811
    start_world: Start,
) -> None:
    async with start_world(impatient) as world:
        run = latest(await world.start(agent, "go", options=options, interactive=True))
        if agent == "structured":
            await listening(run, 1)
        else:
            await run.reaches("waiting", approvals=1)
        await grow(run)
        if agent == "structured":
            await run.handle.signal("finish")
            assert (await run.result()).structured_output == {"ok": True, "why": "because"}
            return
        before = await run.status()
        assert before.approvals[0].tool == "pay"
        await run.handle.signal("approve")
        while (await run.status()).state not in ("listening", "parked"):
            if (await run.status()).approvals:
                await run.handle.signal("approve", (await run.status()).approvals[0].number)
        assert (await run.status()).state == "listening"
        assert noted(world, run)


async def test_every_execution_replays(impatient: Client, start_world: Start) -> None:  # noqa: F811
    """With compression, as they were recorded; an open question, refusals, prompts and a budget among them."""
    async with start_world(impatient) as world:
        run = latest(await world.start("clerk", "ask 0", interactive=True, limits={"turns": 40}))
        for n in range(12):
            await run.reaches("waiting", approvals=1)
            await run.handle.signal("approve", 99)
            await run.handle.execute_update("say", f"ask {n + 1}")
            await run.handle.signal("approve", n + 1)
        await run.reaches("waiting", approvals=1)
        await run.handle.cancel()
        found = await until(lambda: _ended(impatient, run.id), what="the run to end")
        assert len(found) > 3
        replayer = Replayer(workflows=[AgentRun], data_converter=data_converter(Settings()))
        for run_id in found:
            history = await impatient.get_workflow_handle(run.id, run_id=run_id).fetch_history()
            await replayer.replay_workflow(WorkflowHistory(run.id, history.events))


async def _ended(client: Client, run: str) -> list[str] | None:
    found = [e async for e in client.list_workflows(f"WorkflowId = '{run}'")]
    return [e.run_id for e in found] if found and all(e.close_time for e in found) else None
