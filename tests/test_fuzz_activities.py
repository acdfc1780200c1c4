"""Odd starts: with more than one argument, with a cron schedule, with what an execution hands to the next."""

from __future__ import annotations

import asyncio
import os
import random
import uuid
from collections import Counter
from typing import Any

import pytest
from temporalio.api.common.v1 import Payload
from temporalio.client import WorkflowExecutionStatus
from temporalio.common import RawValue

from abeyance.contracts import WORKFLOW_TYPE
from tests.conftest import Start
from tests.messages import contents
from tests.support import PATIENCE, StartedRun, World, until

MESSAGES = int(os.environ.get("MESSAGES", "1000"))
RUNS = max(50, MESSAGES // 20)
AT_ONCE = 25
ENCODINGS = [b"json/plain"] * 8 + [b"binary/null", b"binary/plain", b"binary/unknown", b"json/protobuf", b"", b"\xff"]


def payload(lot: random.Random, known: list[bytes]) -> RawValue:
    return RawValue(Payload(metadata={"encoding": lot.choice(ENCODINGS)}, data=lot.choice(known)))


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
