"""A run that was reset says so, and no once-only call runs again on an answer from before."""

from __future__ import annotations

from typing import Any

from temporalio.client import Client
from temporalio.worker import Replayer

from abeyance.contracts import RunResult, RunStatus
from abeyance.converter.replay import LightReplayRunner
from tests.conftest import Start
from tests.journal_agents import counted
from tests.support import StartedRun, World, until
from tests.test_carried import grow, latest
from tests.test_growing import _reset, impatient  # noqa: F401 - a fixture
from workflows.agent_run import AgentRun


async def reset(world: World, run: StartedRun, *, last: bool = True, after: str = "") -> StartedRun:
    """Reset the run to its last workflow task, or its first, of those after an event of that kind."""
    client, task, seen = world.client, 0, not after
    for event in (await client.get_workflow_handle(run.id).fetch_history()).events:
        seen |= bool(after) and event.HasField(after)  # type: ignore[arg-type]
        if seen and event.HasField("workflow_task_completed_event_attributes") and (last or not task):
            task = event.event_id
    described = await client.get_workflow_handle(run.id).describe()
    request = _reset(world, run, task)
    request.workflow_execution.run_id = described.run_id
    await client.workflow_service.reset_workflow_execution(request)
    return StartedRun(client.get_workflow_handle(run.id, result_type=RunResult))


async def asked(run: StartedRun, name: str, number: int) -> RunStatus:
    """Wait until the run's one open approval has that name and number."""

    async def look() -> RunStatus | None:
        status = await run.reaches("waiting", approvals=1)
        return status if (status.approvals[0].name, status.approvals[0].number) == (name, number) else None

    return await until(look, what=f"{name} to be asked")


SIGNALED = "workflow_execution_signaled_event_attributes"


async def test_an_approved_call_does_not_run_again_on_the_old_answer(world: World) -> None:
    """Not even when the run is reset once more, to where it took the new answer; a new yes runs it."""
    run = await world.start("file-manager-like", "go")
    await run.reaches("waiting", approvals=1)
    await run.handle.signal("approve")
    await run.result()
    first = run.handle.first_execution_run_id
    run = await reset(world, run, last=False, after=SIGNALED)
    status = await asked(run, "reset", 2)
    reason = status.approvals[0].reason
    assert status.approvals[0].tool == "step"
    assert reason["of"] == first
    assert reason["reset_at"] in reason["message"]
    assert [(found.of, found.at[:4]) for found in status.resets] == [(first, reason["reset_at"][:4])]
    assert counted(world.workspace, run.id)["step 1"] == 1
    await run.handle.signal("deny", 2)
    assert (await run.result()).resets
    assert counted(world.workspace, run.id)["step 1"] == 1

    run = await reset(world, run, last=False, after="workflow_task_failed_event_attributes")
    again = await asked(run, "reset", 2)
    assert len(again.resets) == 2
    assert again.approvals[0].id != status.approvals[0].id
    assert again.approvals[0].reason["of"] != first
    assert counted(world.workspace, run.id)["step 1"] == 1
    await run.handle.signal("approve", 2)
    await run.result()
    assert counted(world.workspace, run.id)["step 1"] == 2


async def test_a_reset_of_a_reset_asks_about_what_the_first_was_answered(world: World) -> None:
    """The answer is sent again before the workflow can know of the second reset."""
    run = await world.start("file-manager-like", "go")
    await run.reaches("waiting", approvals=1)
    run = await reset(world, run)
    await asked(run, "approve", 1)
    await run.handle.signal("approve")
    await run.result()
    assert counted(world.workspace, run.id)["step 1"] == 1
    run = await reset(world, run, last=False, after=SIGNALED)
    status = await asked(run, "reset", 2)
    assert len(status.resets) == 2
    assert counted(world.workspace, run.id)["step 1"] == 1
    await run.handle.signal("deny", 2)
    await run.result()


async def test_a_question_asked_since_is_enough(world: World) -> None:
    run = await world.start("file-manager-like", "go")
    await run.reaches("waiting", approvals=1)
    await run.handle.signal("approve")
    await run.result()
    run = await reset(world, run, last=False)
    status = await asked(run, "approve", 1)
    assert len(status.refused) == 1  # the answer from before, which came before the question this time
    await run.handle.signal("approve")
    result = await run.result()
    assert [approval.name for approval in result.approvals] == ["approve"]
    assert counted(world.workspace, run.id)["step 1"] == 2


async def test_a_declared_call_that_nobody_is_asked_about_is_asked_about_then(world: World) -> None:
    run = await world.start("payer", "go")
    await run.result()
    run = await reset(world, run, last=False)
    status = await asked(run, "reset", 1)
    assert (status.approvals[0].tool, status.approvals[0].input) == ("pay", {"amount": 5})
    assert counted(world.workspace, run.id)["pay finish"] == 1
    await run.handle.signal("approve")
    await run.result()
    assert counted(world.workspace, run.id)["pay finish"] == 2


async def test_a_turn_that_was_at_work_asks_where_it_is_given_again(start_world: Start) -> None:
    """The server gives it to a worker as it was, with the words from before the reset; its first worker is cut off."""
    async with start_world(heartbeat_timeout=2) as world:
        (world.workspace / "hold").touch()
        run = await world.start("payer", "go")

        async def at_work() -> bool:
            return bool(counted(world.workspace, run.id)["pay start 1"])

        await until(at_work, what="the payment to start")
        await run.handle.signal("say", "more")
        await until(lambda: _has_more(run), what="the prompt to be queued")
        run = await reset(world, run)
        await asked(run, "reset", 1)
        (world.workspace / "hold").unlink()
        await run.handle.signal("deny")
        await until(lambda: _is_in(run, 2), what="the next turn")
        effects: Any = counted(world.workspace, run.id)
        assert effects["pay start 1"] + effects["pay start 2"] == 1
        await run.handle.terminate()


async def test_the_next_execution_knows_it_too(impatient: Client, start_world: Start) -> None:  # noqa: F811
    """What was answered before stays so when the run continues as new in between, and so does the note."""
    async with start_world(impatient) as world:
        run = await world.start("file-manager-like", "go")
        await run.reaches("waiting", approvals=1)
        run = await reset(world, run)
        await run.reaches("waiting", approvals=1)
        await grow(run)
        run = latest(run)
        status = await run.reaches("waiting", approvals=1)
        assert len(status.resets) == 1
        await run.handle.signal("approve", 1)
        await run.result()


async def test_an_update_that_is_sent_again_and_a_signal_can_be_replayed(start_world: Start) -> None:
    """The core gives out the update before the signal live, and after it in a replay; the answers are the same two."""
    async with start_world() as world:
        run = await world.start("file-manager", "Delete a.txt; delete b.txt")
        await run.reaches("waiting", approvals=2)
        await run.handle.signal("approve", 9)
        await run.refuses(1)
        await run.handle.execute_update("decide", {"approval": 2, "response": "n"})
        await run.reaches("waiting", approvals=1)
    run = await reset(world, run, last=False, after=SIGNALED)
    # While no worker runs.
    await run.handle.signal("respond", {"approval": 2, "response": "n"})
    async with start_world(task_queue=world.settings.task_queue) as world:
        status = await run.reaches("waiting", approvals=1)
        assert [(d.approval, d.response) for d in status.decisions] == [(2, "n")]
        history = await run.handle.fetch_history()
        assert any(e.HasField("workflow_execution_update_admitted_event_attributes") for e in history.events)
        replayer = Replayer(
            workflows=[AgentRun],
            workflow_runner=LightReplayRunner(stores=True),
            data_converter=world.client.data_converter,
        )
        await replayer.replay_workflow(history)
        await run.handle.terminate()


async def _has_more(run: StartedRun) -> bool:
    return bool((await run.status()).prompts)


async def _is_in(run: StartedRun, turn: int) -> bool:
    return (await run.status()).turn >= turn
