"""Which workflows may call this worker's activities: the run that the arguments are about, and nobody else.

Whoever may start workflows in the namespace can have any activity called, with any arguments. Temporal itself says
which workflow calls, so that is compared. An `AgentRun` on somebody else's worker is not told apart.
"""

from __future__ import annotations

from temporalio import activity
from temporalio.exceptions import ApplicationError

from abeyance.contracts import WORKFLOW_TYPE
from abeyance.session_names import session_run_id

FOREIGN_CALLER = "ForeignCaller"
"""The type of the refusal."""


def require_caller(*, run: str | None = None, session: str | None = None) -> tuple[str, str]:
    """See to it that the activity was scheduled by the run that it is about.

    Args:
        run: the workflow id that the arguments name, if they name one.
        session: the session that the activity is to read or write, if it is.

    Returns:
        The run's workflow id, and the run id, in Temporal's sense, of the execution that calls.

    Raises:
        ApplicationError: if it was not, never to be retried. Nothing has been read, written or run.
    """
    info = activity.info()
    namespace = activity.client().namespace
    caller = f"workflow {info.workflow_id!r} of type {info.workflow_type!r} in namespace {info.workflow_namespace!r}"
    wrong = None
    if not (info.workflow_id and info.workflow_run_id):
        wrong = "No workflow has scheduled it."
    elif info.is_local:
        wrong = f"The {caller} has called it as a local activity, which has no journal."
    elif info.workflow_type != WORKFLOW_TYPE or info.workflow_namespace != namespace:
        wrong = f"The {caller} has scheduled it."
    elif run is not None and run != info.workflow_id:
        wrong = f"Its arguments are those of run {run!r}, and the {caller} has scheduled it."
    elif session is not None and session_run_id(session) != info.workflow_id:
        wrong = f"Session {session!r} belongs to run {session_run_id(session)!r}, and the {caller} has scheduled it."
    if wrong:
        raise ApplicationError(
            f"The activity {info.activity_type!r} serves {WORKFLOW_TYPE} workflows of namespace {namespace!r} alone, "
            f"each for itself. {wrong} Nothing was done. Start a run instead.",
            type=FOREIGN_CALLER,
            non_retryable=True,
        )
    assert info.workflow_id and info.workflow_run_id
    return info.workflow_id, info.workflow_run_id
