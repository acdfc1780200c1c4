"""How a worker runs workflows: replays send nothing large, and queries change nothing."""

from __future__ import annotations

from temporalio.bridge.proto.workflow_activation import WorkflowActivation
from temporalio.bridge.proto.workflow_completion import WorkflowActivationCompletion
from temporalio.worker import UnsandboxedWorkflowRunner, WorkflowInstance, WorkflowInstanceDetails

from abeyance.converter.ahead import Evict, HistoryGuard
from abeyance.converter.senders import name_senders


class LightReplayRunner(UnsandboxedWorkflowRunner):
    """Runs workflows outside of the sandbox, and takes from the commands of a replay what is compared with nothing.

    Each replay of a run would else encode the inputs of all its turns once more and, as no encryption comes to the same
    bytes twice, store all of them anew.

    Attributes:
        evict: drops the worker's copy of a run. With it, no query can carry a run ahead of its history.
    """

    evict: Evict | None = None

    def create_instance(self, det: WorkflowInstanceDetails) -> WorkflowInstance:
        """The instance of one run."""
        instance = super().create_instance(det)
        activate = HistoryGuard(instance.activate, self.evict).activate if self.evict else instance.activate

        def light(act: WorkflowActivation) -> WorkflowActivationCompletion:
            put_signals_first(act)
            name_senders(act)
            completion = activate(act)
            if act.is_replaying:
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
            command.schedule_activity.ClearField("arguments")
        elif command.HasField("continue_as_new_workflow_execution"):
            command.continue_as_new_workflow_execution.ClearField("arguments")
        elif command.HasField("complete_workflow_execution"):
            command.complete_workflow_execution.ClearField("result")
