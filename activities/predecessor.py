"""The activity `verify_predecessor`: whether an execution was really handed what it was given by the one before.

What a run carries into its next execution has all its approvals in it. Whoever may start workflows can give one a
second argument, and a cron schedule or a retry policy hands it on as it is. Only the server knows who started an
execution, and what the one before has ended with.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

from temporalio import activity
from temporalio.api.enums.v1 import ContinueAsNewInitiator
from temporalio.api.history.v1 import HistoryEvent, WorkflowExecutionStartedEventAttributes
from temporalio.client import WorkflowHistoryEventFilterType
from temporalio.service import RPCError, RPCStatusCode

from abeyance.contracts import VERIFY, WORKFLOW_TYPE, Handover
from abeyance.errors import AbeyanceError, ConfigurationError
from activities.callers import require_caller
from activities.failures import as_application_error

MOST_KNOWN = 1_000
"""Of how many executions a worker remembers that they were handed what they were given."""


class ForgedRecordError(AbeyanceError):
    """A run goes on from a record that no execution has handed over."""


@activity.defn(name=VERIFY)
async def verify_predecessor() -> Handover:
    """Compare what the execution was started with to what the one before has continued as new with.

    That one has verified its own predecessor before it did anything, so one look is enough.
    """
    run, execution = require_caller()
    try:
        return Handover(execution, await _flaw(run, execution))
    except Exception as error:
        raise as_application_error(error, activity.info().attempt) from error


class Handovers:
    """Sees to it on one worker that no turn runs on a record which nobody has handed over.

    Whoever may complete activities can complete `verify_predecessor` as well, so a turn does not rely on it.
    """

    def __init__(self) -> None:
        self._known: dict[str, None] = {}

    async def require(self, run: str, execution: str) -> None:
        """Look once for each execution whether it was handed what it was given.

        Args:
            run: the workflow id.
            execution: the run id, in Temporal's sense, of the execution that calls.

        Raises:
            ForgedRecordError: if it was not; nothing has run.
            ConfigurationError: if this worker may not look.
        """
        if execution in self._known:
            return
        if flaw := await _flaw(run, execution):
            raise ForgedRecordError(
                f"{flaw} So what this run goes on from is a forgery, and its turn has not run: abort the run."
            )
        self._known[execution] = None
        if len(self._known) > MOST_KNOWN:
            del self._known[next(iter(self._known))]


async def _flaw(run: str, execution: str) -> str:
    given = await _started(run, execution)
    before = given.continued_execution_run_id
    if given.initiator != ContinueAsNewInitiator.CONTINUE_AS_NEW_INITIATOR_WORKFLOW or not before:
        return "No execution has continued as new with it."
    if given.cron_schedule:
        return "It belongs to a cron schedule, which hands on whatever it was given."
    started = await _started(run, before)
    if started.workflow_type.name != WORKFLOW_TYPE:
        return f"The execution before, {before}, is a workflow of type {started.workflow_type.name!r}."
    if started.task_queue.name != given.task_queue.name:
        return f"The execution before, {before}, was run by workers of task queue {started.task_queue.name!r}."
    async for event in _events(run, before, closing=True):
        ended = event.workflow_execution_continued_as_new_event_attributes
        # The history of a reset execution begins with that of the one that was handed it.
        heir = given.original_execution_run_id or execution
        if ended.new_execution_run_id == heir and ended.input == given.input:
            return ""
    return f"The execution before, {before}, has not ended by handing over just that."


async def _started(run: str, execution: str) -> WorkflowExecutionStartedEventAttributes:
    async for event in _events(run, execution):
        return event.workflow_execution_started_event_attributes
    raise AssertionError("a history without a first event")


async def _events(run: str, execution: str, *, closing: bool = False) -> AsyncIterator[HistoryEvent]:
    """The first event of an execution, or the one with which it ended."""
    kind = WorkflowHistoryEventFilterType.CLOSE_EVENT if closing else WorkflowHistoryEventFilterType.ALL_EVENT
    handle = activity.client().get_workflow_handle(run, run_id=execution)
    try:
        async for event in handle.fetch_history_events(page_size=1, event_filter_type=kind):
            yield event
            return
    except RPCError as error:
        if error.status not in (RPCStatusCode.PERMISSION_DENIED, RPCStatusCode.NOT_FOUND):
            raise
        raise ConfigurationError(
            f"This worker cannot read the history of {run} (run id {execution}), so it cannot tell whether the run was "
            f"handed its record by the execution before: {error}. Nothing in that record counts until it can. Let the "
            "worker's credentials read histories and send retry, or abort the run."
        ) from error
