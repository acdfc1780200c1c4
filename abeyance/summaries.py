"""Runs as lists show them: from the visibility store, so that no worker is asked."""

from __future__ import annotations

from dataclasses import dataclass, field

from temporalio.client import WorkflowExecution, WorkflowExecutionStatus

from abeyance.attributes import word
from abeyance.contracts import (
    AGENT_MEMO,
    APPROVALS_MEMO,
    CANCELLED_MEMO,
    LISTENING_MEMO,
    OPEN,
    PROBLEM_MEMO,
    SINCE_MEMO,
    JsonObject,
)
from abeyance.errors import PayloadError


@dataclass(frozen=True)
class RunSummary:
    """A run as lists show it.

    `state` is "running", "waiting", "listening", "parked", or how it ended; times are ISO 8601, in UTC. `problem` says
    why it is parked, or why more cannot be told. `cancelled` says what the turn had done with which it was cancelled.
    """

    run: str
    agent: str
    state: str
    started_at: str
    approvals: list[JsonObject] = field(default_factory=list)
    problem: str | None = None
    parked_at: str | None = None
    cancelled: str | None = None


async def summarised(execution: WorkflowExecution) -> RunSummary:
    """What the server tells of a run, whether it lists or describes it."""
    unreadable = None
    try:
        memo = await execution.memo()
    except PayloadError as error:
        # One run that this client cannot read must not hide the others.
        memo, unreadable = {}, f"What it says of itself cannot be read here. {error}"
    approvals, problem = memo.get(APPROVALS_MEMO) or [], memo.get(PROBLEM_MEMO)
    state = (execution.status or WorkflowExecutionStatus.RUNNING).name.lower()
    if state == "running":
        idle = "listening" if memo.get(LISTENING_MEMO) else "running"
        state = "parked" if problem else "waiting" if approvals else idle
    elif state == "canceled":
        state = "cancelled"
    if state not in OPEN:
        approvals, problem, unreadable = [], None, None
    return RunSummary(
        run=execution.id,
        agent=memo.get(AGENT_MEMO) or "",
        state=state,
        started_at=execution.start_time.isoformat(timespec="seconds"),
        approvals=approvals,
        problem=problem or unreadable,
        parked_at=memo.get(SINCE_MEMO) if problem else None,
        cancelled=memo.get(CANCELLED_MEMO) if state == "cancelled" else None,
    )


def named(approvals: list[JsonObject], name: str) -> list[JsonObject]:
    """The approvals of that name, which may be cut as the search attributes cut it."""
    return [approval for approval in approvals if word(approval["name"]) == word(name)]
