"""Agents that a tool's own code invokes: found when they are invoked, so that their tool calls can be told and held.

Such an agent is in no registry, and Strands tells nobody that it runs. Whoever invokes one, also a Graph or a Swarm,
goes through the public method `Agent.stream_async`, which this module wraps. What runs inside a call of a turn is known
by a context variable, which asyncio and Strands hand on into tasks and threads; code that starts threads by itself does
not, and then nothing is known.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from functools import wraps
from typing import Any
from weakref import WeakSet

from strands import Agent
from strands.middleware import ExecuteToolContext, ExecuteToolStage, MiddlewareNext

from activities.exits import around
from activities.inner_calls import Place, here, inside, run_inside

_known: WeakSet[Agent] = WeakSet()
_watched: WeakSet[Agent] = WeakSet()


def needs_no_watch(agent: Agent) -> None:
    """Say that an agent's calls are looked after already."""
    _known.add(agent)


def watch_nested_agents() -> None:
    """Have every agent of this process that runs inside a call note its own calls there."""
    stream = Agent.stream_async
    if hasattr(stream, "__wrapped__"):
        return

    @wraps(stream)
    def watched(self: Agent, *args: Any, **more: Any) -> AsyncIterator[Any]:
        place = here()
        if place is None or self in _known:
            return stream(self, *args, **more)
        if self not in _watched:
            self.add_middleware(ExecuteToolStage, _around_tool)
            _watched.add(self)
        return _invoked(stream, self, place.invocation_of(self.name), args, more)

    Agent.stream_async = watched  # type: ignore[method-assign]


async def _invoked(
    stream: Callable[..., AsyncIterator[Any]], agent: Agent, place: Place, args: Any, more: Any
) -> AsyncGenerator[Any, None]:
    with inside(place):
        events: Any = stream(agent, *args, **more)
        async with aclosing(events):
            async for event in events:
                yield event


async def _around_tool(
    context: ExecuteToolContext, next_fn: MiddlewareNext[ExecuteToolContext, Any]
) -> AsyncGenerator[Any, None]:
    place = here()
    if place is None:
        # The agent outlives the call, and is at work for somebody else.
        async for event in next_fn(context):
            yield event
        return
    contained = around(next_fn, place.turn.cancel.is_set)
    async with aclosing(run_inside(place, context, contained)) as events:
        async for event in events:
            yield event
