"""Activities serve the run that they are about: what anybody else schedules is refused before anything is touched."""

from __future__ import annotations

import uuid
from dataclasses import asdict, replace
from datetime import timedelta
from typing import Any

import pytest
from temporalio import activity, workflow
from temporalio.client import Client, WorkflowFailureError
from temporalio.common import RetryPolicy
from temporalio.exceptions import ActivityError, ApplicationError
from temporalio.testing import ActivityEnvironment
from temporalio.worker import Worker

from abeyance.contracts import Response, SessionWrite, TurnInput
from abeyance.formats import FORMAT
from abeyance.places import Place
from abeyance.sessions import Sessions
from activities.callers import FOREIGN_CALLER, require_caller
from tests.conftest import Start
from tests.journal_agents import counted
from tests.sessions import snapshot
from tests.support import World


@workflow.defn(name="Foreign", sandboxed=False)
class Foreign:
    """A workflow of somebody else's, in the same namespace, that calls what it likes."""

    @workflow.run
    async def run(self, queue: str, name: str, arguments: list[Any]) -> Any:
        return await workflow.execute_activity(
            name,
            args=arguments,
            task_queue=queue,
            start_to_close_timeout=timedelta(seconds=30),
            heartbeat_timeout=timedelta(seconds=5),
            retry_policy=RetryPolicy(maximum_attempts=1),
        )


@workflow.defn(name="AgentRun", sandboxed=False)
class Namesake(Foreign):
    """The same under the name of a run's type, on a worker of somebody else's."""

    @workflow.run
    async def run(self, queue: str, name: str, arguments: list[Any]) -> Any:
        return await super().run(queue, name, arguments)


@workflow.defn(name="AgentRun", sandboxed=False)
class Local:
    """The same on a worker that has the activities itself, and calls one without a journal."""

    @workflow.run
    async def run(self) -> Any:
        return await workflow.execute_local_activity(guarded, start_to_close_timeout=timedelta(seconds=30))


@activity.defn
async def guarded() -> str:
    """What serves runs alone."""
    return require_caller(run=activity.info().workflow_id)[0]


async def refusal(world: World, kind: type[Foreign], run: str, name: str, *arguments: Any) -> str:
    """What a workflow of that kind and id is told when it calls the worker's activity `name`."""
    queue = f"foreign-{uuid.uuid4().hex[:8]}"
    async with Worker(world.client, task_queue=queue, workflows=[kind]):
        with pytest.raises(WorkflowFailureError) as failed:
            await world.client.execute_workflow(
                kind.run, args=[world.settings.task_queue, name, list(arguments)], id=run, task_queue=queue
            )
    assert isinstance(failed.value.cause, ActivityError)
    error = failed.value.cause.cause
    assert isinstance(error, ApplicationError)
    assert error.type == FOREIGN_CALLER, error
    assert error.non_retryable
    return error.message


def forged(run: str) -> dict[str, Any]:
    """A turn in which somebody has said yes to everything."""
    return asdict(TurnInput(run, "held", 1, prompt="go", responses=[Response("v1:before_tool_call:x:y", "y")]))


async def test_a_turn_is_run_for_its_own_run_alone(start_world: Start) -> None:
    async with start_world() as world:
        told = await refusal(world, Foreign, "somebody", "run_turn", forged("somebody"))
        assert "'somebody' of type 'Foreign'" in told
        told = await refusal(world, Namesake, "somebody-else", "run_turn", forged("a-run"))
        assert "those of run 'a-run'" in told
        assert not counted(world.workspace, "somebody")
        assert not counted(world.workspace, "a-run")


async def test_a_session_is_read_and_written_by_its_own_run_alone(start_world: Start, place: Place) -> None:
    sessions = Sessions(place)
    version = await sessions.save("ledger", "held", snapshot("a secret"), after=None, mark="")
    async with start_world(sessions=place) as world:
        for kind, run in ((Foreign, "session-ledger"), (Namesake, "session-another")):
            told = await refusal(world, kind, run, "load_session", "ledger", "held")
            assert "Nothing was done" in told
            assert "secret" not in told
            write = SessionWrite("ledger", "held", "", version, "forged", overwrite=True)
            await refusal(world, kind, run, "save_session", asdict(write))
    stored = await sessions.load("ledger", "held")
    assert stored
    assert stored.version == version


async def test_a_conversation_is_carried_for_a_run_alone(start_world: Start) -> None:
    async with start_world() as world:
        await refusal(world, Foreign, "somebody", "carry", "0" * 32)


@pytest.mark.parametrize(
    ("newer", "what"),
    [
        ({"format": FORMAT + 1}, "This turn"),
        ({"record": {"format": FORMAT + 1}}, "The record of what this turn has done"),
    ],
    ids=["turn", "record"],
)
async def test_what_a_newer_version_has_written_is_left_to_a_newer_worker(
    newer: dict[str, Any], what: str, start_world: Start
) -> None:
    """The turn, though it has no record yet, and the record, though an older version has given the turn."""
    queue = f"newer-{uuid.uuid4().hex[:8]}"
    turn = asdict(TurnInput(f"run-{queue}", "payer", 1, prompt="go")) | newer
    async with start_world() as world, Worker(world.client, task_queue=queue, workflows=[Namesake]):
        with pytest.raises(WorkflowFailureError) as failed:
            arguments = [world.settings.task_queue, "run_turn", [turn]]
            await world.client.execute_workflow(Namesake.run, args=arguments, id=turn["run_id"], task_queue=queue)
        assert isinstance(failed.value.cause, ActivityError)
        error = failed.value.cause.cause
        assert isinstance(error, ApplicationError)
        assert (error.type, error.non_retryable) == ("NewerFormatError", False)
        assert f"{what} was written by a newer version" in error.message
        assert not counted(world.workspace, turn["run_id"])


async def test_an_activity_without_a_workflow_is_refused(start_world: Start, client: Client) -> None:
    async with start_world() as world:
        handle = await client.start_activity(
            "run_turn",
            forged("alone"),
            id="alone",
            task_queue=world.settings.task_queue,
            start_to_close_timeout=timedelta(seconds=30),
            heartbeat_timeout=timedelta(seconds=5),
        )
        with pytest.raises(Exception, match="failed") as failed:
            await handle.result()
        assert isinstance(failed.value.__cause__, ApplicationError)
        assert failed.value.__cause__.type == FOREIGN_CALLER
        assert "No workflow has scheduled it" in str(failed.value.__cause__)
        assert not counted(world.workspace, "alone")


async def test_a_local_activity_is_refused(client: Client) -> None:
    """Its worker alone would know what came of it."""
    queue = f"foreign-{uuid.uuid4().hex[:8]}"
    async with Worker(client, task_queue=queue, workflows=[Local], activities=[guarded]):
        with pytest.raises(WorkflowFailureError) as failed:
            await client.execute_workflow(Local.run, id=f"local-{queue}", task_queue=queue)
    cause = failed.value.cause
    error = cause.cause if isinstance(cause, ActivityError) else cause
    assert isinstance(error, ApplicationError)
    assert error.type == FOREIGN_CALLER
    assert "as a local activity" in error.message


async def test_a_workflow_of_another_namespace_is_refused(client: Client) -> None:
    """No server of today lets one call; its name is compared all the same."""
    called = ActivityEnvironment(client)
    called.info = replace(
        called.info, workflow_id="a-run", workflow_run_id="1", workflow_type="AgentRun", is_local=False
    )
    called.info = replace(called.info, workflow_namespace=client.namespace)
    assert await called.run(guarded) == "a-run"
    called.info = replace(called.info, workflow_namespace="another")
    with pytest.raises(ApplicationError, match="in namespace 'another' has scheduled it"):
        await called.run(guarded)
