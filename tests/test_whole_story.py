"""One run, attacked, denied, asked again, approved, cancelled in the middle and reset: all that tells of it agrees."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest
from temporalio.client import Client, WorkflowFailureError

from abeyance.settings import Settings
from tests.chaos.agents import effects_of
from tests.command_line import Cli
from tests.conftest import Start
from tests.processes import address_of, environment
from tests.support import StartedRun, World, until
from tests.test_reset import SIGNALED, asked, reset
from tests.test_senders import sent

JUNK = 30


@pytest.fixture
def settings(workspace: Path) -> Settings:
    return Settings(task_queue=f"queue-{uuid.uuid4().hex[:8]}", workspace=workspace, shutdown_grace=1)


@pytest.fixture
def cli(client: Client, settings: Settings) -> Cli:
    return Cli(environment(address_of(client), settings))


def payments(world: World, run: StartedRun) -> int:
    return sum(effect["what"] == "pay" for effect in effects_of(world.workspace, run.id).read())


async def signals(client: Client, run: StartedRun) -> list[tuple[int, str, str]]:
    """Event id, name and client of all signals in the run's history."""
    history = await client.get_workflow_handle(run.id).fetch_history()
    told = [
        (event.event_id, event.workflow_execution_signaled_event_attributes)
        for event in history.events
        if event.HasField("workflow_execution_signaled_event_attributes")
    ]
    return [(event, signal.signal_name, signal.identity) for event, signal in told]


async def test_show_result_and_history_agree(cli: Cli, client: Client, settings: Settings, start_world: Start) -> None:
    async with start_world(task_queue=settings.task_queue) as world:
        (world.workspace / "hold").touch()
        run = await world.start("asks-again", "go", by="eve")
        await run.reaches("waiting", approvals=1)
        for number in range(JUNK):
            await sent(client, run, "respond", f'{{"approval": 7, "response": "junk {number}", "by": "ann"}}')
        await run.refuses(JUNK)
        await cli("deny", run.id, "1", "--by", "ann", "--comment", "too early")
        again = (await asked(run, "approve", 2)).approvals[0]
        assert [(denial.approval, denial.by, denial.comment) for denial in again.denials] == [(1, "ann", "too early")]
        assert "denied before: as 1 by ann" in (await cli("show", run.id)).stdout
        await sent(
            client, run, "respond", f'{{"approval": 2, "response": "y", "by": "bob", "digest": "{again.digest}"}}'
        )

        async def at_work() -> bool:
            return bool(payments(world, run))

        await until(at_work, what="the payment to be at work")
        await cli("cancel", run.id)
        with pytest.raises(WorkflowFailureError):
            await run.handle.result()
        (world.workspace / "hold").unlink()
        story = (await cli("show", run.id)).stdout
        assert "is cancelled" in story
        assert payments(world, run) == 1

        run = await reset(world, run, last=False, after=SIGNALED)
        asked_since = (await asked(run, "approve", 2)).approvals[0]
        assert asked_since.digest == again.digest
        assert payments(world, run) == 1
        told = await cli.json("show", run.id)
        await cli("deny", run.id, "2", "--by", "cy")
        result = await run.result()
        told = await cli.json("show", run.id)
        story = (await cli("show", run.id)).stdout

    applied = [(d.approval, d.response, d.by) for d in result.decisions if not d.refused]
    assert applied == [(1, "n", "ann"), (2, "n", "cy")]
    assert [(d["approval"], d["response"], d["by"]) for d in told["decisions"]] == applied
    assert told["refused_count"] >= JUNK
    assert (told["by"], result.by) == ("eve", "eve")
    assert len(result.resets) == len(told["resets"]) == 1
    assert "goes on from a part of execution" in story
    events = {event: identity for event, name, identity in await signals(client, run)}
    for decision in [*told["decisions"], *told["refused"]]:
        if decision["event"]:
            assert events[decision["event"]] == decision["identity"]
    assert sum(decision["identity"] == "phone@ann" for decision in told["refused"]) > 5
    for line in ("started by eve", "1 (pay) answered n by ann", "2 (pay) answered n by cy", "too early"):
        assert line in story
