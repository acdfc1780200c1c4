"""What a turn is doing right now, read from the journal in its heartbeats: no worker is asked."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from temporalio.api.enums.v1 import PendingActivityState
from temporalio.api.workflow.v1 import PendingActivityInfo
from temporalio.client import Client, WorkflowExecutionDescription

from abeyance.contracts import TURN_ACTIVITY, Ran, Usage


@dataclass(frozen=True)
class RunningTool:
    """A tool call at work: its name, its tool-use id, when it started (ISO 8601) and how often it was started."""

    tool: str
    id: str
    started_at: str
    starts: int


@dataclass(frozen=True)
class Progress:
    """A turn that has not ended.

    Attributes:
        state: "started", "scheduled" (no worker has it), "paused" or "cancel_requested".
        attempt: which attempt this is, from 1.
        worker: the identity of the worker that has it, or had it last.
        messages: how many messages are new in this turn.
        last_words: the text of the latest message of the model, "" if it has none.
        running: the tool calls at work.
        ran: those before them, but for the batch that is at work.
        usage: what the turn's model calls have cost so far.
        failure: why the last attempt failed, or `None`.
        next_try: when the next attempt starts (ISO 8601), or `None` if one is under way.
    """

    state: str
    attempt: int
    worker: str
    messages: int = 0
    last_words: str = ""
    running: list[RunningTool] = field(default_factory=list)
    ran: list[Ran] = field(default_factory=list)
    usage: Usage = field(default_factory=Usage)
    failure: str | None = None
    next_try: str | None = None


async def progress_of(client: Client, description: WorkflowExecutionDescription) -> Progress | None:
    """The turn that a run is in, or `None` if it is in none.

    Args:
        client: whose data converter reads the heartbeats.
        description: of the run, as new as the answer is to be.
    """
    turns = [p for p in description.raw_description.pending_activities if p.activity_type.name == TURN_ACTIVITY]
    if not turns:
        return None
    pending = turns[0]
    record = await _record(client, pending)
    messages = record.get("messages", [])
    return Progress(
        state=PendingActivityState.Name(pending.state).removeprefix("PENDING_ACTIVITY_STATE_").lower(),
        attempt=pending.attempt,
        worker=pending.last_worker_identity,
        messages=len(messages),
        last_words=_last_words(messages),
        running=[
            RunningTool(call["tool"], key, call["started_at"], call["starts"])
            for key, call in record.get("calls", {}).items()
            if call["running"]
        ],
        ran=[Ran(**told) for told in record.get("work", {}).get("ran", [])],
        usage=Usage(**record["usage"]) if "usage" in record else Usage(),
        failure=await _failure(client, pending),
        next_try=_next_try(pending),
    )


async def _record(client: Client, pending: PendingActivityInfo) -> dict[str, Any]:
    if not pending.HasField("heartbeat_details"):
        return {}
    details = await client.data_converter.decode(pending.heartbeat_details.payloads)
    return details[0] if details and isinstance(details[0], dict) else {}


async def _failure(client: Client, pending: PendingActivityInfo) -> str | None:
    if not pending.HasField("last_failure"):
        return None
    failure = await client.data_converter.decode_failure(pending.last_failure)
    return str(failure)


def _next_try(pending: PendingActivityInfo) -> str | None:
    if pending.state != PendingActivityState.PENDING_ACTIVITY_STATE_SCHEDULED or not pending.HasField("scheduled_time"):
        return None
    when = pending.scheduled_time.ToDatetime(UTC)
    return when.isoformat(timespec="seconds") if when > datetime.now(UTC) else None


def _last_words(messages: list[dict[str, Any]]) -> str:
    for message in reversed(messages):
        if message["role"] == "assistant":
            return " ".join(block["text"] for block in message["content"] if "text" in block)
    return ""
