"""The activity `run_turn`: one turn of an agent, watched over.

The agent runs in a thread and event loop of its own, so that neither a hook that blocks nor a factory that waits
for the network holds up other turns or this turn's heartbeats.
"""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from temporalio import activity
from temporalio.client import AsyncActivityHandle
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError

from abeyance.contracts import TURN_ACTIVITY, TurnInput, TurnResult
from activities.failures import as_application_error
from activities.invocation import AgentBuilder, invoke

MAX_TURNS = 100
"""How many turns one worker runs at the same time."""

TOOL_THREADS = 32
"""How many synchronous tools of one turn run at the same time."""


class Turns:
    """Runs turns on one worker.

    Args:
        builder: makes the agents.
    """

    def __init__(self, builder: AgentBuilder):
        self._builder = builder
        self._threads = ThreadPoolExecutor(MAX_TURNS, thread_name_prefix="turn")

    @activity.defn(name=TURN_ACTIVITY)
    async def run_turn(self, turn: TurnInput) -> TurnResult:
        """Run one turn until the agent ends or asks.

        Raises:
            ApplicationError: if it failed; whether a retry may help is decided in `activities.failures`.
            asyncio.CancelledError: if the run was cancelled or the worker's grace is over.
        """
        cancel = threading.Event()
        loop = asyncio.get_running_loop()
        work = loop.run_in_executor(self._threads, self._run, turn, cancel)
        handle = activity.client().get_async_activity_handle(task_token=activity.info().task_token)
        try:
            await self._watch(work, handle)
            return await work
        except asyncio.CancelledError:
            cancel.set()
            raise
        except ApplicationError:
            cancel.set()
            raise
        except Exception as error:
            raise as_application_error(error, activity.info().attempt) from error

    def _run(self, turn: TurnInput, cancel: threading.Event) -> TurnResult:
        async def run() -> TurnResult:
            asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(TOOL_THREADS))
            agent = self._builder.build(turn)
            try:
                return await invoke(agent, turn, cancel)
            finally:
                agent.cleanup()

        return asyncio.run(run())

    async def _watch(self, work: asyncio.Future[TurnResult], handle: AsyncActivityHandle) -> None:
        """Keep the activity alive until `work` is done, and hear of cancellation."""
        timeout = activity.info().heartbeat_timeout
        assert timeout
        while not work.done():
            with suppress(RPCError):
                await handle.heartbeat()
            await asyncio.wait({work}, timeout=timeout.total_seconds() / 3)
