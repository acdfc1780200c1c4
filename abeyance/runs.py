"""Runs as a client sees them: start, look, decide. What `starter.py` does, without a terminal."""

from __future__ import annotations

import asyncio
import json
import shlex
import uuid
from collections.abc import AsyncIterator, Coroutine, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any, TypeVar

from temporalio.client import (
    Client,
    WorkflowFailureError,
    WorkflowHandle,
    WorkflowQueryFailedError,
    WorkflowUpdateFailedError,
    WorkflowUpdateRPCTimeoutOrCancelledError,
)
from temporalio.common import TypedSearchAttributes, WorkflowIDConflictPolicy
from temporalio.exceptions import ApplicationError, CancelledError, WorkflowAlreadyStartedError
from temporalio.service import RPCError, RPCStatusCode

from abeyance import attributes
from abeyance.contracts import (
    AGENT_MEMO,
    ENDED,
    KEY_MEMO,
    OPEN,
    WORKFLOW_TYPE,
    Approval,
    Decision,
    JsonObject,
    Limits,
    RunRequest,
    RunResult,
    RunStatus,
)
from abeyance.diagnosis import Diagnosis, diagnose, no_worker, unserved
from abeyance.errors import NotFoundError, NoWorkerError, PayloadError, RefusedError, RequestError, RunFailedError
from abeyance.markdown import code
from abeyance.progress import Progress, progress_of
from abeyance.recorded import as_recorded
from abeyance.roster import require_served
from abeyance.session_names import session_run_id
from abeyance.settings import Settings
from abeyance.summaries import RunSummary, named, summarised
from abeyance.whole_questions import in_full

T = TypeVar("T")
LOOKUP_SECONDS = 5.0


@dataclass(frozen=True)
class Delivered:
    """What became of a decision.

    `via` is "update" when the run itself answered, with the recorded `decisions`; it is "signal" when no worker
    answered, and the decision waits in the run's history until one does.
    """

    run: str
    via: str
    decisions: list[Decision] = field(default_factory=list)


ALL_RUNS = f"WorkflowType = '{WORKFLOW_TYPE}' AND ExecutionStatus != 'ContinuedAsNew'"
OPEN_RUNS = f"WorkflowType = '{WORKFLOW_TYPE}' AND ExecutionStatus = 'Running'"
TOO_LARGE = (RPCStatusCode.INVALID_ARGUMENT, RPCStatusCode.RESOURCE_EXHAUSTED)
MOST_UNSTORED = 1_500_000
"""A request of less bytes than that is refused for some other reason than its size."""
HAS_ENDED = ("already completed", "aborted by closing workflow")
"""What the server says of a run that has ended, or ends while it is asked: then it has not been told."""
NO_ANSWER = (RPCStatusCode.CANCELLED, RPCStatusCode.DEADLINE_EXCEEDED, RPCStatusCode.FAILED_PRECONDITION)


@dataclass(frozen=True)
class Started:
    """What became of a prompt for a session.

    With `queued`, it went into the run that was open; `place` is its place among those that wait there, `None` if no
    worker could tell.
    """

    run: str
    queued: bool = False
    place: int | None = None


class Runs:
    """The runs of one namespace.

    Args:
        client: connected to the server.
        task_queue: where new runs are started.
        worker_timeout: how many seconds a worker may take to answer a query, or an update before the decision is sent
            as a signal instead.

    Attributes:
        attributes: whether runs are started with search attributes, and found by them.
    """

    def __init__(self, client: Client, task_queue: str, worker_timeout: float = Settings.worker_timeout):
        self._client = client
        self._task_queue = task_queue
        self._worker_timeout = worker_timeout
        self.attributes = attributes.Lookup(client)

    async def start(self, request: RunRequest, run: str | None = None) -> str:
        """Start a run.

        Args:
            request: what is to be done.
            run: the workflow id; by default the agent's name with a random ending.

        Returns:
            The workflow id.

        Raises:
            RefusedError: if a run with this id is open.
            RequestError: if it is larger than Temporal takes, and there is no storage beside it.
        """
        run = run or f"{request.agent}-{uuid.uuid4().hex[:8]}"
        try:
            if await self.attributes.registered(LOOKUP_SECONDS):
                with _unless_refused():
                    await self._start(request, run, attributes.at_start(request.agent))
                    return run
            await self._start(request, run, TypedSearchAttributes.empty)
        except WorkflowAlreadyStartedError as error:
            instead = (
                "wait for its end, or leave out --if-busy" if request.session else "start this one with another --id"
            )
            raise RefusedError(
                f"A run with the id {run!r} is open already. Look at it with `show {shlex.quote(run)}`, or {instead}."
            ) from error
        return run

    async def start_in_session(self, request: RunRequest, by: str | None = None) -> Started:
        """Start a run of the request's session, or queue the prompt into the one that is open.

        One call to the server does either, so that neither two runs nor a lost prompt can come of it.

        Args:
            request: what is to be done; its `session` is set.
            by: who asks, for the record.

        Raises:
            RefusedError: if the open run cannot take the prompt, as one of another agent cannot.
            RequestError: as `start`.
        """
        assert request.session
        run, key = session_run_id(request.session), uuid.uuid4().hex
        alone = _is_for_a_new_run(request)
        said = {"prompt": request.prompt, "by": by, "key": key, "agent": request.agent, "alone": alone}
        await self._require_taker(run, request)
        keyed = replace(request, key=key)
        started = False
        if await self.attributes.registered(LOOKUP_SECONDS):
            with _unless_refused():
                await self._start(keyed, run, attributes.at_start(request.agent), said)
                started = True
        if not started:
            await self._start(keyed, run, TypedSearchAttributes.empty, said)
        description = await self._handle(run).describe()
        if await description.memo_value(KEY_MEMO, default=None) == key:
            return Started(run)
        try:
            # Under the same key it counts once; a run that did not take it says why.
            place = await _answered(
                _refusing(self._handle(run).execute_update("say", said, result_type=int)), self._worker_timeout
            )
        except RPCError as error:
            if error.status != RPCStatusCode.NOT_FOUND:
                raise
            if alone or await description.memo_value(AGENT_MEMO, default=None) != request.agent:
                raise RefusedError(
                    f"Session {request.session!r} was busy with a run that could not take this, and has ended "
                    "meanwhile. Start it once more."
                ) from error
            place = None  # It has ended meanwhile, and had the prompt before it did.
        return Started(run, queued=True, place=place)

    async def say(self, run: str, prompt: str, by: str | None = None) -> int | None:
        """Give a run a further prompt, for a turn of its own after what is being done.

        Returns:
            Its place among the prompts that wait, 1 for the next; `None` if no worker answered: then it waits as a
            signal in the run's history, and counts once even if the update arrives after all.

        Raises:
            RefusedError: if the run has ended, or does not take it; the message says why.
            NotFoundError: if there is no such run.
        """
        said = {"prompt": prompt, "by": by, "key": uuid.uuid4().hex}
        handle = self._handle(run)
        async with self._errors(run):
            place = await _answered(
                _refusing(handle.execute_update("say", said, result_type=int)), self._worker_timeout
            )
            if place is None:
                await handle.signal("say", said)
        return place

    async def finish(self, run: str, note: JsonObject) -> None:
        """Let an interactive run end when its prompts are done.

        Raises:
            RefusedError: if it has ended.
            NotFoundError: if there is no such run.
        """
        async with self._errors(run):
            await self._handle(run).signal("finish", note)

    async def status(self, run: str) -> RunStatus:
        """The run's own account of itself, open or closed. It takes a worker to answer.

        Raises:
            NotFoundError: if there is no such run.
            NoWorkerError: if no worker answers.
        """
        async with self._errors(run):
            status: RunStatus = await self._handle(run).query(
                "status", result_type=RunStatus, rpc_timeout=timedelta(seconds=self._worker_timeout)
            )
        state = (await self.summary(run)).state
        if state in ENDED and status.state not in ENDED:
            # It was terminated or timed out: the server ended it without telling the workflow.
            return replace(status, state=state, approvals=[])
        return status

    async def in_full(self, run: str, approvals: Sequence[Approval]) -> list[Approval]:
        """Approvals with all that was shortened of them, read from the run's history. No worker is asked.

        Args:
            run: their run.
            approvals: as its status or its summary shows them.

        Returns:
            The approvals in the same order. Where `left_out` is 0, all of it is there, and its digest.

        Raises:
            NotFoundError: if there is no such run.
            PayloadError: if its history cannot be read here.
        """
        async with self._errors(run):
            return await in_full(self._client, run, approvals)

    async def as_recorded(self, run: str, status: RunStatus) -> RunStatus:
        """A run's account of itself, with when the server noted each answer, read from the run's history.

        Raises:
            NotFoundError: if there is no such run.
        """
        async with self._errors(run):
            told = await as_recorded(self._client, run, [*status.decisions, *status.refused])
        decisions, refused = told[: len(status.decisions)], told[len(status.decisions) :]
        return replace(status, decisions=decisions, refused=refused)

    async def result_as_recorded(self, run: str, result: RunResult) -> RunResult:
        """A run's result, with when the server noted each answer, read from the run's history.

        Raises:
            NotFoundError: if there is no such run.
        """
        async with self._errors(run):
            return replace(result, decisions=await as_recorded(self._client, run, result.decisions))

    async def summary(self, run: str) -> RunSummary:
        """What the server knows of the run without a worker.

        Raises:
            NotFoundError: if there is no such run.
        """
        async with self._errors(run):
            return await summarised(await self._handle(run).describe())

    async def progress(self, run: str) -> Progress | None:
        """What the run's turn is doing right now, or `None` if it is in none. No worker is asked.

        Raises:
            NotFoundError: if there is no such run.
        """
        async with self._errors(run):
            return await progress_of(self._client, await self._handle(run).describe())

    async def diagnosis(self, run: str) -> Diagnosis:
        """What holds the run up, as far as the server knows. No worker is asked.

        Raises:
            NotFoundError: if there is no such run.
        """
        async with self._errors(run):
            return await diagnose(self._client, run, self._task_queue)

    async def unserved(self) -> str | None:
        """Why a run that is started now is not taken up, and what to do; `None` if a worker polls the task queue."""
        return await unserved(self._client, self._task_queue)

    async def require_served(self, agent: str) -> None:
        """Make sure that a worker of the task queue has the agent, as far as that is known.

        Raises:
            RequestError: if every worker there has said which agents it has, and none has this one.
        """
        await require_served(self._client, self._task_queue, agent)

    async def listed(self, *, open_only: bool = False) -> AsyncIterator[RunSummary]:
        """All runs the server still knows, latest first; the visibility store may lag by a second or so."""
        async for execution in self._client.list_workflows(OPEN_RUNS if open_only else ALL_RUNS):
            yield await summarised(execution)

    async def waiting(self, *, agent: str | None = None, name: str | None = None) -> list[RunSummary]:
        """The runs in which something waits for a person: one call to the server per thousand of them.

        Without search attributes, it is one call per thousand runs that have not ended.

        Args:
            agent: only runs of this agent.
            name: only runs with an open approval of this name, and of each only those approvals.
        """
        found = None
        if await self.attributes.registered(LOOKUP_SECONDS):
            with _unless_refused():
                found = await self._found(f"{OPEN_RUNS} AND {attributes.query(agent, name)}")
        if found is None:
            found = await self._found(OPEN_RUNS)
        if agent is not None:
            found = [run for run in found if run.agent == agent]
        if name is not None:
            found = [replace(run, approvals=named(run.approvals, name), problem=None) for run in found]
        return [run for run in found if run.approvals or run.problem]

    async def decide(self, run: str, answers: list[JsonObject]) -> Delivered:
        """Give answers, each `{"approval"?, "response", "by"?, "comment"?}`, and hear what became of them.

        They go through the update `decide`. Where no worker answers it, they go through the signal `respond`,
        under the same keys, so that they count once even if the update arrives after all.

        Raises:
            RefusedError: if one of them was refused; nothing has changed then, and the message says why.
            PayloadError: if what became of them cannot be read here.
            NotFoundError: if there is no such run.
        """
        keyed = [answer | {"key": uuid.uuid4().hex} for answer in answers]
        handle = self._handle(run)
        async with self._errors(run):
            try:
                decisions = await _answered(
                    _refusing(handle.execute_update("decide", keyed, result_type=list[Decision])),
                    self._worker_timeout,
                )
            except PayloadError as error:
                words = f"The answer has reached the run, and what became of it cannot be read here. {error}"
                raise PayloadError(words) from error
            if decisions is None:
                await handle.signal("respond", keyed)
                return Delivered(run, "signal")
        if refused := [decision.refused for decision in decisions if decision.refused]:
            raise RefusedError(" ".join(refused))
        return Delivered(run, "update", decisions)

    async def rule(self, run: str, verdict: str, note: JsonObject) -> None:
        """Send `retry` or `abort` to a parked run.

        Raises:
            RefusedError: if it is not parked.
            NotFoundError: if there is no such run.
        """
        state = (await self.summary(run)).state
        if state != "parked":
            raise RefusedError(f"Run {run!r} is {state}, not parked: there is nothing to {verdict}.")
        async with self._errors(run):
            await self._handle(run).signal(verdict, note)

    async def cancel(self, run: str) -> None:
        """Ask the run to end. Its turn, if one is running, is told to stop.

        Raises:
            RefusedError: if it has ended already.
            NotFoundError: if there is no such run.
        """
        state = (await self.summary(run)).state
        if state not in OPEN:
            raise RefusedError(f"Run {run!r} has ended already: it is {state}.")
        async with self._errors(run):
            await self._handle(run).cancel()

    async def result(self, run: str) -> RunResult:
        """Wait for the run to end.

        Raises:
            RunFailedError: if it ended without a result; the message says how and why.
            NotFoundError: if there is no such run.
        """
        async with self._errors(run):
            try:
                return await self._handle(run).result()
            except WorkflowFailureError as error:
                cause = error.cause
                if isinstance(cause, CancelledError):
                    told = (await self.summary(run)).cancelled
                    raise RunFailedError(" ".join(filter(None, (f"Run {run!r} was cancelled.", told)))) from error
                reason = cause.message if isinstance(cause, ApplicationError) else str(cause)
                raise RunFailedError(f"Run {run!r} failed: {reason}") from error

    async def _require_taker(self, run: str, request: RunRequest) -> None:
        """See to it that what is asked can be queued, if a run of the session is open."""
        try:
            open_run = await self.summary(run)
        except NotFoundError:
            return
        if open_run.state not in OPEN:
            return
        what = None
        if open_run.agent != request.agent:
            what = f"with the agent {open_run.agent!r}, and this is for {request.agent!r}"
        elif _is_for_a_new_run(request):
            what = "and options, limits and --interactive can only be given to a new one"
        if what:
            raise RefusedError(
                f"Session {request.session!r} is busy: its run {run!r} is {open_run.state}, {what}. "
                "Wait until it has ended, or take another session."
            )

    async def _start(
        self, request: RunRequest, run: str, search_attributes: TypedSearchAttributes, said: JsonObject | None = None
    ) -> None:
        """Start a run; with `said`, a run that is open already is given that prompt instead, in the same call."""
        memo = {AGENT_MEMO: request.agent} | ({KEY_MEMO: request.key} if request.key else {})
        policy = WorkflowIDConflictPolicy.USE_EXISTING if said else WorkflowIDConflictPolicy.FAIL
        try:
            await self._client.start_workflow(
                WORKFLOW_TYPE,
                request.to_json(),
                id=run,
                task_queue=self._task_queue,
                id_conflict_policy=policy,
                memo=memo,
                search_attributes=search_attributes,
                static_summary=_summary(request),
                start_signal="say" if said else None,
                start_signal_args=[said] if said else [],
            )
        except RPCError as error:
            size = len(json.dumps(request.to_json()))
            if size < MOST_UNSTORED or error.status not in TOO_LARGE:
                raise
            raise RequestError(
                f"The request has {size} bytes, and Temporal takes less than 2 MB. Set ABEYANCE_STORAGE for all "
                "workers and clients, so that large payloads are kept beside Temporal."
            ) from error

    async def _found(self, query: str) -> list[RunSummary]:
        return [await summarised(execution) async for execution in self._client.list_workflows(query)]

    def _handle(self, run: str) -> WorkflowHandle[Any, RunResult]:
        return self._client.get_workflow_handle(run, result_type=RunResult)

    @asynccontextmanager
    async def _errors(self, run: str) -> AsyncIterator[None]:
        try:
            yield
        except WorkflowQueryFailedError as error:
            raise RefusedError(f"Run {run!r} cannot say how it is: {error}") from error
        except RPCError as error:
            if error.status == RPCStatusCode.NOT_FOUND and any(words in str(error) for words in HAS_ENDED):
                look = f"See `show {shlex.quote(run)}`."
                raise RefusedError(f"Run {run!r} has ended; nothing of it is open. {look}") from error
            if error.status == RPCStatusCode.NOT_FOUND:
                raise NotFoundError(f"There is no run {run!r}. `starter.py list` shows those there are.") from error
            if error.status in NO_ANSWER:
                raise NoWorkerError(await no_worker(self._client, run, self._task_queue)) from error
            raise


def _is_for_a_new_run(request: RunRequest) -> bool:
    """Whether a run that is open already cannot do it as it is asked for."""
    return bool(request.options) or request.limits != Limits() or request.interactive


async def _refusing(update: Coroutine[Any, Any, T]) -> T:
    try:
        return await update
    except WorkflowUpdateFailedError as error:
        cause = error.cause
        raise RefusedError(cause.message if isinstance(cause, ApplicationError) else str(cause)) from error


async def _answered(update: Coroutine[Any, Any, T], seconds: float) -> T | None:
    """What the update came to, or `None` if no worker answered it in so many seconds."""
    asking = asyncio.ensure_future(update)
    try:
        # Not `wait_for`: the client makes a cancellation, as by Ctrl-C, look like a worker that does not answer.
        await asyncio.wait({asking}, timeout=seconds)
        return asking.result() if asking.done() else None
    except WorkflowUpdateRPCTimeoutOrCancelledError:
        return None
    except RPCError as error:
        # The server says at once that no worker will take it, as where the run's workflow tasks fail.
        if error.status not in NO_ANSWER:
            raise
        return None
    finally:
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)


@contextmanager
def _unless_refused() -> Iterator[None]:
    """Go on where the server refuses attributes: removed since they were looked up, or not known to all of it yet."""
    try:
        yield
    except RPCError as error:
        if error.status != RPCStatusCode.INVALID_ARGUMENT:
            raise


def _summary(request: RunRequest) -> str:
    # The server refuses summaries of more than 400 bytes, and what stands around the text has up to 70 of them.
    return code(f"{request.agent}: {request.prompt}", 330)
