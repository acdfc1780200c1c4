"""Odd results, failures and heartbeats of a run's activity, as whoever may write to the namespace can send them.

And odd starts: with more than one argument, with a cron schedule, with what an execution hands to the next. No run is
stuck by any of it: one that is parked goes on when it is told to, and a start that is none fails and says why.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest
from temporalio.api.common.v1 import Payload, WorkflowExecution
from temporalio.api.workflowservice.v1 import ResetWorkflowExecutionRequest
from temporalio.client import AsyncActivityHandle, WorkflowExecutionStatus, WorkflowHandle
from temporalio.common import RawValue
from temporalio.exceptions import ApplicationError, TemporalError
from temporalio.service import RPCError

from abeyance.contracts import WORKFLOW_TYPE
from tests.chaos.acts import COMPLETED, FAILED
from tests.conftest import Start
from tests.journal_agents import counted
from tests.messages import contents
from tests.support import PATIENCE, StartedRun, World, until

MESSAGES = int(os.environ.get("MESSAGES", "1000"))
RUNS = max(50, MESSAGES // 20)
AT_ONCE = 25
ENCODINGS = [b"json/plain"] * 8 + [b"binary/null", b"binary/plain", b"binary/unknown", b"json/protobuf", b"", b"\xff"]


def payload(lot: random.Random, known: list[bytes]) -> RawValue:
    return RawValue(Payload(metadata={"encoding": lot.choice(ENCODINGS)}, data=lot.choice(known)))


def injections(lot: random.Random) -> list[Callable[[AsyncActivityHandle], Awaitable[None]]]:
    """What is done to an activity by hand."""
    known = contents(500)

    async def heartbeat_and_fail(handle: AsyncActivityHandle) -> None:
        # What the next attempt finds as its record is no record.
        await handle.heartbeat(payload(lot, known))
        await handle.fail(ApplicationError("by hand"))

    return [
        lambda handle: handle.complete(payload(lot, known)),
        lambda handle: handle.complete(payload(lot, known)),
        lambda handle: handle.complete(lot.choice(COMPLETED)),
        lambda handle: handle.fail(lot.choice(FAILED)),
        lambda handle: handle.fail(ApplicationError("by hand", payload(lot, known), non_retryable=True)),
        lambda handle: handle.fail(RuntimeError("by hand"), last_heartbeat_details=[payload(lot, known)]),
        lambda handle: handle.report_cancellation(payload(lot, known)),
        heartbeat_and_fail,
    ]


@pytest.mark.timeout(3_600)
async def test_odd_results_of_activities(start_world: Start) -> None:
    """Whatever ends a run's activity by hand, the run can be told to go on, and comes to its end."""
    lot, began, ended = random.Random(RUNS), time.monotonic(), Counter[str]()
    async with start_world(max_cached_workflows=0) as world:
        for start in range(0, RUNS, AT_ONCE):
            (world.workspace / "hold").touch()
            runs = [await world.start("held", "go") for _ in range(min(AT_ONCE, RUNS - start))]
            await asyncio.gather(*(at_work(world, run) for run in runs))
            for run in runs:
                handle = world.client.get_async_activity_handle(
                    workflow_id=run.id, run_id=run.handle.first_execution_run_id, activity_id="1"
                )
                with suppress(RPCError):
                    await lot.choice(injections(lot))(handle)
            (world.workspace / "hold").unlink()
            ended.update(await asyncio.gather(*(comes_to_an_end(run) for run in runs)))
    print(f"{RUNS} activities ended by hand: {dict(ended)}, {time.monotonic() - began:.0f} s")


async def at_work(world: World, run: StartedRun) -> None:
    async def look() -> bool:
        return bool(counted(world.workspace, run.id)["work start 1"])

    await until(look, what=f"{run.id} to be at work")


async def comes_to_an_end(run: StartedRun) -> str:
    """Tell the run to go on as often as it is parked, and answer it; gives how it has ended.

    One that was told something under a key that nobody has is reset, as `doctor` says.
    """
    told = [0]
    handle = run.handle._client.get_workflow_handle(run.id)

    async def look() -> str | None:
        description = await handle.describe()
        if description.status != WorkflowExecutionStatus.RUNNING:
            return str(description.status and description.status.name.lower())
        with suppress(TemporalError):
            await reset_if_sealed(handle)
            status = await handle.query("status", rpc_timeout=timedelta(seconds=10))
            for approval in status["approvals"]:
                await handle.signal("deny", approval["number"])
            if status["state"] == "parked":
                told[0] += 1
                await handle.signal("retry" if told[0] < 10 else "abort")
        return None

    try:
        ended = await until(look, what=f"{run.id} to end")
    except AssertionError as error:
        history = (await handle.fetch_history()).events
        raise AssertionError(f"{error}; its latest events: {history[-6:]}") from error
    return f"{ended}{' after retry' if told[0] else ''}"


async def reset_if_sealed(handle: WorkflowHandle[Any, Any]) -> None:
    """Reset a run whose workflow tasks fail for want of the key that its activity's result names.

    When a query comes while the task fails, the SDK may complete its next attempt with nothing in it, and the run
    stands still with no task at all until it is sent something.
    """
    events = (await handle.fetch_history()).events
    failures = [event.workflow_task_failed_event_attributes.failure.message for event in events[-6:]]
    if not any("which is not known here" in message for message in failures):
        return
    before = next(event.event_id for event in events if event.HasField("workflow_task_completed_event_attributes"))
    await handle._client.workflow_service.reset_workflow_execution(
        ResetWorkflowExecutionRequest(
            namespace=handle._client.namespace,
            workflow_execution=WorkflowExecution(workflow_id=handle.id),
            reason="forged",
            workflow_task_finish_event_id=before,
            request_id=str(uuid.uuid4()),
        )
    )


@pytest.mark.timeout(3_600)
async def test_odd_starts(start_world: Start) -> None:
    """A start that is no request fails at once, however many arguments it has and whatever stands in them."""
    lot, known, ended = random.Random(RUNS), contents(500), Counter[str]()
    request: dict[str, Any] = {"agent": "held", "prompt": "go"}
    state = {"turn": 3, "problem": "x", "verdict": "retry", "again": {"run_id": "x", "agent": "held", "number": 3}}
    carried: list[Any] = [{"state": state, "story": {"prompt": "x"}}, {"state": {}}, {}, [], "x", None, 5]
    async with start_world(max_cached_workflows=0) as world:

        async def one(n: int) -> str:
            seconds = [*carried, payload(lot, known)]
            arguments: list[Any] = [lot.choice([request, payload(lot, known)]), lot.choice(seconds)]
            if lot.random() < 0.3:
                arguments = [payload(lot, known) for _ in range(lot.choice([0, 1, 3]))]
            handle = await world.client.start_workflow(
                WORKFLOW_TYPE,
                args=arguments,
                id=f"odd-{n}-{uuid.uuid4().hex[:8]}",
                task_queue=world.settings.task_queue,
                cron_schedule="@every 1s" if n % 10 == 0 else "",
            )
            if n % 10 == 0:
                return await repeated(world, StartedRun(handle))
            return await until(lambda: closed(StartedRun(handle)), what=f"{handle.id} to end: {arguments}")

        for start in range(0, RUNS, AT_ONCE):
            ended.update(await asyncio.gather(*(one(n) for n in range(start, min(RUNS, start + AT_ONCE)))))
    print(f"{RUNS} odd starts: {dict(ended)}")
    assert set(ended) <= {"failed", "repeated and failed"}


async def closed(run: StartedRun) -> str | None:
    description = await run.handle.describe()
    open_ = description.status in (None, WorkflowExecutionStatus.RUNNING)
    return None if open_ or not description.status else description.status.name.lower()


async def repeated(world: World, run: StartedRun) -> str:
    """Wait until a cron schedule has repeated the run, which then has an execution before it; gives what it did."""
    handle = world.client.get_workflow_handle(run.id)

    async def look() -> bool:
        return (await handle.describe()).run_id != run.handle.first_execution_run_id

    await until(look, what=f"{run.id} to be repeated", patience=PATIENCE)
    before = (await handle.describe()).run_id

    async def again() -> bool:
        return (await handle.describe()).run_id != before

    await until(again, what=f"{run.id} to be repeated once more", patience=PATIENCE)
    events = await world.client.get_workflow_handle(run.id, run_id=before).fetch_history()
    await handle.terminate()
    ran = [e for e in events.events if e.HasField("activity_task_scheduled_event_attributes")]
    names = {event.activity_task_scheduled_event_attributes.activity_type.name for event in ran}
    return "repeated and failed" if "run_turn" not in names else "repeated and ran a turn"
