"""What holds a run up: the truth, with what to do, in every way that no worker answers in."""

from __future__ import annotations

import asyncio
import re
import shlex
import subprocess
import uuid
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import (
    PauseActivityRequest,
    PollWorkflowTaskQueueRequest,
    RespondWorkflowTaskCompletedRequest,
)
from temporalio.client import Client
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from abeyance import diagnosis
from abeyance.contracts import TURN_ACTIVITY, RunResult
from abeyance.devserver import temporal_binary
from abeyance.diagnosis import Finding
from abeyance.runs import Runs
from abeyance.settings import Settings
from tests.command_line import Cli
from tests.conftest import Start
from tests.journal_agents import counted
from tests.processes import address_of, environment
from tests.support import StartedRun, World, a_key, until, with_converter
from tests.test_operators import happens
from tests.test_sealed import forged
from workflows.agent_run import AgentRun

A = a_key("a")


@pytest.fixture
def settings(workspace: Path) -> Settings:
    queue = f"queue-{uuid.uuid4().hex[:8]}"
    return Settings(task_queue=queue, workspace=workspace, heartbeat_timeout=5, shutdown_grace=1)


@pytest.fixture
def cli(client: Client, settings: Settings, tmp_path: Path) -> Cli:
    # Nobody answers in most of these, however long a command waits.
    return Cli(environment(address_of(client), settings, ABEYANCE_WORKER_TIMEOUT="3"))


async def finds(client: Client, settings: Settings, run: str, *kinds: str) -> Finding:
    """Wait until a finding of one of these kinds is there; all that are there say what is known and what to do."""

    async def look() -> Finding | None:
        findings = (await Runs(with_converter(client, settings), settings.task_queue).diagnosis(run)).findings
        assert all(len(finding.says) > 10 and len(finding.cure) > 10 for finding in findings)
        return next((finding for finding in findings if finding.kind in kinds), None)

    return await until(look, what=f"{kinds} of {run}")


async def test_no_worker_polls_the_queue(cli: Cli, settings: Settings) -> None:
    """`start` warns at once, and all that miss a worker name the queue; another queue's setting is told."""
    run, queue = f"doctor-{uuid.uuid4().hex[:8]}", f"No worker polls the task queue {settings.task_queue!r}"
    assert queue in (await cli("start", "file-manager", "Delete a.txt", "--id", run)).stderr
    told = await cli.json("doctor", run, status=1)
    assert told["wrong"]
    assert [finding["kind"] for finding in told["findings"] if finding["wrong"]] == ["no-worker"]
    assert queue in told["findings"][0]["says"]
    assert "python worker.py" in told["findings"][0]["cure"]
    assert queue in (await cli("show", run)).stdout


async def test_the_run_is_on_another_queue(client: Client, settings: Settings, start_world: Start) -> None:
    async with start_world() as world:
        run = await World(client, settings).start("file-manager", "Delete a.txt")
        elsewhere = replace(settings, task_queue=world.settings.task_queue)
        found = await finds(client, elsewhere, run.id, "no-worker")
    assert repr(settings.task_queue) in found.says
    assert f"Here, ABEYANCE_TASK_QUEUE is {world.settings.task_queue!r}, which " in found.says
    assert f"ABEYANCE_TASK_QUEUE={settings.task_queue} " in found.cure


async def test_workflow_tasks_fail(cli: Cli, client: Client, settings: Settings, start_world: Start) -> None:
    """Why, and on which worker; nobody is told to start one."""
    async with start_world(keys=A, task_queue=settings.task_queue, identity="worker-of-this-test") as world:
        run = await world.start("file-manager", "Delete a.txt")
        await run.reaches("waiting", approvals=1)
        await client.get_workflow_handle(run.id).signal("approve", forged("nobodys"))
        found = await finds(client, world.settings, run.id, "task-fails")
        assert "worker-of-this-test: The 'signal approve' is encrypted with the key 'nobodys'" in found.says
        assert "add a new key named 'nobodys'" in found.says
        said = (await cli("show", run.id, ABEYANCE_KEYS=A)).stdout
        assert "The 'signal approve' is encrypted with the key 'nobodys'" in said
        assert "python worker.py" not in said
        approved = await cli("approve", run.id, "1", ABEYANCE_KEYS=A)
        assert "No worker answered, so it waits as a signal" in approved.stdout
        assert "worker-of-this-test: The 'signal approve' is encrypted" in approved.stderr


async def test_an_activity_was_completed_under_a_key_that_nobody_has(
    client: Client, settings: Settings, start_world: Start
) -> None:
    """The run stands still, as a newer worker may have the key; what undoes the forgery works as it is told."""
    async with start_world(task_queue=settings.task_queue, heartbeat_timeout=2) as world:
        (world.workspace / "hold").touch()
        run = await world.start("payer", "go")
        await happens(world, run, "pay start 1")
        turn = client.get_async_activity_handle(workflow_id=run.id, run_id=None, activity_id="1")
        await turn.complete(forged("nobodys"))
        found = await finds(client, world.settings, run.id, "task-fails")
        assert "encrypted with the key 'nobodys', which is not known here" in found.says
        assert counted(world.workspace, run.id)["pay finish"] == 0
        (world.workspace / "hold").unlink()
        await happens(world, run, "pay finish")
        [cure] = re.findall("`(temporal workflow reset .*?)`", found.cure)
        await temporal_command(client, cure)
        run = StartedRun(client.get_workflow_handle(run.id, result_type=RunResult))
        [asked] = (await run.reaches("waiting", approvals=1)).approvals
        assert (asked.name, asked.tool) == ("reset", "pay")
        assert counted(world.workspace, run.id)["pay start 1"] == 1
        await run.handle.signal("deny", asked.number)
        await run.result()
        assert counted(world.workspace, run.id)["pay start 1"] == 1


async def test_an_input_under_a_key_that_no_worker_has(client: Client, settings: Settings, start_world: Start) -> None:
    """Nobody has completed anything by hand, and nothing says so."""
    async with start_world(task_queue=settings.task_queue):
        run = await World(with_converter(client, replace(settings, keys=A)), settings).start("file-manager", "x")
        found = await finds(client, settings, run.id, "task-fails")
        assert "which is not known here" in found.says
        assert "by hand" not in found.cure


async def test_a_run_without_a_task(client: Client, settings: Settings, start_world: Start) -> None:
    """A task of it was completed with nothing in it; what the cure sends wakes it up."""
    run = await World(client, settings).start("file-manager", "Delete a.txt")
    polled = await client.workflow_service.poll_workflow_task_queue(
        PollWorkflowTaskQueueRequest(
            namespace=client.namespace, task_queue=TaskQueue(name=settings.task_queue), identity="nobody"
        )
    )
    await client.workflow_service.respond_workflow_task_completed(
        RespondWorkflowTaskCompletedRequest(namespace=client.namespace, task_token=polled.task_token)
    )
    found = await finds(client, settings, run.id, "stalled")
    [wake] = re.findall("`(temporal workflow signal .*?)`", found.cure)
    async with start_world(task_queue=settings.task_queue):
        await temporal_command(client, wake)
        await run.reaches("waiting", approvals=1)
        diagnosis = await Runs(client, settings.task_queue).diagnosis(run.id)
        # Who polled by hand counts as a worker that is deaf now.
        assert {finding.kind for finding in diagnosis.findings} == {"waiting", "deaf-worker"}


async def temporal_command(client: Client, command: str) -> None:
    """Type what begins with `temporal`, as it stands."""
    words = [temporal_binary(), *shlex.split(command)[1:], "--address", address_of(client)]
    done = await asyncio.to_thread(subprocess.run, words, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


async def test_a_delayed_run(client: Client, settings: Settings, start_world: Start) -> None:
    async with start_world(task_queue=settings.task_queue):
        run = await client.start_workflow(
            "AgentRun",
            {"agent": "file-manager", "prompt": "Delete a.txt"},
            id=f"doctor-{uuid.uuid4().hex[:8]}",
            task_queue=settings.task_queue,
            start_delay=timedelta(hours=1),
        )
        found = await finds(client, settings, run.id, "delayed")
        diagnosis = await Runs(client, settings.task_queue).diagnosis(run.id)
    assert "It has not begun" in found.says
    assert not diagnosis.wrong
    assert "It has not begun" in diagnosis.words


async def test_an_unknown_agent(client: Client, settings: Settings, start_world: Start) -> None:
    async with start_world(task_queue=settings.task_queue) as world:
        run = await world.start("nobody-s-agent", "Delete a.txt")
        found = await finds(client, settings, run.id, "turn-fails", "parked")
    assert found.wrong
    assert "nobody-s-agent" in found.says


async def test_a_deaf_worker_and_a_paused_turn(client: Client, settings: Settings) -> None:
    """A worker that polls workflow tasks and no activities, as one whose activities' poller has died."""
    runner = UnsandboxedWorkflowRunner()
    async with Worker(
        client, task_queue=settings.task_queue, workflows=[AgentRun], identity="deaf-one", workflow_runner=runner
    ):
        run = await World(client, settings).start("file-manager", "Delete a.txt")
        found = await finds(client, settings, run.id, "deaf-worker")
        assert "Worker deaf-one has not polled activities" in found.says
        assert "Restart it" in found.cure
        handle = client.get_workflow_handle(run.id)

        async def scheduled() -> bool:
            return bool((await handle.describe()).raw_description.pending_activities)

        await until(scheduled, what="the turn to be scheduled")
        await client.workflow_service.pause_activity(
            PauseActivityRequest(
                namespace=client.namespace,
                execution=WorkflowExecution(workflow_id=run.id),
                type=TURN_ACTIVITY,
                identity="ann",
                reason="lunch",
            )
        )
        found = await finds(client, settings, run.id, "paused")
        assert "is paused" in found.says
        assert f"temporal activity unpause -w {run.id} --activity-id 1" in found.cure


async def test_a_turn_that_fails_and_is_tried_again(client: Client, settings: Settings, start_world: Start) -> None:
    """As long as it is, the run itself says nothing of it."""
    async with start_world(task_queue=settings.task_queue, patience=timedelta(hours=1)) as world:
        run = await world.start("nobody-s-agent", "Delete a.txt")
        found = await finds(client, settings, run.id, "turn-fails")
        assert "Unknown agent 'nobody-s-agent'" in found.says
        assert "Start a worker that has this agent" in found.cure
        await run.handle.terminate()


async def test_a_worker_takes_tasks_and_does_not_answer(client: Client, settings: Settings) -> None:
    run = await client.start_workflow(
        "AgentRun",
        {"agent": "file-manager", "prompt": "Delete a.txt"},
        id=f"doctor-{uuid.uuid4().hex[:8]}",
        task_queue=settings.task_queue,
        task_timeout=timedelta(seconds=1),
    )
    queue = TaskQueue(name=settings.task_queue)
    request = PollWorkflowTaskQueueRequest(namespace=client.namespace, task_queue=queue, identity="silent-one")
    assert (await client.workflow_service.poll_workflow_task_queue(request)).task_token
    found = await finds(client, settings, run.id, "task-fails")
    assert "A worker has taken its workflow task 1 times and not answered." in found.says


async def test_tasks_that_wait_for_a_worker(
    client: Client, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """First the workflow's own task, and then, as nobody polls for those, its turn."""
    monkeypatch.setattr(diagnosis, "LATE_SECONDS", -1)
    run = await World(client, settings).start("file-manager", "Delete a.txt")
    assert "Its workflow task waits for a worker" in (await finds(client, settings, run.id, "late")).says
    runner = UnsandboxedWorkflowRunner()
    async with Worker(client, task_queue=settings.task_queue, workflows=[AgentRun], workflow_runner=runner):

        async def turn_waits() -> bool:
            return (
                "The activity run_turn (1) waits for a worker" in (await finds(client, settings, run.id, "late")).says
            )

        await until(turn_waits, what="the turn to be late")


async def test_what_a_run_says_of_itself_cannot_be_read(client: Client, settings: Settings, start_world: Start) -> None:
    async with start_world(keys=A, task_queue=settings.task_queue) as world:
        run = await world.start("file-manager", "Delete a.txt")
        await run.reaches("waiting", approvals=1)
        found = await finds(client, settings, run.id, "unreadable")
        assert "What it says of itself cannot be read here." in found.says
        assert "the key 'a'" in found.says


async def test_nothing_is_wrong(cli: Cli, client: Client, settings: Settings, start_world: Start) -> None:
    """A run that waits for a person is in order, and so is one that has ended."""
    async with start_world(task_queue=settings.task_queue) as world:
        run = await world.start("file-manager", "Delete a.txt")
        await run.reaches("waiting", approvals=1)
        told = await cli("doctor", run.id)
        assert "It waits for a person to decide approval 1." in told.stdout
        assert "Nothing is wrong" in told.stdout
        await run.handle.signal("deny")
        await run.result()
        assert (await finds(client, settings, run.id, "ended")).wrong is False
        assert "No worker polls" not in (await cli("start", "file-manager", "Inspect a.txt")).stderr
    await cli("doctor", "no-such-run", status=3)
