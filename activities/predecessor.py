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

from abeyance.contracts import VERIFY, WORKFLOW_TYPE
from abeyance.errors import ConfigurationError
from activities.callers import require_caller
from activities.failures import as_application_error


@activity.defn(name=VERIFY)
async def verify_predecessor() -> str:
    """Compare what the execution was started with to what the one before has continued as new with.

    That one has verified its own predecessor before it did anything, so one look is enough.

    Returns:
        What is wrong with it, as a sentence, or "".
    """
    run, execution = require_caller()
    try:
        return await _flaw(run, execution)
    except Exception as error:
        raise as_application_error(error, activity.info().attempt) from error


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
