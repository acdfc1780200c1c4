"""What is known of a turn's earlier attempts, beside its record: where workers died, and which ones lack its agent.

It travels as the second detail of heartbeats, and only where there is something to tell. An attempt that follows one
whose worker died without a word is *careful*: it tells the server what it is about to do, each time before it does it,
so that the next one knows where it ended. After `MOST_DEATHS` at one step, a person is asked.

A worker that dies takes all its turns with it. So turns that seem to kill workers, from their second death in a row on,
begin one after the other on each worker. What dies while it waits is not blamed, nor what had lived for a while when
the next one began; where what kills takes long, beside others that take long, one of those may still be asked about.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from functools import partial

from temporalio.exceptions import ApplicationError

from abeyance.contracts import JsonObject
from abeyance.errors import AbeyanceError, UnknownAgentError, UnknownToolError
from activities.failures import chain_of
from activities.heartbeat import Heartbeat, RecordTooLargeError, TurnLostError
from activities.journal import Journal

MOST_DEATHS = 3
"""How many workers may die at one step of a turn, known to be there, before a person is asked."""

PATIENCE = timedelta(minutes=5)
"""For how long a turn is tried elsewhere when workers lack what it takes: a rolling deployment takes so long."""

LACKING: tuple[type[AbeyanceError], ...] = (UnknownAgentError, UnknownToolError)
"""What one worker may lack and another have."""

ALONE_SECONDS = 5.0
"""How long a turn that seems to kill workers is at work before another one like it begins beside it."""


class WorkersDiedError(AbeyanceError):
    """Workers have died at one step of a turn, one after the other."""


class Attempts:
    """The attempts at one turn, as the current one knows them.

    Args:
        found: what the attempt before has left, if anything.
        number: the number of the current attempt, from 1.
        worker: the identity of the worker that makes it.
        journal: the turn's.
        patience: as `PATIENCE`.
        made: the latest attempt that this very process has made before, 0 for none: it has not died in that.
    """

    def __init__(self, found: object, number: int, worker: str, journal: Journal, patience: timedelta, made: int = 0):
        left = _read(found)
        self._worker, self._journal, self._patience = worker, journal, patience
        self.number = number
        self._failed: int = left.get("failed", 0)
        journal.failure = left.get("failure") or journal.failure
        self.died = number > 1 and number - 1 not in (self._failed, made)
        """Whether the attempt before has ended without a word: its worker died, or lost the server."""
        self._silent: int = left.get("silent", 0) + self.died
        self._deaths: list[JsonObject] = left.get("deaths", [])
        lacking: JsonObject = left.get("lacking") or {}
        self._lacking = lacking if lacking.get("attempt") == number - 1 else {}
        self._at: JsonObject = {}
        self._cleared = False
        self._first_mark = journal.progress
        self.moved: Callable[[], object] = lambda: None
        """Called, from any thread, when the turn is over the step at which workers have died."""
        # Not only the attempt before: one in between may have reached a worker that had just died, or one that lacks
        # the agent.
        silent = set(range(1, number)) - {self._failed, made}
        killed = [call for call in journal.calls.values() if call.running and call.attempt in silent]
        for call in killed:
            call.died_on, call.attempt = [*call.died_on, call.worker], 0
        at = left.get("at") or {}
        if at.get("attempt") in silent and not killed:
            self._deaths = [*(death for death in self._deaths if death["mark"] == at["mark"]), at]

    @property
    def careful(self) -> bool:
        """Whether each step is to be told before it is taken."""
        return self._silent > 0

    def read(self) -> list[JsonObject]:
        """What the next attempt is to find: nothing, or one detail."""
        failure = self._failed and self._journal.failure
        left: JsonObject = {"failed": self._failed, "failure": failure, "silent": self._silent, "deaths": self._deaths}
        left |= {"at": self._at, "lacking": self._lacking}
        known = {name: value for name, value in left.items() if value}
        return [known] if known else []

    def fails(self) -> None:
        """Note that the current attempt reports how it has ended: no call of it has killed its worker."""
        self._failed, self._at = self.number, {}
        self._journal.cleared()

    def require_hope(self) -> None:
        """Raises `WorkersDiedError` if too many workers have died at the step that comes now."""
        if len(self._deaths) < MOST_DEATHS:
            return
        where = dict.fromkeys(f"{death['worker']} ({death['where']})" for death in self._deaths)
        raise WorkersDiedError(
            f"{len(self._deaths)} workers in a row died or lost the server at this step of the turn, and none reported "
            f"why: {', '.join(where)}. Find out what ends the process, memory for example. What the turn had done "
            "before is kept: send retry to go on from there, or abort."
        )

    async def at(self, where: str, heartbeat: Heartbeat) -> None:
        """Tell the server what comes next, if that has to be known should it be the last thing that this worker does.

        Args:
            where: in words, as in "while ...".
            heartbeat: takes it there.
        """
        if not self.careful:
            return
        mark = self._journal.progress
        if mark != self._first_mark:
            self._cleared, self._silent, self._deaths = False, 1, []
            self.moved()
        if self._cleared:
            return
        self._at = {"attempt": self.number, "worker": self._worker, "where": where, "mark": mark}
        with suppress(RecordTooLargeError):
            await asyncio.wrap_future(heartbeat.flush())

    async def clear(self, heartbeat: Heartbeat) -> None:
        """Tell the server that what this turn is at has nothing to do with a death that comes now."""
        self._at, self._cleared = {}, True
        self._journal.cleared()
        with suppress(RecordTooLargeError, TurnLostError):
            await asyncio.wrap_future(heartbeat.flush())

    @property
    def seems_to_kill(self) -> bool:
        """Whether workers have died in it so often that it is better not to run beside others of its kind."""
        return self._silent >= MOST_DEATHS - 1

    def elsewhere(self, error: BaseException) -> ApplicationError | None:
        """The failure that has another worker try the turn, if this one lacks what it takes and there is hope."""
        lacked = next((link for link in chain_of(error) if isinstance(link, LACKING)), None)
        if lacked is None:
            return None
        before = self._lacking
        workers = list(dict.fromkeys([*before.get("workers", []), self._worker]))[-20:]
        since, count = before.get("since", time.time()), before.get("count", 0) + 1
        self._lacking = {"since": since, "count": count, "workers": workers, "attempt": self.number}
        waited = time.time() - since
        if waited >= self._patience.total_seconds():
            asked = f"Asked for {waited:.0f} s, with {count} attempts: {', '.join(workers)}."
            return ApplicationError(f"{lacked} {asked}", type=type(lacked).__name__, non_retryable=True)
        delay = min(0.5 * 1.5 ** min(count, 10), 5.0) * random.uniform(0.5, 1.5)  # noqa: S311 - no secret
        return ApplicationError(str(lacked), type=type(lacked).__name__, next_retry_delay=timedelta(seconds=delay))


_SHAPE: dict[str, type] = {"failed": int, "failure": str, "silent": int, "deaths": list, "at": dict, "lacking": dict}
_AT: dict[str, type] = {"attempt": int, "worker": str, "where": str, "mark": str}
_LACKED: dict[str, type | tuple[type, ...]] = {"attempt": int, "count": int, "since": (int, float), "workers": list}


def _read(found: object) -> JsonObject:
    """What an attempt has left; nothing, if it is not what attempts leave: anyone may have put something there."""
    if not isinstance(found, dict) or not all(
        isinstance(found.get(name, kind()), kind) for name, kind in _SHAPE.items()
    ):
        return {}
    places = [*found.get("deaths", []), *([found["at"]] if found.get("at") else [])]
    lacking = found.get("lacking") or {}
    fits = all(isinstance(at, dict) and all(isinstance(at.get(n), kind) for n, kind in _AT.items()) for at in places)
    fits &= not lacking or all(isinstance(lacking.get(name), kind) for name, kind in _LACKED.items())
    return found if fits and all(isinstance(worker, str) for worker in lacking.get("workers", [])) else {}


class OneByOne:
    """Lets those turns of one worker that seem to kill workers begin one after the other."""

    def __init__(self) -> None:
        self._suspect: tuple[Attempts, Heartbeat, float] | None = None
        self._clearing = False

    @asynccontextmanager
    async def turn(self, attempts: Attempts, heartbeat: Heartbeat, hurried: Callable[[], bool]) -> AsyncIterator[None]:
        """Wait until the one before is over its step, or has lived for a while and is cleared; not if `hurried`."""
        if not attempts.seems_to_kill:
            yield
            return
        while (before := self._suspect) and not hurried():
            if self._clearing or time.monotonic() < before[2] + ALONE_SECONDS:
                await asyncio.sleep(0.1)
                continue
            self._clearing = True
            try:
                await before[0].clear(before[1])
            finally:
                self._clearing = False
            if self._suspect is before:
                break
        mine = self._suspect = attempts, heartbeat, time.monotonic()

        def over() -> None:
            if self._suspect is mine:
                self._suspect = None

        attempts.moved = partial(asyncio.get_running_loop().call_soon_threadsafe, over)
        try:
            yield
        finally:
            over()
