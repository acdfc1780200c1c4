"""The event loop of a turn: one per thread, kept for the next turn, since making one takes longer than many a turn.

Agent code runs in it, so it does not let that code stop it, take its threads away, or leave it changed.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import threading
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import thread as pools
from functools import partial
from typing import Any, ParamSpec, TypeVar

from activities.exits import ordinary

T = TypeVar("T")
P = ParamSpec("P")

log = logging.getLogger("abeyance.turn")

TOOL_THREADS = 32
"""How many synchronous tools of one turn run at the same time."""

_here = threading.local()


class _Tools(ThreadPoolExecutor):
    """The threads of a turn's synchronous tools, which knows whether any is at work."""

    def __init__(self) -> None:
        super().__init__(TOOL_THREADS, thread_name_prefix="tool")
        self._running: set[Future[Any]] = set()

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        future = super().submit(ordinary, partial(fn, *args, **kwargs))
        self._running.add(future)
        future.add_done_callback(self._running.discard)
        return future

    def _adjust_thread_count(self) -> None:
        super()._adjust_thread_count()
        # The interpreter must not wait at its exit for a tool that never returns.
        for thread in self._threads:
            pools._threads_queues.pop(thread, None)  # type: ignore[attr-defined]

    @property
    def idle(self) -> bool:
        return not self._running


class _Task(asyncio.Task[Any]):
    """A task that knows whether it was cancelled by itself, or by somebody other than the task that has made it."""

    def __init__(self, work: Coroutine[Any, Any, Any], *, loop: asyncio.AbstractEventLoop, **more: Any):
        self._maker = asyncio.current_task(loop)
        self.cancelled_by_itself = self.cancelled_by_others = False
        super().__init__(work, loop=loop, **more)

    def cancel(self, msg: Any | None = None) -> bool:
        loop = self.get_loop()
        by = asyncio.current_task(loop)
        if loop.is_running() and by is not self._maker:
            self.cancelled_by_others = True
            self.cancelled_by_itself = by is self
        return super().cancel(msg)


class _Loop(asyncio.SelectorEventLoop):
    """An event loop that lets agent code neither stop it nor exchange its threads."""

    def __init__(self) -> None:
        super().__init__()
        self._tools = _Tools()
        super().set_default_executor(self._tools)

    def set_default_executor(self, executor: Any) -> None:
        log.warning("agent code has set a default executor for the turn's event loop: it keeps its own")

    async def shutdown_default_executor(self, *args: Any, **kwargs: Any) -> None:
        log.warning("agent code has shut down the default executor of the turn's event loop: it keeps its own")

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a turn to its end, whatever is raised past it meanwhile."""
        self.set_task_factory(lambda loop, made, **more: _Task(made, loop=loop, **more))
        self.set_exception_handler(None)
        self.set_debug(False)
        # Contexts are new for each turn: what one has set in its context is nothing to the next.
        task = self.create_task(work, context=contextvars.copy_context())
        while not task.done():
            try:
                self.run_until_complete(task)
            except BaseException as raised:  # noqa: BLE001 - the turn's own is raised below
                # A callback that exits, a task that exits, or a call of `stop`, none of which is the turn's end.
                if not task.done():
                    log.warning("agent code was stopped from ending the turn's event loop: %r", raised)
        return task.result()

    @property
    def clean(self) -> bool:
        """Whether the turn has left nothing behind that could go on in the next one."""
        return self._tools.idle and not asyncio.all_tasks(self)

    def end(self, patience: float) -> None:
        """End what the turn has left: tasks are cancelled, and tools in threads are waited for, so many seconds."""
        over = time.monotonic() + patience
        if left := asyncio.all_tasks(self):
            for task in left:
                task.cancel()
            self._come_to(asyncio.wait(left, timeout=patience))
        self._come_to(asyncio.wait_for(self.shutdown_asyncgens(), max(0.1, over - time.monotonic())))
        while not self._tools.idle and time.monotonic() < over:
            time.sleep(0.01)
        self._tools.shutdown(wait=False)
        if not self.clean:
            log.warning("a turn's agent has left work behind that did not end within %g s", patience)
            return
        self.close()

    def _come_to(self, work: Coroutine[Any, Any, Any]) -> None:
        try:
            self.run_until_complete(work)
        except BaseException:
            log.warning("a turn's agent could not be ended in order", exc_info=True)


def to_its_end(work: Coroutine[Any, Any, T], patience: float) -> T:
    """Run a turn in this thread, to its very end: no task and no tool of it is at work when this returns.

    Args:
        work: the turn.
        patience: seconds that what it has left may take to end; what has not ended by then is left behind.

    Raises:
        BaseException: what it raises.
    """
    loop: _Loop = getattr(_here, "loop", None) or _Loop()
    _here.loop = loop
    asyncio.set_event_loop(loop)
    try:
        return loop.run(work)
    finally:
        if not loop.clean:
            _here.loop = None
            asyncio.set_event_loop(None)
            loop.end(patience)
