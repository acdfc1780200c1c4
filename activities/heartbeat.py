"""Acknowledged heartbeats: the journal's way into Temporal's database, and the turn's sign of life.

A heartbeat is sent as an RPC and awaited, unlike `activity.heartbeat()`, which the SDK throttles and which may be
lost with the process. Nothing else may heartbeat in the same activity: details replace one another.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import time
from collections.abc import Callable
from contextlib import suppress

from temporalio.client import ActivityCancellationDetails, AsyncActivityCancelledError, AsyncActivityHandle
from temporalio.service import RPCError, RPCStatusCode

from abeyance.contracts import JsonObject
from abeyance.errors import StorageError
from activities.faults import Faults
from activities.journal import Journal

log = logging.getLogger("abeyance.turn")

RECONNECT_SECONDS = 0.5
LINGER_SECONDS = 0.02
"""How long a change that nobody waits for may wait for others, and for the end of the turn."""


class TurnLostError(Exception):
    """The server has given this turn to somebody else, or the run has ended. What it does counts no more."""

    def __init__(self) -> None:
        super().__init__("The turn was given to another worker, or its run has ended.")


class RecordTooLargeError(Exception):
    """The journal's record no longer fits a heartbeat, so that a call that may run only once cannot start."""


class Heartbeat:
    """Sends the journal's record: at once when it changed, and again and again while nothing changes.

    It lives in the worker's event loop; `flush` and `nudge` may be called from any thread.

    Args:
        handle: of the activity, by its task token.
        journal: whose record is sent.
        timeout: the activity's heartbeat timeout, in seconds. A third of it lies between two repetitions, and after
            so long without an acknowledgement the turn counts as lost: the server has given it to somebody else.
        told: called with what the server says when it wants the activity to stop.
        faults: for tests.
        beside: gives what is sent beside the record.
    """

    def __init__(
        self,
        handle: AsyncActivityHandle,
        journal: Journal,
        timeout: float,
        told: Callable[[ActivityCancellationDetails], None],
        faults: Faults,
        beside: Callable[[], list[JsonObject]],
    ):
        self._handle, self._journal, self._timeout, self._told, self._faults = handle, journal, timeout, told, faults
        self._beside = beside
        self._acknowledged = time.monotonic()
        self._loop = asyncio.get_running_loop()
        self._wake, self._urgent = asyncio.Event(), asyncio.Event()
        self._waiting: list[tuple[int, concurrent.futures.Future[None]]] = []
        self._lost = False
        self.sent: object = journal.read()[1]
        """The record that the server has."""

    def nudge(self) -> None:
        """Have the record sent in a moment; what is noted until then goes with it."""
        self._loop.call_soon_threadsafe(self._wake.set)

    def flush(self) -> concurrent.futures.Future[None]:
        """Have the record sent, with all that is noted now.

        Returns:
            A future that is done when the server has acknowledged it. It fails with `TurnLostError` when the
            server will not, and with `RecordTooLargeError` when the record cannot be sent.
        """
        done: concurrent.futures.Future[None] = concurrent.futures.Future()
        version = self._journal.version

        def enlist() -> None:
            if self._lost:
                done.set_exception(TurnLostError())
            else:
                self._waiting.append((version, done))
                self._wake.set()
                self._urgent.set()

        self._loop.call_soon_threadsafe(enlist)
        return done

    async def run(self) -> None:
        """Send heartbeats until cancelled; returns if the turn is lost."""
        try:
            await self._run()
        finally:
            # Nobody may wait for an acknowledgement that cannot come any more.
            self._lose()

    async def _run(self) -> None:
        while not self._lost:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), self._timeout / 3)
            if not self._waiting:
                # Nobody waits for it, so what is noted within a moment goes with it, or with the turn's result.
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._urgent.wait(), min(LINGER_SECONDS, self._timeout / 10))
            self._wake.clear()
            self._urgent.clear()
            version, record = self._journal.read()
            if self._journal.size > self._journal.largest:
                self._settle(version, RecordTooLargeError(f"The journal of this turn has {self._journal.size} bytes."))
                await self._send(self.sent)
                continue
            self._faults.at("about to write")
            if await self._send(record):
                self.sent = record
                self._faults.at("written")
                self._settle(version)

    async def _send(self, record: object) -> bool:
        try:
            await asyncio.wait_for(
                self._handle.heartbeat(record, *self._beside()), self._acknowledged + self._timeout - time.monotonic()
            )
        except TimeoutError:
            log.warning("no heartbeat was acknowledged for %g s: the turn is left to another worker", self._timeout)
            self._lose()
            return False
        except AsyncActivityCancelledError as asked:
            # The server has kept the details all the same.
            self._told(asked.details or ActivityCancellationDetails(cancel_requested=True))
        except (RPCError, StorageError) as error:
            if isinstance(error, RPCError) and error.status == RPCStatusCode.NOT_FOUND:
                self._lose()
                return False
            log.warning("the journal could not be written, trying again: %s", error)
            await asyncio.sleep(RECONNECT_SECONDS)
            self._wake.set()
            return False
        self._acknowledged = time.monotonic()
        return True

    def _settle(self, version: int, error: Exception | None = None) -> None:
        ready = [done for noted, done in self._waiting if noted <= version]
        self._waiting = [(noted, done) for noted, done in self._waiting if noted > version]
        for done in ready:
            if not done.set_running_or_notify_cancel():
                continue
            if error:
                done.set_exception(error)
            else:
                done.set_result(None)

    def _lose(self) -> None:
        self._lost = True
        self._settle(max((noted for noted, _ in self._waiting), default=0), TurnLostError())
