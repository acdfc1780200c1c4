"""How a worker runs workflows: replays store nothing anew, and queries change nothing."""

from __future__ import annotations

from temporalio.bridge.proto.workflow_activation import WorkflowActivation
from temporalio.bridge.proto.workflow_completion import WorkflowActivationCompletion
from temporalio.worker import UnsandboxedWorkflowRunner, WorkflowInstance, WorkflowInstanceDetails

from abeyance.converter.ahead import Evict, HistoryGuard
from abeyance.converter.senders import name_senders
from abeyance.converter.storage import STORED_FROM


class LightReplayRunner(UnsandboxedWorkflowRunner):
    """Runs workflows outside of the sandbox, and takes from the commands of a replay what would be stored anew.

    No encryption comes to the same bytes twice, so that each replay would leave all large inputs in the storage once
    more. What is not stored is kept: where a workflow task was completed with nothing in it, as the SDK has been seen
    to do, the commands that a replay comes to are sent to the server after all.

    Args:
        stores: whether large payloads are kept beside Temporal.

    Attributes:
        evict: drops the worker's copy of a run. With it, no query can carry a run ahead of its history.
    """

    evict: Evict | None = None

    def __init__(self, *, stores: bool) -> None:
        super().__init__()
        self._stores = stores

    def create_instance(self, det: WorkflowInstanceDetails) -> WorkflowInstance:
        """The instance of one run."""
        instance = super().create_instance(det)
        activate = HistoryGuard(instance.activate, self.evict).activate if self.evict else instance.activate

        def light(act: WorkflowActivation) -> WorkflowActivationCompletion:
            put_signals_first(act)
            name_senders(act)
            completion = activate(act)
            if self._stores and act.is_replaying:
                _lighten(completion)
            return completion

        instance.activate = light  # type: ignore[method-assign]
        return instance


def put_signals_first(act: WorkflowActivation) -> None:
    """Have an activation's signals handled before its updates, as they always are in a replay.

    An update that a reset has given to the run once more comes before later signals the first time, and after them in
    each replay: a run that has handled them in that order cannot be replayed.
    """
    kinds = [job.WhichOneof("variant") for job in act.jobs]
    if "do_update" not in kinds or "signal_workflow" not in kinds[kinds.index("do_update") :]:
        return
    updates = [job for job in act.jobs if job.HasField("do_update")]
    others = [job for job in act.jobs if not job.HasField("do_update")]
    last = max(place for place, job in enumerate(others) if job.HasField("signal_workflow"))
    ordered = [*others[: last + 1], *updates, *others[last + 1 :]]
    del act.jobs[:]
    act.jobs.extend(ordered)


def _lighten(completion: WorkflowActivationCompletion) -> None:
    for command in completion.successful.commands:
        if command.HasField("schedule_activity"):
            payloads = command.schedule_activity.arguments
        elif command.HasField("continue_as_new_workflow_execution"):
            payloads = command.continue_as_new_workflow_execution.arguments
        else:
            continue
        if any(payload.ByteSize() >= STORED_FROM for payload in payloads):
            del payloads[:]
