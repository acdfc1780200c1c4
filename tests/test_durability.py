"""Runs outlive every process: workers and servers are killed, time passes, and nothing is lost or done twice."""

from __future__ import annotations

import signal
import sys
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from uuid import uuid4

import pytest
from temporalio.api.enums.v1 import EventType
from temporalio.client import Client, WorkflowExecutionStatus, WorkflowFailureError
from temporalio.exceptions import CancelledError
from temporalio.service import RPCError

from abeyance.settings import Settings
from tests.conftest import Start
from tests.processes import (
    DevServer,
    address_of,
    environment,
    forget_dead_worker,
    identity_of,
    started,
    time_skipping,
    worker_process,
)
from tests.support import StartedRun, World, short, until

processes = pytest.mark.processes


@pytest.fixture
def settings(workspace: Path) -> Settings:
    """Settings for worker processes of one test."""
    return Settings(
        task_queue=f"queue-{uuid4().hex[:8]}",
        agents=("agents", "tests.agents"),
        workspace=workspace,
        heartbeat_timeout=short(3),
        shutdown_grace=1,
    )


async def turn_workers(run: StartedRun) -> list[str]:
    """Which worker took each turn, by the history."""
    history = await run.handle.fetch_history()
    started = [e for e in history.events if e.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_STARTED]
    return [event.activity_task_started_event_attributes.identity for event in started]


async def signal_count(run: StartedRun) -> int:
    """How many signals the history holds."""
    history = await run.handle.fetch_history()
    return sum(e.event_type == EventType.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED for e in history.events)


def patience(workspace: Path) -> list[str]:
    """What the tool of the agent "patient" has noted."""
    notes = workspace / "patience"
    return notes.read_text().splitlines() if notes.exists() else []


async def tool_notes(workspace: Path, count: int) -> None:
    """Wait until the tool of the agent "patient" has noted so much."""

    async def look() -> bool:
        return len(patience(workspace)) >= count

    await until(look, what=f"{count} notes of the tool")


@processes
async def test_a_worker_is_killed_between_two_questions(client: Client, settings: Settings, tmp_path: Path) -> None:
    """One tool asks twice; each half runs in another process, and its effect happens once, with both answers."""
    world = World(client, settings)
    async with worker_process(client, settings, tmp_path / "first.log") as first:
        run = await world.start("two-questions", "go")
        status = await run.reaches("waiting", approvals=1)
        assert status.approvals[0].name == "first"
        await run.handle.signal("respond", "one")
        status = await run.reaches("waiting", approvals=1, turn=2)
        assert (status.approvals[0].name, status.approvals[0].reason) == ("second", {"first": "one"})
        assert "transfers" not in world.files()
        first.kill()
    async with worker_process(client, settings, tmp_path / "second.log"):
        await forget_dead_worker(client, run.id)
        await run.handle.signal("respond", {"approval": 2, "response": "two"})
        result = await run.result()
    assert (world.workspace / "transfers").read_text() == "7 one two\n"
    assert [(d.approval, d.response, d.refused) for d in result.decisions] == [(1, "one", None), (2, "two", None)]
    assert result.message == "Done."


async def test_a_run_waits_for_thirty_days(start_world: Start) -> None:
    """After a month the approval is still open, and its answer is applied."""
    async with await time_skipping() as environment, start_world(environment.client) as world:
        run = await world.start("file-manager", "Delete a.txt")
        before = await run.reaches("waiting", approvals=1)
        await environment.sleep(timedelta(days=30))
        after = await run.reaches("waiting", approvals=1)
        assert after.approvals == before.approvals
        assert "a.txt" in world.files()
        await run.handle.signal("approve")
        result = await run.result()
        asked, at = before.approvals[0].asked_at, result.decisions[0].at
        assert datetime.fromisoformat(at) - datetime.fromisoformat(asked) >= timedelta(days=30)
        assert world.files() == {"b.txt", "c.txt", "d.txt"}


@processes
async def test_worker_and_server_are_killed_while_a_run_waits(settings: Settings, tmp_path: Path) -> None:
    """The answer is given to a server that came back alone, and applied once when a worker comes back too."""
    server = DevServer(tmp_path)
    async with server.up() as (client, server_process):
        world = World(client, settings)
        async with worker_process(client, settings, tmp_path / "first.log") as worker:
            run = await world.start("file-manager", "Delete a.txt and b.txt", run="survivor")
            before = await run.reaches("waiting", approvals=1)
            worker.kill()
            server_process.kill()
    async with server.up() as (client, _):
        world = World(client, settings)
        run = StartedRun(client.get_workflow_handle("survivor"))
        await run.handle.signal("approve", {"approval": 1, "by": "alice"})
        assert await signal_count(run) == 1
        assert {"a.txt", "b.txt"} <= world.files()
        async with worker_process(client, settings, tmp_path / "second.log"):
            ended = await run.reaches("completed")
            await run.handle.result()
        assert world.files() == {"c.txt", "d.txt"}
        assert [(d.id, d.response, d.by) for d in ended.decisions] == [(before.approvals[0].id, "y", "alice")]
        assert ended.refused_count == 0
        assert len(await turn_workers(run)) == 2


@processes
async def test_one_worker_asks_and_another_applies_the_answer(
    client: Client, settings: Settings, start_world: Start, tmp_path: Path
) -> None:
    """Two workers serve one queue; the one that asked leaves before the answer comes."""
    async with worker_process(client, settings, tmp_path / "first.log") as first:
        run = await World(client, settings).start("file-manager", "Delete a.txt")
        await run.reaches("waiting", approvals=1)
        async with start_world(task_queue=settings.task_queue, identity="second") as world:
            first.send(signal.SIGTERM)
            assert await first.ends() == 0
            await run.handle.signal("approve")
            await run.reaches("completed")
            assert await turn_workers(run) == [identity_of(first), "second"]
            assert world.files() == {"b.txt", "c.txt", "d.txt"}


@processes
async def test_an_idle_worker_leaves_when_asked(
    client: Client, settings: Settings, start_world: Start, tmp_path: Path
) -> None:
    """SIGTERM ends it with status 0, and what waits is taken up by another one."""
    patient = replace(settings, shutdown_grace=3_600)
    async with worker_process(client, patient, tmp_path / "worker.log") as worker:
        run = await World(client, settings).start("file-manager", "Delete a.txt")
        await run.reaches("waiting", approvals=1)
        worker.send(signal.SIGTERM)
        assert await worker.ends() == 0
        assert "Traceback" not in worker.output
    async with start_world(task_queue=settings.task_queue) as world:
        await run.handle.signal("approve")
        await run.reaches("completed")
        assert world.files() == {"b.txt", "c.txt", "d.txt"}


@processes
async def test_a_worker_in_a_turn_leaves_when_asked(
    client: Client, settings: Settings, start_world: Start, tmp_path: Path
) -> None:
    """A tool that outlasts the grace is told to stop; another worker runs it to its end."""
    async with worker_process(client, settings, tmp_path / "worker.log") as worker:
        run = await World(client, settings).start("patient", "go")
        await tool_notes(settings.workspace, 1)
        worker.send(signal.SIGTERM)
        assert await worker.ends() == 0
    assert patience(settings.workspace)[0] == "started"
    assert not [note for note in patience(settings.workspace) if note.startswith("ended")]
    async with start_world(task_queue=settings.task_queue, heartbeat_timeout=short(3)):
        (settings.workspace / "go").touch()
        result = await run.result()
    assert result.message == "Done."
    assert [note for note in patience(settings.workspace) if note.startswith("ended")] == ["ended unasked"]


async def test_a_run_is_cancelled_while_it_waits(start_world: Start) -> None:
    """It ends as cancelled, nothing is deleted, and an answer that comes too late finds nothing."""
    async with start_world() as world:
        run = await world.start("file-manager", "Delete a.txt")
        await run.reaches("waiting", approvals=1)
        await run.handle.cancel()
        with pytest.raises(WorkflowFailureError) as failure:
            await run.result()
        assert isinstance(failure.value.cause, CancelledError)
        assert (await run.handle.describe()).status == WorkflowExecutionStatus.CANCELED
        await run.reaches("cancelled")
        with pytest.raises(RPCError, match="already completed"):
            await run.handle.signal("approve")
        assert "a.txt" in world.files()


async def test_a_run_is_cancelled_while_a_tool_works(start_world: Start) -> None:
    """The tool is told to stop, and the run ends as cancelled, not parked."""
    async with start_world(heartbeat_timeout=short()) as world:
        run = await world.start("patient", "go")
        await tool_notes(world.workspace, 1)
        await run.handle.cancel()
        with pytest.raises(WorkflowFailureError) as failure:
            await run.result()
        assert isinstance(failure.value.cause, CancelledError)
        await run.reaches("cancelled")
        await tool_notes(world.workspace, 2)
        assert patience(world.workspace) == ["started", "stopped"]
        assert len(await turn_workers(run)) == 1


async def test_a_run_is_cancelled_that_no_worker_serves(client: Client, settings: Settings, start_world: Start) -> None:
    """The wish is kept until a worker comes; then the run ends without a turn that goes on."""
    run = await World(client, settings).start("file-manager", "Delete a.txt")
    await run.handle.cancel()
    async with start_world(task_queue=settings.task_queue) as world:
        with pytest.raises(WorkflowFailureError) as failure:
            await run.result()
        assert isinstance(failure.value.cause, CancelledError)
        assert "a.txt" in world.files()


async def test_a_worker_that_cannot_end_is_ended(client: Client, settings: Settings, tmp_path: Path) -> None:
    """The SDK waits for a workflow task that does not end; the process is gone all the same, and says so."""
    command = [sys.executable, "-m", "tests.stubborn_worker"]
    env = environment(address_of(client), settings, ABEYANCE_SHUTDOWN_GRACE="0.1")
    with started(command, env, tmp_path / "worker.log") as worker:
        run = await client.start_workflow("Stubborn", id=f"stubborn-{uuid4().hex}", task_queue=settings.task_queue)
        await worker.says("at work")
        worker.send(signal.SIGTERM)
        assert await worker.ends() == 1
        assert "the worker did not end within 1.1 s" in worker.output
    await run.terminate()
