"""What operators and strangers do to a run from outside."""

from __future__ import annotations

import asyncio
import random
import uuid
from contextlib import suppress
from functools import cache
from typing import Any

from temporalio.api.common.v1 import Payload, WorkflowExecution
from temporalio.api.workflowservice.v1 import (
    PauseActivityRequest,
    ResetWorkflowExecutionRequest,
    UnpauseActivityRequest,
)
from temporalio.client import AsyncActivityHandle, Client, WorkflowExecutionDescription
from temporalio.common import RawValue
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError

from tests.messages import Message, generated, verdicts

COMPLETED: list[Any] = [
    *["done", None, {}, [], 0, True, "", "x" * 300_000],
    {"stop_reason": "end_turn"},
    {"stop_reason": "end_turn", "message": "Done.", "conversation": "nobody's", "delta": {}},
    {"stop_reason": "checkpoint", "message": "", "conversation": "", "delta": {"messages": []}},
    {"stop_reason": "interrupt", "message": "", "conversation": "x", "delta": {}, "questions": [{"id": "v1:x"}]},
    RawValue(Payload(metadata={"encoding": b"binary/unknown"}, data=b"\x00")),
    RawValue(Payload(metadata={"encoding": b"json/plain"}, data=b"{")),
    RawValue(Payload(metadata={"encoding": b"binary/encrypted", "encryption-key-id": b"nobodys"}, data=b"\x01" * 60)),
]
FAILED: list[Exception] = [
    RuntimeError("failed by hand"),
    ApplicationError("failed by hand", non_retryable=True),
    ApplicationError("forged", {"messages": []}, True, ["x"], {"attempt": 9}, type="AgentError", non_retryable=True),
    ApplicationError("forged", None, "yes", 5, type="AgentError", non_retryable=True),
    ApplicationError("forged", "x" * 100_000, type="WorkerStopped"),
]


def summed_up(value: Any) -> str:
    """A few characters that say what it is."""
    return repr(value)[:60].replace("\n", " ")


def activity_of(client: Client, description: WorkflowExecutionDescription) -> AsyncActivityHandle | None:
    """The activity that the run waits for."""
    pending = description.raw_description.pending_activities
    if not pending:
        return None
    return client.get_async_activity_handle(
        workflow_id=description.id, run_id=description.run_id, activity_id=pending[0].activity_id
    )


async def complete_by_hand(client: Client, description: WorkflowExecutionDescription) -> str | None:
    """Complete, fail or cancel the run's activity as `temporal activity` does; gives how, if there was one."""
    handle = activity_of(client, description)
    if not handle:
        return None
    how = random.choice(["complete", "complete", "fail", "cancel"])
    if how == "complete":
        result = random.choice(COMPLETED)
        await handle.complete(result)
        return f"completed with {summed_up(result)}"
    if how == "fail":
        failure = random.choice(FAILED)
        await handle.fail(failure)
        return f"failed with {summed_up(failure)}"
    await handle.report_cancellation()
    return "cancelled"


async def pause(client: Client, description: WorkflowExecutionDescription) -> str | None:
    """Pause the run's activity, and let it go on a second later."""
    pending = description.raw_description.pending_activities
    if not pending:
        return None
    execution = WorkflowExecution(workflow_id=description.id, run_id=description.run_id)
    which: dict[str, Any] = {"namespace": client.namespace, "execution": execution, "id": pending[0].activity_id}
    await client.workflow_service.pause_activity(PauseActivityRequest(**which, identity="operator"))

    async def go_on() -> None:
        for seconds in (1, 4):
            await asyncio.sleep(seconds)
            with suppress(RPCError):
                await client.workflow_service.unpause_activity(UnpauseActivityRequest(**which, identity="operator"))

    task = asyncio.create_task(go_on())
    _KEPT.add(task)
    task.add_done_callback(_KEPT.discard)
    return "paused"


_KEPT: set[asyncio.Task[None]] = set()


async def reset(client: Client, description: WorkflowExecutionDescription) -> str | None:
    """Reset the run to one of its workflow tasks, of the latest ones most often."""
    handle = client.get_workflow_handle(description.id, run_id=description.run_id)
    events = (await handle.fetch_history()).events
    tasks = [event.event_id for event in events if event.HasField("workflow_task_completed_event_attributes")]
    if len(tasks) < 2:
        return None
    at = random.choice(tasks if random.random() < 0.4 else tasks[-3:])
    await client.workflow_service.reset_workflow_execution(
        ResetWorkflowExecutionRequest(
            namespace=client.namespace,
            workflow_execution=WorkflowExecution(workflow_id=description.id, run_id=description.run_id),
            reason="chaos",
            workflow_task_finish_event_id=at,
            request_id=str(uuid.uuid4()),
        )
    )
    return f"reset, {'open' if description.close_time is None else 'ended'}"


@cache
def junk_signals() -> list[Message]:
    """Signals that decide nothing, whatever is open."""
    answers = ("approve", "deny", "respond")
    signals = [message for message in generated(2_000, 300) if message.kind == "signal" and message.name not in answers]
    return [message for message in signals if not any(verdicts(message, [], parked=True))]


async def send_junk(client: Client, description: WorkflowExecutionDescription) -> str | None:
    """Send the run some signals that mean nothing."""
    handle = client.get_workflow_handle(description.id, run_id=description.run_id)
    for message in random.sample(junk_signals(), 5):
        await handle.signal(message.name, args=message.arguments)
    key = Payload(metadata={"encoding": b"binary/encrypted", "encryption-key-id": b"nobodys"}, data=b"\x01" * 60)
    await handle.signal("approve", RawValue(key))
    return "5 signals that mean nothing, and one under a key that nobody has"
