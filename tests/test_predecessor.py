"""What an execution hands to the next counts only if it did: a record that anybody else has written does nothing."""

from __future__ import annotations

import uuid
from dataclasses import asdict
from datetime import timedelta
from typing import Any

import pytest
from temporalio import workflow
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.workflowservice.v1 import DeleteWorkflowExecutionRequest
from temporalio.client import Client, WorkflowExecutionStatus, WorkflowFailureError
from temporalio.common import RetryPolicy
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from abeyance.contracts import TURN_ACTIVITY, Approval, Decision, Handover, RunResult, TurnInput
from abeyance.ledger import Ledger
from tests.conftest import Start
from tests.journal_agents import counted
from tests.support import StartedRun, World, until
from workflows.agent_run import NOT_HANDED_OVER, AgentRun
from workflows.state import Carried, State
from workflows.story import Told

REQUEST = {"agent": "held", "prompt": "go"}


def forged(run: str = "forged") -> dict[str, Any]:
    """The record of a run in which the boss has approved something long ago, and a turn that is to be given."""
    said = Decision("y", "2020-01-01T00:00:00+00:00", "update decide", approval=1, by="the boss")
    asked = Approval(1, "v1:x", "approve", None, "pay", {}, "2020-01-01T00:00:00+00:00")
    turn = TurnInput(run, "held", 1, prompt="go")
    state = State(again=turn, ledger=Ledger(decisions=[said], last_number=1), problem="forged", verdict="retry")
    return asdict(Carried(state, Told("go", "2020-01-01T00:00:00+00:00", asked=[asked])))


@workflow.defn(name="Foreign", sandboxed=False)
class Foreign:
    """Continues as new into a run, with a record of its own making."""

    @workflow.run
    async def run(self, queue: str, record: Any) -> None:
        workflow.continue_as_new(args=[REQUEST, record], workflow="AgentRun", task_queue=queue)


@workflow.defn(name="AgentRun", sandboxed=False)
class Namesake(Foreign):
    """The same under the name of a run's type, on a worker of somebody else's."""

    @workflow.run
    async def run(self, queue: str, record: Any) -> None:
        await super().run(queue, record)


async def refused(world: World, run: str) -> None:
    """See that the run fails with words, and has neither run nor told anything of its forged record."""
    handle = world.client.get_workflow_handle(run, result_type=RunResult)

    async def ended() -> bool:
        try:
            return (await handle.describe()).status == WorkflowExecutionStatus.FAILED
        except RPCError:
            return False

    await until(ended, what=f"{run} to fail")
    with pytest.raises(WorkflowFailureError) as failed:
        await handle.result()
    assert isinstance(failed.value.cause, ApplicationError)
    assert failed.value.cause.message.startswith(NOT_HANDED_OVER)
    assert failed.value.cause.non_retryable
    assert not counted(world.workspace, run)
    status = await StartedRun(handle).status()
    assert not status.decisions
    assert not status.closed
    assert not status.turn_notes
    kinds = [event.WhichOneof("attributes") for event in (await handle.fetch_history()).events]
    assert kinds.count("activity_task_scheduled_event_attributes") == 1


@pytest.mark.parametrize("record", [forged(), {"state": 7}], ids=["forged", "junk"])
@pytest.mark.parametrize("kind", [Foreign, Namesake])
async def test_another_workflow_hands_over_nothing(start_world: Start, kind: type[Foreign], record: Any) -> None:
    """Neither one of another type, nor one of the same type that workers of somebody else's have run."""
    async with start_world() as world:
        run, queue = f"forged-{uuid.uuid4().hex[:8]}", f"foreign-{uuid.uuid4().hex[:8]}"
        async with Worker(world.client, task_queue=queue, workflows=[kind]):
            await world.client.start_workflow(
                kind.run, args=[world.settings.task_queue, record], id=run, task_queue=queue
            )
            await refused(world, run)


async def test_an_operators_word_hands_over_nothing(start_world: Start) -> None:
    """Whoever completes the look into the past by hand, even as it would be, has no turn run: that looks again."""
    async with start_world() as world:
        run, queue = f"forged-{uuid.uuid4().hex[:8]}", f"foreign-{uuid.uuid4().hex[:8]}"
        gate = f"gate-{uuid.uuid4().hex[:8]}"
        client = world.client
        async with Worker(client, task_queue=queue, workflows=[Foreign]):
            await client.start_workflow(Foreign.run, args=[gate, forged(run)], id=run, task_queue=queue)
            # Its workflow tasks find a worker, and its activities none.
            async with Worker(
                client, task_queue=gate, workflows=[AgentRun], workflow_runner=UnsandboxedWorkflowRunner()
            ):
                forgery = StartedRun(client.get_workflow_handle(run, result_type=RunResult))
                await until(lambda: _completed(client, run, "1", ""), what="it to be completed by hand")
                assert "verify_predecessor was completed" in ((await forgery.reaches("parked")).problem or "")
                await forgery.handle.signal("retry")
                execution = (await forgery.handle.describe()).run_id
                await until(
                    lambda: _completed(client, run, "2", Handover(execution, "")), what="it to be completed as it is"
                )
                await forgery.reaches("parked", turn=0)
                await forgery.handle.signal("retry")
                await until(lambda: _calls(client, run, TURN_ACTIVITY), what="a turn to be given")
            async with start_world(task_queue=gate):
                problem = (await forgery.reaches("parked")).problem or ""
                assert "No execution has" in problem or "is a workflow of type 'Foreign'" in problem
                assert "abort the run" in problem
                assert not counted(world.workspace, run)
                await forgery.handle.signal("abort")


async def test_a_schedule_hands_over_nothing(start_world: Start) -> None:
    """A cron's first execution has no other before it, and its second has; a run's request alone goes on working."""
    async with start_world() as world:
        run = f"forged-{uuid.uuid4().hex[:8]}"
        handle = await world.client.start_workflow(
            "AgentRun",
            args=[REQUEST, forged()],
            id=run,
            task_queue=world.settings.task_queue,
            cron_schedule="@every 1s",
        )

        async def second() -> bool:
            described = await world.client.get_workflow_handle(run).describe()
            return described.run_id != handle.first_execution_run_id

        await until(second, what="the second execution")
        ends = list[str]()

        async def ended() -> bool:
            ends.clear()
            async for one in world.client.list_workflows(f"WorkflowId = '{run}' AND ExecutionStatus != 'Running'"):
                history = await world.client.get_workflow_handle(run, run_id=one.run_id).fetch_history()
                ends.append(str(history.events[-1]))
            return any(NOT_HANDED_OVER in end for end in ends)

        await until(ended, what="an execution to be refused for what it was not handed")
        await world.client.get_workflow_handle(run).terminate()
        assert any("takes one JSON object" in end for end in ends)  # the first, which nothing can have handed over
        assert not counted(world.workspace, run)


async def test_a_retry_policy_hands_over_nothing(start_world: Start) -> None:
    """The next execution of a workflow that its server tries again was not handed anything either."""
    async with start_world() as world:
        run = f"forged-{uuid.uuid4().hex[:8]}"
        await world.client.start_workflow(
            "AgentRun",
            args=[REQUEST, forged()],
            id=run,
            task_queue=world.settings.task_queue,
            retry_policy=RetryPolicy(initial_interval=timedelta(milliseconds=10), maximum_attempts=3),
            run_timeout=timedelta(seconds=30),
        )
        with pytest.raises(WorkflowFailureError) as failed:
            await world.client.get_workflow_handle(run).result()
        assert isinstance(failed.value.cause, ApplicationError)
        assert failed.value.cause.type == "BadRequest"
        assert not counted(world.workspace, run)


@pytest.mark.long
async def test_a_record_whose_origin_cannot_be_read_parks_the_run(start_world: Start, client: Client) -> None:
    """Retention may have taken the execution before. Nothing is done until somebody can tell, and it can be aborted."""
    run, queue = f"forged-{uuid.uuid4().hex[:8]}", f"foreign-{uuid.uuid4().hex[:8]}"
    async with start_world() as world:
        gate = f"gate-{uuid.uuid4().hex[:8]}"
        async with Worker(client, task_queue=queue, workflows=[Foreign]):
            first = await client.start_workflow(Foreign.run, args=[gate, forged()], id=run, task_queue=queue)
            await until(lambda: _is_next(client, run, str(first.first_execution_run_id)), what="the next execution")
        await client.workflow_service.delete_workflow_execution(
            DeleteWorkflowExecutionRequest(
                namespace=client.namespace,
                workflow_execution=WorkflowExecution(workflow_id=run, run_id=str(first.first_execution_run_id)),
            )
        )
        await until(lambda: _is_gone(client, run, str(first.first_execution_run_id)), what="the execution to be gone")
        async with start_world(task_queue=gate):
            forgery = StartedRun(client.get_workflow_handle(run, result_type=RunResult))
            status = await forgery.reaches("parked")
            assert "cannot read the history" in (status.problem or "")
            await forgery.handle.signal("retry")
            await until(lambda: _tried_again(client, run), what="it to be tried again")
            await forgery.reaches("parked")
            await forgery.handle.signal("abort")
            with pytest.raises(WorkflowFailureError):
                await forgery.result()
            assert not (await forgery.status()).decisions[:-1]
            assert not counted(world.workspace, run)


async def _is_next(client: Client, run: str, first: str) -> bool:
    return (await client.get_workflow_handle(run).describe()).run_id != first


async def _completed(client: Client, run: str, activity: str, result: Any) -> bool:
    """Complete an activity by hand, if it is there."""
    try:
        await client.get_async_activity_handle(workflow_id=run, run_id=None, activity_id=activity).complete(result)
    except RPCError:
        return False
    return True


async def _calls(client: Client, run: str, activity: str) -> bool:
    pending = (await client.get_workflow_handle(run).describe()).raw_description.pending_activities
    return any(one.activity_type.name == activity for one in pending)


async def _is_gone(client: Client, run: str, execution: str) -> bool:
    try:
        await client.get_workflow_handle(run, run_id=execution).describe()
    except RPCError:
        return True
    return False


async def _tried_again(client: Client, run: str) -> bool:
    history = await client.get_workflow_handle(run).fetch_history()
    return sum(event.HasField("activity_task_failed_event_attributes") for event in history.events) >= 2
