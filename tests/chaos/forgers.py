"""Workflows of others that call a run's activities in its name, and runs that begin with what others carried."""

from __future__ import annotations

import asyncio
import random
import uuid
from contextlib import suppress
from dataclasses import asdict
from datetime import timedelta
from typing import Any

from temporalio import workflow
from temporalio.client import Client, WorkflowExecutionDescription
from temporalio.common import RetryPolicy
from temporalio.exceptions import ActivityError
from temporalio.service import RPCError

from abeyance.contracts import LOAD_SESSION, TURN_ACTIVITY, WORKFLOW_TYPE, TurnInput

FORGERS_QUEUE = "chaos-forgers"


@workflow.defn(name="Forger", sandboxed=False)
class Forger:
    """Calls an activity of another queue with what it was given, and tells what came of it."""

    @workflow.run
    async def run(self, queue: str, name: str, arguments: list[Any]) -> str:
        try:
            result = await workflow.execute_activity(
                name,
                args=arguments,
                task_queue=queue,
                start_to_close_timeout=timedelta(seconds=60),
                schedule_to_close_timeout=timedelta(seconds=120),
                heartbeat_timeout=timedelta(seconds=1),
                retry_policy=RetryPolicy(maximum_attempts=4),
            )
        except ActivityError as error:
            return f"refused with {getattr(error.cause, 'type', None) or type(error.cause).__name__}"
        return f"believed: {str(result)[:200]}"


@workflow.defn(name=WORKFLOW_TYPE, sandboxed=False)
class FalseRun(Forger):
    """The same under the name of the right workflow."""

    @workflow.run
    async def run(self, queue: str, name: str, arguments: list[Any]) -> str:
        return await super().run(queue, name, arguments)


async def forge(client: Client, description: WorkflowExecutionDescription) -> str:
    """Try one forgery against a run; gives which, and whether it was believed."""
    return await random.choice([_as_activity, _as_activity, _as_second_argument])(client, description)


async def _as_activity(client: Client, description: WorkflowExecutionDescription) -> str:
    """Another workflow runs the run's first turn once more, or reads a session in its name."""
    which = random.choice(["Forger", WORKFLOW_TYPE])
    turn = asdict(TurnInput(run_id=description.id, agent="chaos", number=1, prompt="go"))
    name, arguments = random.choice([(TURN_ACTIVITY, [turn]), (LOAD_SESSION, ["somebody's", "chaos"])])
    handle = await client.start_workflow(
        which,
        args=[description.task_queue, name, arguments],
        id=f"forger-{uuid.uuid4().hex[:8]}",
        task_queue=FORGERS_QUEUE,
    )
    return f"{name} called by a workflow {which!r}: {str(await handle.result()).split(':')[0]}"


async def _as_second_argument(client: Client, description: WorkflowExecutionDescription) -> str:
    """A run that a cron schedule repeats is started with what an execution hands to the next."""
    again = asdict(TurnInput(run_id="", agent="chaos", number=7, prompt="go"))
    carried = {
        "state": {"turn": 7, "again": again, "problem": "forged", "verdict": "retry"},
        "story": {"prompt": "forged"},
    }
    cron = random.choice(["@every 1s", ""])
    handle = await client.start_workflow(
        WORKFLOW_TYPE,
        args=[{"agent": "chaos", "prompt": "go"}, carried],
        id=f"forged-{uuid.uuid4().hex[:8]}",
        task_queue=description.task_queue,
        cron_schedule=cron,
    )
    believed = False
    for _ in range(20):
        await asyncio.sleep(0.3)
        with suppress(RPCError):
            seen = await handle.describe()
            # That its past is looked into is no belief yet.
            pending = seen.raw_description.pending_activities
            believed |= any(activity.activity_type.name == TURN_ACTIVITY for activity in pending)
    with suppress(RPCError):
        await handle.terminate("a forgery")
    door = "a second argument and a cron schedule" if cron else "a second argument"
    return f"started with {door}: {'believed' if believed else 'refused'}"
