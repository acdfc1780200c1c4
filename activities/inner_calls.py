"""The calls inside a call: those of sub-agents, and of agents and tools that a tool's own code runs.

The turn's journal has one entry for each call of the turn's own agent. What runs inside such a call is noted in that
entry under its *path*, the tool-use ids from that call down, so that a person who is asked about a call in doubt can
see what had run in it. Nothing in there is answered from the journal: a call that is run again runs all of it again.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from strands.interrupt import InterruptException
from strands.middleware import ExecuteToolContext, MiddlewareNext, ToolResultEvent
from strands.types._events import ToolInterruptEvent

from abeyance.tools import INVOCATION_KEY, TurnFacts
from activities.exits import CANCELLED, TurnEndsError
from activities.faults import Faults
from activities.heartbeat import Heartbeat, TurnLostError
from activities.journal import INTERRUPTED, NOT_STARTED, InnerCall, Journal
from activities.once_only import OnceOnly, Path
from activities.prevented import brief


@dataclass(frozen=True)
class Turn:
    """What all calls inside the calls of one turn share.

    Attributes:
        once_only: says which of them are once only.
        journal: takes their notes, and `heartbeat` takes it to the server.
        cancel: set when nothing may start any more.
        facts: what tools of the turn's own agent may ask about the turn.
        faults: for tests.
    """

    once_only: OnceOnly
    journal: Journal
    heartbeat: Heartbeat
    cancel: threading.Event
    facts: TurnFacts
    faults: Faults


@dataclass(frozen=True)
class Place:
    """A call that is at work, as what runs inside it knows it.

    Attributes:
        turn: that it belongs to.
        ids: the tool-use ids from the turn's own call down to it, and `tools` the names of their tools.
        invocations: how often code inside the turn's own call has invoked an agent of a name, by path and name.
    """

    turn: Turn
    ids: Path
    tools: Path
    invocations: dict[tuple[Path, str], int] = field(default_factory=dict)

    @property
    def facts(self) -> TurnFacts:
        """What the tools that run inside this call may ask about the turn."""
        # What a sub-agent remembers is not the session's.
        return replace(self.turn.facts, origins={}, above="".join(f"{quote(part, safe='')}/" for part in self.ids))

    def below(self, tool_use_id: str, tool: str) -> Place:
        """The place of a call inside this one."""
        return replace(self, ids=(*self.ids, tool_use_id), tools=(*self.tools, tool))

    def invocation_of(self, agent: str) -> Place:
        """The place of an agent that the call's own code invokes; each invocation has one of its own."""
        key = self.ids, agent
        number = self.invocations[key] = self.invocations.get(key, 0) + 1
        return replace(self, ids=(*self.ids, f"{agent}.{number}"))


_here: ContextVar[Place | None] = ContextVar("here", default=None)


def here() -> Place | None:
    """The call that runs the code which asks; `None` outside of all calls."""
    return _here.get()


@contextmanager
def inside(place: Place | None) -> Iterator[None]:
    """Have what the block runs know in which call it runs."""
    before = _here.get()
    _here.set(place)
    try:
        yield
    finally:
        # Not by a token: the generator that holds the block may be closed in another context.
        _here.set(before)


async def run_inside(
    place: Place,
    context: ExecuteToolContext,
    next_fn: MiddlewareNext[ExecuteToolContext, Any],
    *,
    answered: bool = False,
    at: Iterable[str] | None = None,
) -> AsyncGenerator[Any, None]:
    """Run a call inside the call at `place`, and note it there.

    Args:
        place: the call that it runs in.
        context: the call.
        next_fn: runs it.
        answered: whether a person has answered about it.
        at: the path of its agent, where that is another than the path of the calls around it.

    Raises:
        TurnEndsError: if the turn is over, before anything has started.
    """
    turn, journal, tool = place.turn, place.turn.journal, context.tool
    key, names = context.tool_use["toolUseId"], {context.tool_use["name"]} | ({tool.tool_name} if tool else set())
    own = place.below(key, tool.tool_name if tool else context.tool_use["name"])
    path, top = place.facts.path_of(key), place.ids[0]
    # Neither `Agent.as_tool` nor a call by code hands the invocation's state down.
    context.invocation_state[INVOCATION_KEY] = place.facts
    trusted = journal.explains(path) or journal.explains(key)
    once = any(
        turn.once_only.applies(above, names, tool, answered=answered, trusted=trusted)
        for above in {place.tools, place.tools if at is None else tuple(at)}
    )
    if turn.cancel.is_set():
        raise TurnEndsError(CANCELLED)
    call = InnerCall(" > ".join(own.tools[1:]), _now(), brief(context.tool_use["input"]), once=once)
    journal.inner_started(top, path, call)
    try:
        await _write(turn, barrier=once)
    except BaseException:
        journal.inner_ended(top, path, NOT_STARTED, _now())
        raise
    status: str | None = None
    try:
        turn.faults.at("inner tool running")
        with inside(own):
            async for event in next_fn(context):
                if isinstance(event, ToolResultEvent):
                    status = str(event.tool_result["status"])
                elif isinstance(event, ToolInterruptEvent):
                    status = INTERRUPTED
                yield event
    except InterruptException:
        status = INTERRUPTED
        raise
    except Exception:
        status = "error"
        raise
    finally:
        if status and not turn.cancel.is_set():
            # When the turn is over, it may have stopped half-way because it was told to.
            journal.inner_ended(top, path, status, _now())
            turn.heartbeat.nudge()
    await _write(turn, barrier=once)


async def run_outside(
    context: ExecuteToolContext,
    next_fn: MiddlewareNext[ExecuteToolContext, Any],
    once_only: OnceOnly,
    at: Path,
) -> AsyncGenerator[Any, None]:
    """Run what code calls where no call of the model is at work, as in a hook: nothing can note it.

    Args:
        context: the call.
        next_fn: runs it.
        once_only: says whether it may not run, as nothing could keep a crash from repeating it.
        at: the path of its agent.

    Raises:
        RuntimeError: if it may not.
    """
    names = {context.tool_use["name"]} | ({context.tool.tool_name} if context.tool else set())
    if once_only.applies(at, names, context.tool):
        raise RuntimeError(
            f"{context.tool_use['name']!r} is once only, and code may call it inside another tool only: called by a "
            "hook, it would run again after a crash, and nobody would be asked. It has not run."
        )
    async for event in next_fn(context):
        yield event


async def _write(turn: Turn, *, barrier: bool) -> None:
    if not barrier:
        turn.heartbeat.nudge()
        return
    try:
        await asyncio.wrap_future(turn.heartbeat.flush())
    except TurnLostError as lost:
        # Nothing may start any more, and no model may take that for a tool's result.
        turn.cancel.set()
        raise TurnEndsError(CANCELLED) from lost


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
