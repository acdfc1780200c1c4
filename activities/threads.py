"""The threads that turns run in: as many as there are turns, and none that an endless one could use up."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any, TypeVar

T = TypeVar("T")
Job = tuple[Callable[[], Any], "Future[Any]"]


class TurnThreads:
    """Runs each piece of work in a thread that does nothing else meanwhile. Safe to use from several threads.

    They are daemon threads, and so are those of a turn's tools, which they start: the process may end without them.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._idle: list[SimpleQueue[Job]] = []
        self._left: set[Future[Any]] = set()

    def submit(self, work: Callable[[], T]) -> Future[T]:
        """Have `work` done, at once."""
        future: Future[T] = Future()
        with self._lock:
            jobs = self._idle.pop() if self._idle else None
        if jobs is None:
            jobs = SimpleQueue()
            threading.Thread(target=self._serve, args=(jobs,), name="turn", daemon=True).start()
        jobs.put((work, future))
        return future

    def leave(self, future: Future[Any]) -> None:
        """Use the thread that does this work for nothing else: nobody knows when it ends, and what it leaves."""
        with self._lock:
            if not future.done():
                self._left.add(future)

    def _serve(self, jobs: SimpleQueue[Job]) -> None:
        while self._done(*jobs.get()):
            with self._lock:
                self._idle.append(jobs)

    def _done(self, work: Callable[[], Any], future: Future[Any]) -> bool:
        """Do one piece of work; gives whether the thread may do another."""
        if future.set_running_or_notify_cancel():
            try:
                result = work()
            except BaseException as error:  # noqa: BLE001 - whoever waits for it has to hear of it
                future.set_exception(error)
            else:
                future.set_result(result)
        with self._lock:
            left = future in self._left
            self._left.discard(future)
        return not left
