"""The activity `run_turn`: one turn of an agent, watched over.

The agent runs in a thread and event loop of its own, so that neither a hook that blocks nor a factory that waits
for the network holds up other turns or this turn's heartbeats.
"""

from __future__ import annotations

import asyncio
import json
import logging
import threading
import traceback
from collections.abc import Coroutine
from dataclasses import asdict, replace
from datetime import timedelta
from functools import partial
from typing import Any

from temporalio import activity
from temporalio.client import ActivityCancellationDetails
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError, RPCStatusCode

from abeyance import formats
from abeyance.attributes import Lookup
from abeyance.contracts import CHECKPOINT, TURN_ACTIVITY, TurnFailure, TurnInput, TurnResult, Work
from abeyance.errors import AbeyanceError
from activities.attempts import Attempts, OneByOne
from activities.callers import require_caller
from activities.conversations import Conversation, Conversations
from activities.exits import AgentExitError
from activities.failures import AGENT_ERROR, HookFailedError, WorkerStopsError, as_application_error, encodable
from activities.faults import Faults
from activities.found_records import require_readable, tried_elsewhere, unreadable
from activities.heartbeat import Heartbeat, TurnLostError
from activities.invocation import AgentBuilder, Invocation
from activities.journal import Journal
from activities.loops import to_its_end
from activities.predecessor import Handovers
from activities.quick import refuse_nested_state, trace_only_what_is_recorded
from activities.reset import Resets
from activities.room import LARGEST_MESSAGE, Room
from activities.steps import Attempt
from activities.strands_adapter.nested_agents import watch_nested_agents
from activities.threads import TurnThreads

log = logging.getLogger("abeyance.turn")

MAX_TURNS = 100
"""How many turns one worker runs at the same time."""

MOST_MADE = 1_000
"""Of how many turns that have ended badly a worker remembers which attempt it has made."""

LAST_MARKS_SECONDS = 2.0
"""How long a turn whose time is over may take to note what its tools came to."""


class Turns:
    """Runs turns on one worker.

    Args:
        builder: makes the agents.
        worker: the worker's identity, shown to people when a call is in doubt.
        conversations: those that are at hand.
        attributes: whether runs may set their search attributes.
        faults: for tests.
        patience: for how long a turn is left to other workers when this one lacks its agent.
    """

    def __init__(
        self,
        builder: AgentBuilder,
        worker: str,
        conversations: Conversations,
        attributes: Lookup,
        faults: Faults,
        patience: timedelta,
    ):
        self._builder, self._worker, self._attributes, self._faults = builder, worker, attributes, faults
        self._conversations = conversations
        self._patience, self._one_by_one = patience, OneByOne()
        self._made: dict[str, int] = {}
        self._resets, self._handovers = Resets(), Handovers()
        trace_only_what_is_recorded()
        watch_nested_agents()
        refuse_nested_state()
        self._threads = TurnThreads()

    @activity.defn(name=TURN_ACTIVITY)
    async def run_turn(self, turn: TurnInput) -> TurnResult:
        """Run one turn until the agent ends, asks, or has to go on elsewhere.

        The outcome is reported through the same door as the heartbeats, since the worker's core, which does not
        see those, believes an activity lost that has taken longer than its heartbeat timeout, and drops what it
        returns. Whether a failure may be retried is decided in `activities.failures`; one that may not, and a
        cancellation, has a `TurnFailure` as its details.
        """
        require_caller(run=turn.run_id)
        over = asyncio.Event()
        task = asyncio.create_task(self._run_and_report(turn, over))
        while not task.done():
            try:
                await asyncio.wait({task})
            except asyncio.CancelledError:
                details = activity.cancellation_details()
                if not (details and details.timed_out):
                    over.set()
        task.result()
        activity.raise_complete_async()

    async def _run_and_report(self, turn: TurnInput, over: asyncio.Event) -> None:
        info = activity.info()
        assert info.heartbeat_timeout
        record = next((found for found in info.heartbeat_details[:1] if found is not None), turn.record)
        handle = activity.client().get_async_activity_handle(task_token=info.task_token)
        try:
            require_readable(turn, record)
        except AbeyanceError as error:
            log.warning("%s: attempt %s at turn %s: %s", turn.run_id, info.attempt, turn.number, error)
            await _told_server(handle.fail(unreadable(error, record, self._worker)))
            return
        room = Room(stored_elsewhere=self._builder.settings.storage is not None)
        journal = Journal(record, turn.calls, room.record)
        attempt = await self._attempt(turn, journal)
        asked: list[ActivityCancellationDetails] = []

        def told(details: ActivityCancellationDetails) -> None:
            asked.append(details)
            self._stop(details, attempt, over)

        self._attributes.refresh()
        heartbeat = Heartbeat(
            handle, journal, info.heartbeat_timeout.total_seconds(), told, self._faults, attempt.past.read
        )
        invocation = Invocation(self._builder, turn, attempt, info.attempt, journal, heartbeat, room, self._faults)
        try:
            result, conversation = await self._watched(self._invoked(invocation), heartbeat, attempt, over)
            known = self._attributes.known
            result = replace(result, attributes=await self._attributes.registered() if known is None else known)
            await room.require(result, conversation, activity.client().data_converter)
            if turn.goes_on or result.questions or result.stop_reason == CHECKPOINT:
                # Before the server knows of it: the next turn may be here before this one has been told.
                self._conversations.keep(conversation)
            _require_wanted(asked, attempt)
            self._made.pop(_key(info), None)
        except TurnLostError as lost:
            log.warning("%s: %s %s", turn.run_id, lost, _ran(journal.work(info.attempt, self._worker)))
        except Exception as error:  # noqa: BLE001 - whatever it is, it becomes the activity's failure
            if any(details.cancel_requested for details in asked):
                work = journal.work(info.attempt, self._worker)
                log.info("%s: turn %s was cancelled. %s", turn.run_id, turn.number, _ran(work))
                told_last = TurnFailure(untouched=journal.untouched(), work=work, format=formats.FORMAT)
                await _told_server(handle.report_cancellation(told_last))
            else:
                failure = (
                    _HELD if asked else _failure(attempt.past.elsewhere(error) or error, journal, turn, self._worker)
                )
                where = f"{turn.run_id}: attempt {info.attempt} at turn {turn.number}"
                trace = "".join(traceback.format_exception(error)) if failure.type == AGENT_ERROR else ""
                log.warning("%s: %s\n%s", where, failure, encodable(trace))
                journal.failed(info.attempt, failure.message)
                marks = _last_marks(journal, heartbeat, attempt.past)
                await _told_server(handle.fail(failure, last_heartbeat_details=marks))
        else:
            await _told_server(handle.complete(result))
            if conversation.id != turn.conversation:
                self._conversations.drop(turn.conversation)

    def _stop(self, details: ActivityCancellationDetails, attempt: Attempt, over: asyncio.Event) -> None:
        if details.paused:
            attempt.draining.set()
        else:
            attempt.cancel.set()
            # Whatever the agent makes of it, the turn ends.
            asyncio.get_running_loop().call_later(self._builder.settings.shutdown_grace, over.set)

    async def _attempt(self, turn: TurnInput, journal: Journal) -> Attempt:
        """The current attempt, with what is known of those before, and of the run's reset."""
        info, client = activity.info(), activity.client()
        found = info.heartbeat_details[1] if len(info.heartbeat_details) > 1 else None
        made = self._made.get(_key(info), 0)
        self._made[_key(info)] = info.attempt
        if len(self._made) > MOST_MADE:
            del self._made[next(iter(self._made))]
        past = Attempts(found, info.attempt, self._worker, journal, self._patience, made)
        after_reset = await self._resets.before(turn, client, info.workflow_id or "", info.workflow_run_id or "")
        return Attempt(self._worker, threading.Event(), threading.Event(), past, after_reset)

    async def _invoked(self, invocation: Invocation) -> tuple[TurnResult, Conversation]:
        """Find the conversation, and run the invocation in a thread."""
        info, attempt = activity.info(), invocation.attempt
        assert info.workflow_id and info.workflow_run_id
        attempt.past.require_hope()
        if invocation.turn.handed:
            await self._handovers.require(info.workflow_id, info.workflow_run_id)

        def hurried() -> bool:
            return attempt.cancel.is_set() or attempt.draining.is_set()

        async with self._one_by_one.turn(attempt.past, invocation.heartbeat, hurried):
            await attempt.past.at("while its conversation was read", invocation.heartbeat)
            conversation = await self._conversations.find(
                invocation.turn.conversation, activity.client(), info.workflow_id, info.workflow_run_id
            )
            patience = self._builder.settings.shutdown_grace
            working = self._threads.submit(partial(_run, invocation, conversation, patience))
            try:
                return await asyncio.wrap_future(working)
            except asyncio.CancelledError:
                self._threads.leave(working)
                log.warning("%s: the agent did not stop in time; its thread is left behind", invocation.turn.run_id)
                raise

    async def _watched(
        self,
        invoked: Coroutine[Any, Any, tuple[TurnResult, Conversation]],
        heartbeat: Heartbeat,
        attempt: Attempt,
        over: asyncio.Event,
    ) -> tuple[TurnResult, Conversation]:
        """Run the invocation, with heartbeats beside it, until it ends or nobody wants it any more."""
        work = asyncio.ensure_future(invoked)
        beat = asyncio.create_task(heartbeat.run())
        drain = asyncio.create_task(_drain(attempt, self._builder.settings.shutdown_grace, over))
        ending = asyncio.create_task(over.wait())
        try:
            anything: set[asyncio.Future[Any]] = {work, beat, ending}
            done, _ = await asyncio.wait(anything, return_when=asyncio.FIRST_COMPLETED)
            if work in done:
                return await work
            attempt.cancel.set()
            if beat in done:
                # The turn is somebody else's now, or heartbeats failed for a reason of our own.
                await asyncio.wait({work}, timeout=self._builder.settings.shutdown_grace)
                beat.result()
                raise TurnLostError
            await asyncio.wait({work}, timeout=LAST_MARKS_SECONDS)
            raise WorkerStopsError
        finally:
            for task in (drain, ending, beat, work):
                task.cancel()


_HELD = ApplicationError("The activity was paused or reset, and goes on from its journal.", type="Paused")


def _require_wanted(asked: list[ActivityCancellationDetails], attempt: Attempt) -> None:
    if asked:
        raise _HELD
    if attempt.cancel.is_set():
        raise TurnLostError


async def _told_server(report: Coroutine[Any, Any, None]) -> None:
    """Await the report of an outcome; that the server does not want it any more is no error."""
    try:
        await report
    except RPCError as error:
        if error.status != RPCStatusCode.NOT_FOUND:
            raise
        log.warning("the outcome of a turn came too late: %s", error)


def _failure(error: Exception, journal: Journal, turn: TurnInput, worker: str) -> ApplicationError:
    if isinstance(error, WorkerStopsError):
        now = timedelta(milliseconds=1)
        return ApplicationError("The worker has stopped.", type="WorkerStopped", next_retry_delay=now)
    info = activity.info()
    failure = error if isinstance(error, ApplicationError) else None
    failure = failure or tried_elsewhere(error) or as_application_error(error, info.attempt)
    limit = info.retry_policy.maximum_attempts if info.retry_policy else 0
    if not failure.non_retryable and not 0 < limit <= info.attempt:
        return failure
    # A retry by a person puts the record beside all that this turn was given, into one message to the server.
    room = LARGEST_MESSAGE - len(json.dumps(asdict(replace(turn, record=None))))
    untouched = journal.untouched()
    kept = None if untouched or journal.size > room else journal.read()[1]
    details = TurnFailure(
        record=kept,
        untouched=untouched,
        too_large=kept is None and not untouched,
        failed_calls=error.calls if isinstance(error, HookFailedError) else [],
        work=journal.work(info.attempt, worker),
        format=formats.FORMAT,
    )
    return ApplicationError(failure.message, details, type=failure.type, non_retryable=failure.non_retryable)


def _key(info: activity.Info) -> str:
    return f"{info.workflow_run_id} {info.activity_id}"


def _ran(work: Work) -> str:
    """What a turn has run, for the log: its run may not hear of it. Inputs are nobody's business there."""
    calls = [f"{ran.tool} ({ran.tool_use_id}): {ran.status}" for ran in work.ran]
    return f"It ran: {', '.join(calls)}." if calls else "It ran no tools."


def _last_marks(journal: Journal, heartbeat: Heartbeat, past: Attempts) -> list[Any]:
    """The record for the next attempt, with the marks that no heartbeat has carried yet, and what is told beside it."""
    past.fails()
    return [heartbeat.sent if journal.size > journal.largest else journal.read()[1], *past.read()]


def _run(invocation: Invocation, conversation: Conversation, patience: float) -> tuple[TurnResult, Conversation]:
    try:
        return to_its_end(invocation.run(conversation), patience)
    except Exception:
        raise
    except BaseException as raised:
        # Nothing else may reach the worker's own event loop, which it would end.
        raise AgentExitError(raised) from raised


async def _drain(attempt: Attempt, grace: float, over: asyncio.Event) -> None:
    await activity.wait_for_worker_shutdown()
    attempt.draining.set()
    await asyncio.sleep(grace)
    over.set()
