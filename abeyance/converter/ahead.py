"""Queries that reach a run before its next workflow task, and must not carry it there."""

from __future__ import annotations

from collections.abc import Callable

from temporalio.bridge.proto.workflow_activation import WorkflowActivation
from temporalio.bridge.proto.workflow_completion import WorkflowActivationCompletion

Activate = Callable[[WorkflowActivation], WorkflowActivationCompletion]
Evict = Callable[[str], None]


class HistoryGuard:
    """Keeps the cached copy of one run from running ahead of its history.

    The server may send a query together with events that no workflow task has taken up yet, as it does while the next
    task waits for a worker that has died. The SDK applies these events in order to answer, and keeps the run as it then
    is, with commands that were never sent. Whatever comes in before the task has started is then applied by itself, and
    not together with them, as every replay does: a run whose next replay fails, or has lost an answer.

    Here such events are not applied. The query is answered with what the last completed task has left, which is what
    the memo and the search attributes show too, and the copy is dropped: the next task builds it anew from the history.

    Args:
        activate: of the instance that is guarded.
        evict: drops the copy of a run once what is at work in it has ended; it takes the run id.
    """

    def __init__(self, activate: Activate, evict: Evict):
        self._activate = activate
        self._evict = evict
        self._task: tuple[int, int, int] | None = None
        self._length = 0

    def activate(self, act: WorkflowActivation) -> WorkflowActivationCompletion:
        """What the instance makes of an activation, or nothing, if no workflow task stands behind it."""
        if all(job.HasField("query_workflow") or job.HasField("remove_from_cache") for job in act.jobs):
            return self._activate(act)
        # Both are set by the event that starts a task, and by nothing else.
        task = (act.timestamp.seconds, act.timestamp.nanos, act.history_size_bytes)
        ahead = not act.is_replaying and task == self._task and not self._goes_on(act)
        self._task, self._length = task, act.history_length
        if not ahead:
            return self._activate(act)
        self._evict(act.run_id)
        if not act.history_size_bytes:
            # A server that tells no sizes may have started two tasks in one tick of its clock.
            return self._activate(act)
        completion = WorkflowActivationCompletion()
        completion.successful.SetInParent()
        return completion

    def _goes_on(self, act: WorkflowActivation) -> bool:
        """Whether this is the second half of a task: what was cancelled in it resolves at once, without an event."""
        return act.history_length == self._length and all(job.HasField("resolve_activity") for job in act.jobs)
