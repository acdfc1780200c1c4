"""The event loop of a turn: one per thread, kept for the next turn, since making one takes longer than many a turn."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, ParamSpec, TypeVar

T = TypeVar("T")
P = ParamSpec("P")

TOOL_THREADS = 32
"""How many synchronous tools of one turn run at the same time."""

_here = threading.local()


class _Tools(ThreadPoolExecutor):
    """The threads of a turn's synchronous tools, which knows whether any is at work."""

    def __init__(self) -> None:
        super().__init__(TOOL_THREADS, thread_name_prefix="tool")
        self._running: set[Future[Any]] = set()

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        future = super().submit(fn, *args, **kwargs)
        self._running.add(future)
        future.add_done_callback(self._running.discard)
        return future

    @property
    def idle(self) -> bool:
        return not self._running


class _Loop:
    def __init__(self) -> None:
        self._runner, self._tools = asyncio.Runner(), _Tools()
        self._runner.get_loop().set_default_executor(self._tools)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        # Contexts are new for each turn: what one has set in its context is nothing to the next.
        return self._runner.run(work, context=contextvars.copy_context())

    @property
    def clean(self) -> bool:
        """Whether the turn has left nothing behind that could go on in the next one."""
        return self._tools.idle and not asyncio.all_tasks(self._runner.get_loop())

    def close(self) -> None:
        """End what the turn has left: tasks are cancelled, and tools in threads are waited for."""
        self._runner.close()


def to_its_end(work: Coroutine[Any, Any, T]) -> T:
    """Run a turn in this thread, to its very end: no task and no tool of it is at work when this returns.

    Args:
        work: the turn.

    Raises:
        BaseException: what it raises.
    """
    loop: _Loop = getattr(_here, "loop", None) or _Loop()
    _here.loop = loop
    try:
        return loop.run(work)
    finally:
        if not loop.clean:
            _here.loop = None
            loop.close()
