"""The activity `run_turn`: one turn of an agent, watched over.

The agent runs in a thread and event loop of its own, so that neither a hook that blocks nor a factory that waits
for the network holds up other turns or this turn's heartbeats.
"""

from __future__ import annotations

import asyncio
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict
from typing import Any

from temporalio import activity
from temporalio.client import ActivityCancellationDetails
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError

from abeyance.contracts import TURN_ACTIVITY, TurnInput, TurnResult
from activities.failures import as_application_error
from activities.faults import Faults
from activities.heartbeat import Heartbeat
from activities.invocation import AgentBuilder, Invocation
from activities.journal import LARGEST_RECORD, Journal
from activities.steps import Attempt

MAX_TURNS = 100
"""How many turns one worker runs at the same time."""

TOOL_THREADS = 32
"""How many synchronous tools of one turn run at the same time."""

LAST_MARKS_SECONDS = 2.0
"""How long a turn whose time is over may take to note what its tools came to."""


class Turns:
    """Runs turns on one worker.

    Args:
        builder: makes the agents.
        worker: the worker's identity, shown to people when a call is in doubt.
        faults: for tests.
    """

    def __init__(self, builder: AgentBuilder, worker: str, faults: Faults):
        self._builder, self._worker, self._faults = builder, worker, faults
        self._threads = ThreadPoolExecutor(MAX_TURNS, thread_name_prefix="turn")

    @activity.defn(name=TURN_ACTIVITY)
    async def run_turn(self, turn: TurnInput) -> TurnResult:
        """Run one turn until the agent ends, asks, or has to go on elsewhere.

        Raises:
            ApplicationError: if it failed; whether a retry may help is decided in `activities.failures`. One that
                cannot be mended by a retry has two details: the journal's record, and whether the turn is
                untouched, so that it can be given again from its beginning.
            asyncio.CancelledError: if the worker's grace is over.
        """
        info = activity.info()
        assert info.heartbeat_timeout
        record = info.heartbeat_details[0] if info.heartbeat_details else None
        journal = Journal(record or turn.record, turn.calls)
        attempt = Attempt(self._worker, threading.Event(), threading.Event())
        asked: list[ActivityCancellationDetails] = []

        def told(details: ActivityCancellationDetails) -> None:
            asked.append(details)
            (attempt.draining if details.paused else attempt.cancel).set()

        handle = activity.client().get_async_activity_handle(task_token=info.task_token)
        heartbeat = Heartbeat(handle, journal, info.heartbeat_timeout.total_seconds(), told, self._faults)
        invocation = Invocation(self._builder, turn, attempt, info.attempt, journal, heartbeat, self._faults)
        failure: Exception | None = None
        result: TurnResult | None = None
        try:
            result = await self._watched(invocation, heartbeat, attempt, asked)
        except Exception as error:  # noqa: BLE001 - whatever it is, it becomes the activity's failure below
            failure = error
        if any(details.cancel_requested for details in asked):
            # The worker's core never heard of it, so it has to be reported by the same way it came.
            with suppress(RPCError):
                await handle.report_cancellation()
            activity.raise_complete_async()
        if asked:
            raise ApplicationError("The activity was paused or reset, and goes on from its journal.", type="Paused")
        if failure:
            raise self._failure(failure, journal) from failure
        assert result
        return _fitting(result)

    async def _watched(
        self, invocation: Invocation, heartbeat: Heartbeat, attempt: Attempt, asked: list[ActivityCancellationDetails]
    ) -> TurnResult:
        """Run the invocation in a thread, with heartbeats beside it, until it ends or nobody wants it any more."""
        work = asyncio.get_running_loop().run_in_executor(self._threads, _run, invocation)
        beat = asyncio.create_task(heartbeat.run())
        drain = asyncio.create_task(_drain(attempt))
        whole = False
        try:
            either: set[asyncio.Future[Any]] = {work, beat}
            done, _ = await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if beat in done and work not in done:
                # The turn is somebody else's now, or heartbeats failed for a reason of our own.
                attempt.cancel.set()
                await asyncio.wait({work})
                beat.result()
            result = await work
            whole = not asked
            return result
        except asyncio.CancelledError:
            attempt.cancel.set()
            await asyncio.wait({work}, timeout=LAST_MARKS_SECONDS)
            raise
        finally:
            drain.cancel()
            if not whole:
                # The next attempt begins with what the server knows, so it has to know the last marks too.
                with suppress(Exception):
                    await asyncio.wait_for(asyncio.wrap_future(heartbeat.flush()), LAST_MARKS_SECONDS)
            beat.cancel()

    def _failure(self, error: Exception, journal: Journal) -> ApplicationError:
        failure = as_application_error(error, activity.info().attempt)
        if not failure.non_retryable:
            return failure
        _, record = journal.read()
        kept = None if journal.untouched() or journal.size > LARGEST_RECORD else record
        return ApplicationError(failure.message, kept, journal.untouched(), type=failure.type, non_retryable=True)


def _run(invocation: Invocation) -> TurnResult:
    async def run() -> TurnResult:
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(TOOL_THREADS, thread_name_prefix="tool"))
        return await invocation.run()

    return asyncio.run(run())


async def _drain(attempt: Attempt) -> None:
    await activity.wait_for_worker_shutdown()
    attempt.draining.set()


def _fitting(result: TurnResult) -> TurnResult:
    """`result`, if it fits into a message to the server; else the turn could only fail again and again."""
    size = len(json.dumps(asdict(result)))
    if size <= LARGEST_RECORD:
        return result
    raise ApplicationError(
        f"The conversation has grown to {size} bytes and a turn's result may have {LARGEST_RECORD}. "
        "Start a new run, or give the agent a conversation manager that makes room and smaller tool results.",
        type="TooLarge",
        non_retryable=True,
    )
