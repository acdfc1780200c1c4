"""Calls of a run that was reset: what the execution before may have run does not run again without a new question.

The server gives a reset execution a part of another's history and the answers that came after that part. What ran then
ran all the same, so an answer counts for a once-only call only if its question was asked since.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from strands.interrupt import Interrupt, InterruptException
from temporalio.api.enums.v1 import WorkflowTaskFailedCause
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from abeyance.contracts import TurnInput
from abeyance.yes_no import meaning
from activities.questions import RESET
from activities.strands_adapter import interrupt_ids

MOST_KNOWN = 1_000


@dataclass(frozen=True)
class AfterReset:
    """That a turn's run was reset.

    Attributes:
        execution: the run id, in Temporal's sense, of the execution that runs the turn.
        of: that of the execution whose history it goes on from.
        at: when it was reset, ISO 8601; `None` if that is not known.
        since: the ids of the answered interrupts that were asked since.
    """

    execution: str
    of: str
    at: str | None
    since: frozenset[str]

    def require_asked(self, tool_use_id: str, interrupts: Mapping[str, Interrupt]) -> None:
        """See to it that a person was asked about a call since the reset.

        Args:
            tool_use_id: of a once-only call that is about to run.
            interrupts: those of its agent.

        Raises:
            InterruptException: if nobody was, to ask.
        """
        if any(interrupt_ids.parse(asked).is_about(tool_use_id) for asked in self.since):
            return
        asked = interrupt_ids.of_middleware(tool_use_id, f"{RESET}:{self.execution}")
        answered = interrupts.get(asked)
        if answered is None or meaning(answered.response) is not True:
            raise InterruptException(Interrupt(asked, RESET, self._reason()))

    def _reason(self) -> dict[str, object]:
        when = f" at {self.at}" if self.at else ""
        return {
            "message": f"The run was reset{when}. The execution before, {self.of}, may have run this call already; "
            "this one has not.",
            "reset_at": self.at,
            "of": self.of,
            "options": {"y": "run it", "n": "do not run it, and tell the model so"},
        }


class Resets:
    """Finds out on one worker which resets an execution's history has gone through."""

    def __init__(self) -> None:
        self._known: dict[str, list[tuple[str, str, bool]]] = {}

    async def before(self, turn: TurnInput, client: Client, run: str, execution: str) -> AfterReset | None:
        """What the turn has to know of its run's reset, `None` if there was none. Others cost no look at a history.

        Args:
            turn: what its workflow says. A turn that was at work at the reset comes with the words from before.
            client: reads the history.
            run: the workflow id.
            execution: the run id, in Temporal's sense, of the execution that calls.
        """
        moved = turn.execution not in ("", execution)
        if not moved and not turn.reset_of:
            return None
        resets = list[tuple[str, str, bool]]()
        if moved or turn.resets is not None:
            resets = await self._find(client, run, execution)
        at, of, _ = resets[-1] if resets else (None, turn.reset_of or turn.execution, True)
        # The workflow may have passed fewer than there are: an answer that is sent again is handled before the mark.
        marks = sum(marked for _, _, marked in resets)
        late = moved or (turn.resets is not None and not (resets and marks <= turn.resets))
        asked = frozenset(response.id for response in turn.responses or [] if not (late or response.stale))
        return AfterReset(execution, of, at, asked)

    async def _find(self, client: Client, run: str, execution: str) -> list[tuple[str, str, bool]]:
        """When each reset was, of which execution, and whether its workflow counts it; empty if nobody may look."""
        if execution in self._known:
            return self._known[execution]
        found, worked = list[tuple[str, str, bool]](), False
        try:
            async for event in client.get_workflow_handle(run, run_id=execution).fetch_history_events():
                worked |= event.HasField("workflow_task_completed_event_attributes")
                failed = event.workflow_task_failed_event_attributes
                if failed.cause == WorkflowTaskFailedCause.WORKFLOW_TASK_FAILED_CAUSE_RESET_WORKFLOW:
                    at = event.event_time.ToDatetime().isoformat(timespec="seconds") + "+00:00"
                    found.append((at, failed.base_run_id, worked))
        except RPCError as error:
            if error.status not in (RPCStatusCode.PERMISSION_DENIED, RPCStatusCode.NOT_FOUND):
                raise
            return []
        self._known[execution] = found
        if len(self._known) > MOST_KNOWN:
            del self._known[next(iter(self._known))]
        return found
