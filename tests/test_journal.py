"""The journal from outside: what a turn does once, what it does again, and how it ends early."""

from __future__ import annotations

import asyncio
import sys
import threading
from datetime import timedelta
from typing import Any

import pytest
from strands import Agent
from strands.types.content import Message
from temporalio.api.enums.v1 import EventType
from temporalio.client import WorkflowFailureError

from abeyance import ScriptedModel
from abeyance.contracts import RunResult
from activities import invocation
from activities.journal import Journal
from tests.conftest import Start
from tests.journal_agents import GATES, counted
from tests.support import PATIENCE, StartedRun, World, short, until


async def activities(run: StartedRun) -> list[Any]:
    """The attributes of the run's ActivityTaskStarted events."""
    events = (await run.handle.fetch_history()).events
    wanted = EventType.EVENT_TYPE_ACTIVITY_TASK_STARTED
    return [e.activity_task_started_event_attributes for e in events if e.event_type == wanted]


async def test_forty_tool_calls_are_one_activity(start_world: Start) -> None:
    """However many model and tool calls a turn makes, the history holds one activity."""
    async with start_world() as world:
        run = await world.start("forty-steps", "go")
        result = await run.result()
        assert len(await activities(run)) == 1
        assert counted(world.workspace, run.id) == {
            **{f"step {n}": 1 for n in range(1, 40)},
            **{f"model {n}": 1 for n in range(40)},
        }
        assert result.usage.model_calls == 40


async def test_repeated_tool_use_ids_are_told_apart(world: World) -> None:
    """Two calls under one id are two questions, and each answer reaches its own call; keys never repeat."""
    run = await world.start("same-ids", "go")
    status = await run.reaches("waiting", approvals=2)
    assert [approval.input for approval in status.approvals] == [{"n": 1}, {"n": 2}]
    await run.handle.signal("deny", 1)
    await run.handle.signal("approve", 2)
    await run.reaches("waiting", approvals=1)
    await run.handle.signal("approve", 3)
    await run.result()
    steps = [key for key in counted(world.workspace, run.id) if key.startswith("step")]
    assert steps == [
        f"step 2 {run.handle.first_execution_run_id}/call_1_2 1",
        f"step 3 {run.handle.first_execution_run_id}/call_1_3 1",
    ]


async def test_a_parked_turn_goes_on_from_what_it_had_done(world: World) -> None:
    """The model fails after an approved tool ran: `retry` does not run the tool again."""
    (world.workspace / "broken").touch()
    run = await world.start("fails-late", "go")
    await run.reaches("waiting", approvals=1)
    await run.handle.signal("approve")
    status = await run.reaches("parked")
    assert "refuses this conversation" in (status.problem or "")
    await run.handle.signal("retry", {"by": "ann"})
    await run.handle.signal("retry")
    await run.reaches("parked")
    (world.workspace / "broken").unlink()
    await run.handle.signal("retry")
    result = await run.result()
    assert result.message == "Done."
    assert counted(world.workspace, run.id) == {"model 0": 1, "model 1": 1, "step 1": 1}
    assert next((d.response, d.by) for d in result.decisions if d.via == "signal retry" and not d.refused) == (
        "retry",
        "ann",
    )


async def test_a_parked_run_can_be_aborted(start_world: Start) -> None:
    async with start_world() as world:
        (world.workspace / "broken").touch()
        run = await world.start("fails-late", "go")
        await run.reaches("waiting", approvals=1)
        await run.handle.signal("approve")
        await run.reaches("parked")
        await run.handle.signal("abort")
        with pytest.raises(WorkflowFailureError) as failed:
            await run.result()
        assert "refuses this conversation" in str(failed.value.cause)


@pytest.mark.parametrize(
    ("limits", "reason", "calls"),
    [
        ({"turns": 3}, "limit_turns", 3),
        ({"total_tokens": 1}, "limit_total_tokens", 1),
        ({"output_tokens": 1}, "limit_output_tokens", 1),
    ],
)
async def test_budgets_end_the_run(limits: dict[str, int], reason: str, calls: int, start_world: Start) -> None:
    """The run ends before the model call that would be one too many, and says which budget was spent."""
    async with start_world() as world:
        run = await world.start("forty-steps", "go", limits=limits)
        result = await run.result()
        assert result.stop_reason == reason
        assert result.usage.model_calls == calls
        assert sum(key.startswith("model") for key in counted(world.workspace, run.id)) == calls


async def test_a_budget_holds_across_turns(start_world: Start) -> None:
    """Model calls before an approval count after it."""
    async with start_world() as world:
        run = await world.start("same-ids", "go", limits={"turns": 2})
        await run.reaches("waiting", approvals=2)
        await run.handle.signal("approve", [1, 2])
        await run.reaches("waiting", approvals=1)
        await run.handle.signal("approve", 3)
        result = await run.result()
        assert (result.stop_reason, result.usage.model_calls) == ("limit_turns", 2)


async def test_a_stopping_worker_hands_its_turn_over(start_world: Start) -> None:
    """The tool that is at work ends within the grace; then another worker goes on, and no attempt has failed."""
    async with start_world(shutdown_grace=30, max_cached_workflows=0) as world:
        run = await world.start("waits-in-tool", "go")
        await until(lambda: _seen(world, run, "wait started"), what="the tool to start")
        queue = world.settings.task_queue
        gate = GATES[run.id]
        # Leaving the block stops the worker, which waits for the turn; the gate opens while it does so.
        threading.Timer(0.5, gate.set).start()
    async with start_world(task_queue=queue, max_cached_workflows=0):
        result: RunResult = await run.result()
    assert result.message == "Done."
    assert counted(world.workspace, run.id) == {
        "model 0": 1, "wait started": 1, "wait finished": 1, "model 1": 1, "step 1": 1, "model 2": 1,
    }  # fmt: skip
    assert [started.attempt for started in await activities(run)] == [1, 1]


async def test_a_cancelled_run_stops_its_tool(world: World) -> None:
    """The tool sees the cancel signal; what it returns then is not kept, and the run ends as cancelled."""
    run = await world.start("waits-in-tool", "go")
    await until(lambda: _seen(world, run, "wait started"), what="the tool to start")
    await run.handle.cancel()
    with pytest.raises(WorkflowFailureError) as ended:
        await run.result()
    assert "cancelled" in str(ended.value.cause).lower()
    effects = counted(world.workspace, run.id)
    assert effects["wait cancelled"] == 1
    assert effects["model 1"] == 0
    assert (await run.status()).state == "cancelled"


async def test_a_paused_activity_stops_at_a_safe_point(start_world: Start) -> None:
    """`temporal activity pause` holds the turn; after `unpause` it goes on without doing anything again."""
    async with start_world(heartbeat_timeout=short(2)) as world:
        run = await world.start("waits-in-tool", "go")
        await until(lambda: _seen(world, run, "wait started"), what="the tool to start")
        pending = (await run.handle.describe()).raw_description.pending_activities[0]
        await _activity(world, "pause", run.id, pending.activity_id)
        # The next heartbeat's reply tells the turn, and the heartbeat after that shows that it has been told.
        for _ in range(2):
            await _another_heartbeat(run)
        GATES[run.id].set()

        async def held() -> bool:
            found = (await run.handle.describe()).raw_description.pending_activities
            return bool(found) and found[0].state.__int__() == 4

        await until(held, what="the activity to be paused")
        assert counted(world.workspace, run.id)["model 1"] == 0
        await _activity(world, "unpause", run.id, pending.activity_id)
        await run.result()
        assert counted(world.workspace, run.id)["wait started"] == 1


async def test_a_large_record_ends_the_turn_as_a_checkpoint(start_world: Start) -> None:
    """Beyond what a heartbeat may hold, the turn goes on in a new activity; nothing is done again."""
    async with start_world() as world:
        run = await world.start("big-results", "go")
        result = await run.result()
        assert result.message == "Done."
        assert len(await activities(run)) > 1
        assert counted(world.workspace, run.id) == {
            **{f"load {n}": 1 for n in range(1, 5)},
            **{f"model {n}": 1 for n in range(5)},
        }


async def test_a_conversation_that_fits_only_compressed_goes_on(start_world: Start) -> None:
    """Ten megabytes of one letter, in results of which each ends its activity, as the record could take no more."""
    async with start_world() as world:
        run = await world.start("big-results", "go", options={"size": 2_500_000})
        await run.result()
        assert len(await activities(run)) == 5


@pytest.mark.long
async def test_a_turn_of_very_many_replies_goes_on_in_further_activities(start_world: Start) -> None:
    """Strands recurses for each reply, which Python ends at some depth: each activity stays far below it."""
    async with start_world() as world:
        run = await world.start("many-steps", "go", options={"steps": 250})
        result = await run.result()
        assert (result.message, result.usage.model_calls) == ("Done.", 251)
        assert len(await activities(run)) == 3
        assert set(counted(world.workspace, run.id).values()) == {1}


async def test_a_hook_may_ask_for_another_try_of_a_call(start_world: Start) -> None:
    """The journal's result does not stand in for a try that the agent's own hook asks for."""
    async with start_world() as world:
        run = await world.start("retrying-hook", "go")
        await run.result()
        assert counted(world.workspace, run.id)["step 1"] == 2


async def test_a_hook_that_blocks_holds_up_nobody(start_world: Start) -> None:
    """Its own heartbeats go on: with a heartbeat timeout of half the time that it takes, one attempt is enough."""
    timeout = short()
    async with start_world(heartbeat_timeout=timeout) as world:
        run = await world.start("slow-hook", "go", options={"seconds": 2 * timeout})
        await run.result()
        assert [started.attempt for started in await activities(run)] == [1]


async def test_a_tool_may_take_much_longer_than_the_heartbeat_timeout(start_world: Start) -> None:
    """The worker's core has a timer of its own for silent activities, which does not see these heartbeats."""
    timeout = short()
    async with start_world(heartbeat_timeout=timeout) as world:
        hold = world.workspace / "hold"
        hold.touch()
        run = await world.start("held", "go")
        await until(lambda: _seen(world, run, "work start 1"), what="the tool to start")
        await asyncio.sleep(timeout + 6)  # that timer strikes five seconds after the timeout, and cannot be observed
        hold.unlink()
        await run.result()
        effects = counted(world.workspace, run.id)
        assert [effects[f"work {what} {n}"] for n in (1, 2) for what in ("start", "finish")] == [1, 1, 1, 1]
        assert [started.attempt for started in await activities(run)] == [1]


async def _seen(world: World, run: StartedRun, effect: str) -> bool:
    return bool(counted(world.workspace, run.id)[effect])


async def _another_heartbeat(run: StartedRun) -> None:
    """Wait until the server has had another heartbeat of the run's activity than the one it had last."""

    async def latest() -> int | None:
        pending = (await run.handle.describe()).raw_description.pending_activities
        return pending[0].last_heartbeat_time.ToNanoseconds() if pending else None

    before = await latest()

    async def look() -> bool:
        return await latest() != before

    await until(look, what="another heartbeat")


async def _activity(world: World, verb: str, run: str, activity_id: str) -> None:
    from temporalio.api.common.v1 import WorkflowExecution
    from temporalio.api.workflowservice.v1 import PauseActivityRequest, UnpauseActivityRequest

    execution = WorkflowExecution(workflow_id=run)
    service, namespace = world.client.workflow_service, world.client.namespace
    if verb == "pause":
        await service.pause_activity(
            PauseActivityRequest(namespace=namespace, execution=execution, id=activity_id),
            timeout=timedelta(seconds=PATIENCE),
        )
    else:
        await service.unpause_activity(
            UnpauseActivityRequest(namespace=namespace, execution=execution, id=activity_id),
            timeout=timedelta(seconds=PATIENCE),
        )


def test_what_an_earlier_attempt_did_counts_before_it_is_restored() -> None:
    """A factory that fails in a later attempt must not make the turn look as if nothing had happened in it."""
    state: dict[str, Any] = {"agent": {}, "conversation_manager": {}, "model": {}}
    record = {
        "kept": 0, "messages": [{"role": "user", "content": [{"text": "go"}]}], "state": state, "usage": {},
        "calls": {}, "begun": True, "new_ids": [],
    }  # fmt: skip
    journal = Journal(record, {})
    assert not journal.untouched()
    assert journal.read()[1] == record
    assert journal.size > 0
    assert Journal(None, {}).untouched()


async def test_what_was_said_does_not_outlive_its_turn(start_world: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """The agent does: it and its hooks know each other until Python looks for garbage, and it may have said a lot."""
    agents, clean_up = list[Agent](), invocation._clean_up

    def kept(agent: Agent) -> None:
        assert agent.messages
        agents.append(agent)
        clean_up(agent)

    monkeypatch.setattr(invocation, "_clean_up", kept)
    async with start_world() as world:
        await (await world.start("clerk", "note one")).result()
    assert [list(agent.messages) for agent in agents] == [[]]


def test_a_journal_that_was_released_keeps_its_record() -> None:
    """Also when a tool that nobody waits for any more ends late, and knows the agent."""
    agent = Agent(model=ScriptedModel(["x"]), callback_handler=None)
    message: Message = {"role": "user", "content": [{"text": "go"}]}
    agent.messages.append(message)
    references = sys.getrefcount(message)
    journal = Journal(None, {})
    journal.restore(agent)
    agent.messages.append({"role": "user", "content": [{"text": "on"}]})
    journal.note(agent)
    record = journal.read()
    agent.messages = []
    journal.release()
    journal.note(agent)
    assert journal.read() == record
    assert not journal.untouched()
    assert sys.getrefcount(message) == references - 1
