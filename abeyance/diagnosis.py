"""What holds a run up, from what the server knows of it: no worker is asked."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.enums.v1 import EventType, PendingActivityState, PendingWorkflowTaskState, TaskQueueType
from temporalio.api.failure.v1 import Failure
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflow.v1 import PendingActivityInfo
from temporalio.api.workflowservice.v1 import DescribeTaskQueueRequest, GetWorkflowExecutionHistoryReverseRequest
from temporalio.client import Client, WorkflowExecutionDescription
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError

from abeyance.contracts import OPEN
from abeyance.errors import AbeyanceError
from abeyance.summaries import RunSummary, summarised

SILENT_SECONDS = 75
"""Polls last a minute: who has not polled for longer is gone, is deaf, or has no place for more work."""
LATE_SECONDS = 15
"""How long a task may wait for a worker: a dead worker's tasks are held for it for ten seconds."""
LAST_EVENTS = 50
LONGEST_FAILURE = 2_000
PROBLEMS = "TemporalReportedProblems"


RESULT_UNDER_UNKNOWN_KEY = "A payload is encrypted with the key "
"""How the failure of a workflow task begins that cannot read an activity's result; of signals and inputs it says so."""


@dataclass(frozen=True)
class Finding:
    """One thing that is known of a run.

    Attributes:
        kind: one of "task-fails", "turn-fails", "no-worker", "deaf-worker", "late", "paused", "parked", "unreadable",
            "stalled", "delayed", "waiting", "listening", "working", "ended".
        says: what is known, in sentences.
        cure: what to do.
        wrong: whether something has to be mended; a run that waits for its answer is in order.
    """

    kind: str
    says: str
    cure: str
    wrong: bool = True


@dataclass(frozen=True)
class Poller:
    """A worker as its task queue knows it: how many seconds ago it last polled for each kind of task, or `None`."""

    identity: str
    workflow_tasks: int | None = None
    activities: int | None = None

    @property
    def seconds(self) -> int:
        """How many seconds ago it last polled at all."""
        return min(seconds for seconds in (self.workflow_tasks, self.activities) if seconds is not None)


@dataclass(frozen=True)
class Diagnosis:
    """All that is known of what holds a run up, what is wrong first."""

    run: str
    state: str
    task_queue: str
    workers: list[Poller] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)

    @property
    def wrong(self) -> list[Finding]:
        """What has to be mended."""
        return [finding for finding in self.findings if finding.wrong]

    @property
    def words(self) -> str:
        """Why no worker answers, and what to do, in one paragraph."""
        found = self.wrong or [finding for finding in self.findings if finding.kind == "delayed"]
        if found:
            return " ".join(f"{finding.says} {finding.cure}" for finding in found)
        polls = ", ".join(f"{worker.identity} ({_ago(worker.workflow_tasks)})" for worker in self.workers)
        return (
            f"On its task queue {self.task_queue!r} there is {polls}. It may be busy, or have died since. Try again; "
            f"if nothing changes within {SILENT_SECONDS} seconds, look again with `starter.py doctor {self.run}`."
        )


async def diagnose(client: Client, run: str, own_queue: str) -> Diagnosis:
    """Find out what holds a run up.

    Args:
        client: connected to the server, with the data converter of the settings.
        run: the workflow id.
        own_queue: the task queue of this process's settings, which may be another one than the run's.

    Raises:
        RPCError: as the server says, e.g. that there is no such run.
    """
    description = await client.get_workflow_handle(run).describe()
    summary, raw = await summarised(description), description.raw_description
    queue = raw.execution_config.task_queue.name or description.task_queue
    if summary.state not in OPEN:
        ended = Finding("ended", f"It has ended: it is {summary.state}.", f"See `{_show(run)}`.", wrong=False)
        return Diagnosis(run, summary.state, queue, findings=[ended])
    workers, delay = await pollers(client, queue), _delay(description)
    findings = [
        *delay,
        *([] if delay else _stalled(description, summary)),
        *await _task(client, description),
        *await _queue(client, queue, own_queue, workers),
        *[finding for pending in raw.pending_activities for finding in await _activity(client, run, pending)],
        *_state(run, summary),
    ]
    return Diagnosis(run, summary.state, queue, workers, sorted(findings, key=lambda finding: not finding.wrong))


async def pollers(client: Client, queue: str) -> list[Poller]:
    """The workers that the server has seen on a task queue within the last minutes, the latest first."""
    seen: dict[str, dict[str, int]] = {}
    for name, kind in (
        ("workflow_tasks", TaskQueueType.TASK_QUEUE_TYPE_WORKFLOW),
        ("activities", TaskQueueType.TASK_QUEUE_TYPE_ACTIVITY),
    ):
        described = await client.workflow_service.describe_task_queue(
            DescribeTaskQueueRequest(namespace=client.namespace, task_queue=TaskQueue(name=queue), task_queue_type=kind)
        )
        for poller in described.pollers:
            seen.setdefault(poller.identity, {})[name] = _since(poller.last_access_time)
    found = [Poller(identity, **times) for identity, times in seen.items()]
    return sorted(found, key=lambda worker: worker.seconds)


async def unserved(client: Client, queue: str) -> str | None:
    """Why nothing that is started on a task queue will be taken up now, and what to do; `None` if a worker polls it."""
    found: list[Finding] = []
    with suppress(RPCError):  # who may not look at task queues may start runs all the same
        found = await _queue(client, queue, queue, await pollers(client, queue))
    return " ".join(f"{finding.says} {finding.cure}" for finding in found) or None


async def no_worker(client: Client, run: str, own_queue: str) -> str:
    """Why no worker has answered for a run, and what to do."""
    with suppress(RPCError, AbeyanceError):
        return f"No worker has answered for run {run!r}. {(await diagnose(client, run, own_queue)).words}"
    return f"No worker has answered for run {run!r}, and the server does not say why. Try again."


def _delay(description: WorkflowExecutionDescription) -> list[Finding]:
    begins = description.execution_time
    if begins is None or begins <= datetime.now(UTC):
        return []
    says = f"It has not begun: it was started with a delay, or by a cron schedule, and begins at {_when(begins)}."
    return [Finding("delayed", says, f"Wait until then, or end it: `starter.py cancel {description.id}`.", wrong=False)]


async def _task(client: Client, description: WorkflowExecutionDescription) -> list[Finding]:
    """What is known of a workflow task that does not get done."""
    raw = description.raw_description
    pending = raw.pending_workflow_task
    reported = PROBLEMS in raw.workflow_execution_info.search_attributes.indexed_fields
    if pending.attempt > 1 or reported:
        event = await _last_failed_task(client, description)
        if event is None:
            says = f"A worker has taken its workflow task {max(pending.attempt - 1, 1)} times and not answered."
            return [Finding("task-fails", says, "The worker died or is blocked: look at its log, and restart it.")]
        about = event.workflow_task_failed_event_attributes
        why, _ = await _words(client, about.failure)
        attempts = f", attempt {pending.attempt} by now" if pending.attempt > 1 else ""
        says = f"Its workflow tasks fail{attempts}, on worker {about.identity}: {_sentence(why)}"
        return [Finding("task-fails", says, _cure_of_task(why, description.id))]
    if not raw.HasField("pending_workflow_task"):
        return []
    waits = _since(pending.original_scheduled_time)
    if pending.state == PendingWorkflowTaskState.PENDING_WORKFLOW_TASK_STATE_SCHEDULED and waits > LATE_SECONDS:
        says = f"Its workflow task waits for a worker for {waits} s."
        return [Finding("late", says, "If workers poll, they are busy: start another one with `python worker.py`.")]
    return []


def _cure_of_task(why: str, run: str) -> str:
    if why.startswith(RESULT_UNDER_UNKNOWN_KEY):
        return (
            "It is tried again by itself once a worker has that key. If no worker has ever had it, somebody has "
            f"completed the run's activity by hand: `temporal workflow reset -w {shlex.quote(run)} --type "
            "LastWorkflowTask --reason forged` undoes that."
        )
    if "which is not known here" in why or "ABEYANCE_" in why:
        return "It is tried again by itself once that is mended and the worker is restarted."
    if "ondeterminis" in why or "TMPRL1100" in why:
        return (
            "The worker's code does other than the history tells: deploy the code that the run was last served by, or "
            f"`temporal workflow reset -w {shlex.quote(run)}`."
        )
    return "Mend that in the worker and restart it: the task is tried again by itself."


async def _last_failed_task(client: Client, description: WorkflowExecutionDescription) -> Any:
    """The event of the latest workflow task if that failed with words; `None` otherwise."""
    page = await client.workflow_service.get_workflow_execution_history_reverse(
        GetWorkflowExecutionHistoryReverseRequest(
            namespace=client.namespace,
            execution=WorkflowExecution(workflow_id=description.id, run_id=description.run_id),
            maximum_page_size=LAST_EVENTS,
        )
    )
    for event in page.history.events:
        if event.event_type == EventType.EVENT_TYPE_WORKFLOW_TASK_FAILED:
            return event
        if event.event_type == EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED:
            return None
    return None


async def _queue(client: Client, queue: str, own_queue: str, workers: Sequence[Poller]) -> list[Finding]:
    """What is known of who serves a task queue."""
    takers = [worker for worker in workers if _is_fresh(worker.workflow_tasks)]
    turners = [worker for worker in workers if _is_fresh(worker.activities)]
    if not takers and not turners:
        last = f" The last was {workers[0].identity}, {_ago(workers[0].seconds)}." if workers else ""
        says = f"No worker polls the task queue {queue!r} (namespace {client.namespace!r}).{last}"
        cure = f"Start one with `ABEYANCE_TASK_QUEUE={queue} python worker.py`; nothing is lost meanwhile."
        if queue == own_queue:
            cure = (
                "Nothing is lost: start one with `python worker.py`. If one runs, its ABEYANCE_TASK_QUEUE, "
                "TEMPORAL_NAMESPACE or TEMPORAL_ADDRESS is another one."
            )
        elif polled := await pollers(client, own_queue):
            says += f" Here, ABEYANCE_TASK_QUEUE is {own_queue!r}, which {polled[0].identity} polls."
        return [Finding("no-worker", says, cure)]
    return [*_deaf(takers, turners, "activities"), *_deaf(turners, takers, "workflow tasks")]


def _deaf(hearing: Sequence[Poller], others: Sequence[Poller], what: str) -> list[Finding]:
    """The workers that poll for one kind of task, and not for `what`, which only `others` do."""
    deaf = ", ".join(worker.identity for worker in hearing if worker not in others)
    if not deaf:
        return []
    full = ", or all its turns are taken" if what == "activities" else ""
    says = f"Worker {deaf} has not polled {what} for {SILENT_SECONDS} s: it is deaf for them{full}."
    return [Finding("deaf-worker", says, f"Restart it; {'others take' if others else 'nobody takes'} them meanwhile.")]


async def _activity(client: Client, run: str, pending: PendingActivityInfo) -> list[Finding]:
    """What is known of a turn, or of another activity, that has not ended."""
    what = f"The activity {pending.activity_type.name} ({pending.activity_id})"
    worker = f" on worker {pending.last_worker_identity}" if pending.last_worker_identity else ""
    if pending.paused or pending.state == PendingActivityState.PENDING_ACTIVITY_STATE_PAUSED:
        by, reason = pending.pause_info.manual.identity, pending.pause_info.manual.reason
        says = f"{what} is paused{f' by {by}' if by else ''}{f': {reason}' if reason else ''}."
        return [Finding("paused", says, f"`temporal activity unpause -w {run} --activity-id {pending.activity_id}`.")]
    if pending.HasField("last_failure"):
        why, kind = await _words(client, pending.last_failure)
        next_try = _next_try(pending)
        says = f"{what} fails, attempt {pending.attempt} by now, last{worker}: {_sentence(why)}{next_try}"
        cure = "It is tried again by itself: mend what it says."
        if kind == "UnknownAgentError":
            cure = "Start a worker that has this agent (ABEYANCE_AGENTS, or a newer deployment): it is tried on others."
        return [Finding("turn-fails", says, cure)]
    if pending.state == PendingActivityState.PENDING_ACTIVITY_STATE_SCHEDULED:
        waits = _since(pending.scheduled_time)
        if waits > LATE_SECONDS:
            return [Finding("late", f"{what} waits for a worker for {waits} s.", "Start another worker, or wait.")]
        return []
    since = _since(pending.last_started_time)
    says = f"{what} runs{worker} since {since} s, attempt {pending.attempt}."
    return [Finding("working", says, f"Wait, or see what it does with `{_show(run)}`.", wrong=False)]


def _next_try(pending: PendingActivityInfo) -> str:
    if pending.state != PendingActivityState.PENDING_ACTIVITY_STATE_SCHEDULED:
        return " It is being tried again now."
    when = pending.scheduled_time.ToDatetime(UTC)
    return f" The next try is at {_when(when)}." if when > datetime.now(UTC) else " The next try waits for a worker."


def _stalled(description: WorkflowExecutionDescription, summary: RunSummary) -> list[Finding]:
    """Report a run that waits for nobody, yet has no task left to move it forward.

    The SDK has been seen to end a workflow task with nothing in it when a query came while the one before failed.
    """
    raw = description.raw_description
    if summary.state != "running" or raw.HasField("pending_workflow_task") or raw.pending_activities:
        return []
    says = "It is running, and has no task at all: a worker ended its last one without going on."
    wake = f"`temporal workflow signal -w {shlex.quote(description.id)} --name wake`"
    return [Finding("stalled", says, f"Send it a signal that means nothing, which wakes it up: {wake}.")]


def _state(run: str, summary: RunSummary) -> list[Finding]:
    """What the run itself has recorded of how it stands."""
    if summary.state == "parked":
        cure = f"Mend that, then: `starter.py retry {run}`, or give up: `starter.py abort {run}`."
        return [Finding("parked", f"It is parked: {_sentence(summary.problem or '')}", cure)]
    found = []
    if summary.problem:
        found.append(Finding("unreadable", _sentence(summary.problem), "Then ask again."))
    if summary.state == "waiting":
        numbers = ", ".join(str(approval["number"]) for approval in summary.approvals)
        says = f"It waits for a person to decide approval {numbers}."
        found.append(Finding("waiting", says, f"See `{_show(run)}`, and answer.", wrong=False))
    if summary.state == "listening":
        cure = f"`starter.py say {run} PROMPT`, or `starter.py finish {run}`."
        found.append(Finding("listening", "It waits for the next prompt.", cure, wrong=False))
    return found


async def _words(client: Client, failure: Failure) -> tuple[str, str]:
    """What a failure says, and its type, as far as it can be read here."""
    try:
        error: BaseException | None = await client.data_converter.decode_failure(failure)
    except AbeyanceError as unreadable:
        return f"what it says cannot be read here. {unreadable}", ""
    while error is not None and not isinstance(error, ApplicationError) and error.__cause__ is not None:
        error = error.__cause__
    kind = error.type or "" if isinstance(error, ApplicationError) else ""
    text = error.message if isinstance(error, ApplicationError) else str(error)
    return text[:LONGEST_FAILURE], kind


def _sentence(text: str) -> str:
    flat = " ".join(text.split())
    return flat if flat.endswith((".", "!", "?")) else f"{flat}."


def _since(at: Timestamp) -> int:
    return max(0, int((datetime.now(UTC) - at.ToDatetime(UTC)).total_seconds()))


def _is_fresh(seconds: int | None) -> bool:
    return seconds is not None and seconds < SILENT_SECONDS


def _ago(seconds: int | None) -> str:
    return "never seen there" if seconds is None else f"last heard of {seconds} s ago"


def _when(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def _show(run: str) -> str:
    return f"starter.py show {shlex.quote(run)}"
