"""What a worker tells its workflows beside their input.

These values reach only what a replay does not compare: attributes of commands, and what the Temporal UI shows. So they
may differ between workers and change between deployments.
"""

from __future__ import annotations

from dataclasses import dataclass

from temporalio import workflow
from temporalio.worker import Interceptor, WorkflowInboundInterceptor, WorkflowInterceptorClassInput

NAME = "abeyance_worker_settings"


@dataclass(frozen=True)
class WorkerSettings:
    """A worker's settings that its workflows use, as in `Settings`.

    Attributes:
        heartbeat_timeout: how many seconds a silent worker is believed to live before its turn goes to another one.
        ui: where a browser finds the Temporal UI, without a slash at its end; empty if that is not known.
    """

    heartbeat_timeout: float
    ui: str = ""


UNTOLD = WorkerSettings(heartbeat_timeout=20.0)
"""What counts where no worker has told its settings, as in a replayer."""


class TellSettings(Interceptor):
    """Lets a worker's workflows ask for its settings."""

    def __init__(self, settings: WorkerSettings) -> None:
        self._settings = settings

    def workflow_interceptor_class(
        self,
        input: WorkflowInterceptorClassInput,  # noqa: A002 - as the SDK names it
    ) -> type[WorkflowInboundInterceptor] | None:
        """No interceptor: only the settings."""
        input.unsafe_extern_functions[NAME] = lambda: self._settings
        return None


def worker_settings() -> WorkerSettings:
    """The settings of the worker that runs the current workflow; `UNTOLD` if it tells none."""
    told = workflow.extern_functions().get(NAME)
    settings: WorkerSettings = told() if told else UNTOLD
    return settings
