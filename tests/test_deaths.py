"""What ends its worker's process again and again is asked about, and nobody else's turn is blamed for it."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from pathlib import Path

import pytest
from temporalio.client import Client
from temporalio.exceptions import TemporalError

from abeyance.contracts import JsonObject, RunStatus
from abeyance.settings import Settings
from activities.attempts import MOST_DEATHS, Attempts
from activities.journal import Call, Journal
from tests.chaos.workers import Nursery
from tests.journal_agents import counted
from tests.processes import address_of
from tests.support import StartedRun, World, until

pytestmark = [pytest.mark.processes, pytest.mark.long]


@pytest.fixture
def queue(client: Client, workspace: Path) -> World:
    """A task queue without a worker, on which what is poisoned kills."""
    (workspace / "poison").touch()
    return World(client, Settings(task_queue=f"queue-{uuid.uuid4().hex[:8]}", workspace=workspace))


@pytest.fixture
def nursery(client: Client, workspace: Path) -> Iterator[Nursery]:
    with Nursery(address_of(client), workspace, heartbeat=1.0, agents=("tests.poison_agents",)) as workers:
        yield workers


@asynccontextmanager
async def always_one(nursery: Nursery, queue: World) -> AsyncIterator[list[int]]:
    """A worker that is replaced as soon as it dies, as an operator's deployment does; gives their process ids."""
    workers = [nursery.fork(queue.settings.task_queue)]

    async def replace() -> None:
        while True:
            if nursery.has_died(workers[-1]):
                workers.append(nursery.fork(queue.settings.task_queue))
            await asyncio.sleep(0.05)

    replacing = asyncio.create_task(replace())
    try:
        yield workers
    finally:
        replacing.cancel()
        with suppress(asyncio.CancelledError):
            await replacing


async def test_a_tool_that_kills_is_asked_about(queue: World, nursery: Nursery) -> None:
    """Whatever it was declared. After a `retry` the next death asks at once, and it goes on when it is cured."""
    async with always_one(nursery, queue) as workers:
        run = await queue.start("poison", "go", options={"in": "tool"})
        asked = (await run.reaches("waiting", approvals=1)).approvals[0]
        assert (asked.name, asked.tool) == ("in-doubt", "step")
        assert f"{MOST_DEATHS} workers died while this call ran" in asked.reason["message"]
        # Of the first it may not be known where it died.
        died = [int(worker.partition("@")[0]) for worker in asked.reason["died_on"]]
        assert died in (workers[:MOST_DEATHS], workers[1 : MOST_DEATHS + 1])
        deaths = counted(queue.workspace, run.id)["died tool"]
        assert deaths in (MOST_DEATHS, MOST_DEATHS + 1)
        await run.handle.signal("respond", {"approval": 1, "response": "retry"})

        async def again() -> RunStatus | None:
            status = await run.reaches("waiting", approvals=1)
            return status if status.approvals[0].number == 2 else None

        asked = (await until(again, what="the second question")).approvals[0]
        assert asked.name == "in-doubt"
        assert counted(queue.workspace, run.id)["died tool"] <= deaths + 2
        (queue.workspace / "poison").unlink()
        await run.handle.signal("respond", {"approval": 2, "response": "retry"})
        await run.result()
    assert counted(queue.workspace, run.id)["step 1"] == 1


@pytest.mark.parametrize("between", ["nothing", "a worker that lacks the agent"])
def test_attempts_in_between_hide_no_death(between: str) -> None:
    """The server may give a turn to a worker that has just died, or that cannot run it: no death is forgotten."""
    record: JsonObject = {
        "kept": 0,
        "messages": [],
        "state": {"agent": {}},
        "usage": {},
        "begun": False,
        "new_ids": [],
        "calls": {},
    }
    left: object = None
    for number in range(1, 2 * MOST_DEATHS, 2):
        journal = Journal(record, {})
        past = Attempts(left, number, f"{number}@here", journal, timedelta(0))
        left = next(iter(past.read()), None)
        died_on = journal.calls["x"].died_on if journal.calls else []
        started = Call("step", "2026-01-01", f"{number}@here", attempt=number, died_on=died_on)
        record = record | {"calls": {"x": started.as_json()}}
        if between != "nothing":
            journal = Journal(record, {})
            past = Attempts(left, number + 1, "lacking@here", journal, timedelta(0))
            past.fails()
            record, left = journal.read()[1] or {}, next(iter(past.read()), None)
    journal = Journal(record, {})
    Attempts(left, 2 * MOST_DEATHS + 1, "new@here", journal, timedelta(0))
    assert len(journal.calls["x"].died_on) == MOST_DEATHS


def test_an_attempt_that_reports_its_end_has_killed_nobody() -> None:
    journal = Journal(None, {"x": Call("step", "2026-01-01", "1@here", attempt=1).as_json()})
    Attempts(None, 1, "1@here", journal, timedelta(0)).fails()
    assert journal.unfinished()["x"].get("attempt", 0) == 0
    journal = Journal(None, {"x": journal.calls["x"].as_json()})
    Attempts(None, 3, "3@here", journal, timedelta(0))
    assert journal.calls["x"].died_on == []


@pytest.mark.parametrize(
    ("where", "words"),
    [
        ("factory", "in its agent's factory"),
        ("model", "while its model was called"),
        ("hook", "in one of its hooks"),
    ],
)
async def test_a_turn_that_kills_anywhere_else_is_parked(
    where: str, words: str, queue: World, nursery: Nursery
) -> None:
    """It says how many workers died, which and where, and `retry` goes on when it is cured."""
    async with always_one(nursery, queue) as workers:
        run = await queue.start("poison", "go", options={"in": where})
        status = await run.reaches("parked")
        problem = status.problem or ""
        assert problem.startswith(f"{MOST_DEATHS} workers in a row died")
        assert words in problem
        assert all(f"{pid}@" in problem for pid in workers[2:MOST_DEATHS])
        assert counted(queue.workspace, run.id)[f"died {where}"] in (MOST_DEATHS, MOST_DEATHS + 1)
        (queue.workspace / "poison").unlink()
        await run.handle.signal("retry")
        await run.result()
    assert counted(queue.workspace, run.id)["step 1"] == 1


async def test_whoever_is_beside_it_is_not_blamed(queue: World, nursery: Nursery) -> None:
    """Their turns die with it each time, in the same tool and the same model call; they go on, and ask nobody."""
    (queue.workspace / "hold").touch()
    async with always_one(nursery, queue):
        bystanders = [
            await queue.start("bystander", "go", options={"in": where}) for where in ("tool", "model") for _ in range(2)
        ]

        async def at_work() -> bool:
            return all(counted(queue.workspace, run.id)["work start"] for run in bystanders[:2])

        await until(at_work, what="the bystanders to be at work")
        run = await queue.start("poison", "go", options={"in": "tool"})

        async def waits() -> RunStatus | None:
            with suppress(TemporalError):
                status = await run.status()
                return status if status.approvals else None
            return None

        # Each of the others may live beside it for a while first.
        asked = (await until(waits, what="the poison to be asked about", patience=300)).approvals[0]
        assert (asked.name, asked.tool) == ("in-doubt", "step")
        states = await asyncio.gather(*map(StartedRun.status, bystanders))
        assert [(status.state, status.approvals) for status in states] == [("running", [])] * len(bystanders)
        (queue.workspace / "hold").unlink()
        results = await asyncio.gather(*map(StartedRun.result, bystanders))
    assert [len(result.approvals) for result in results] == [0] * len(bystanders)
