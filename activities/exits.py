"""What agent code raises that is not an `Exception`: it counts as an error, and ends nothing else.

`sys.exit` in a tool, `KeyboardInterrupt`, `GeneratorExit` and a `CancelledError` that nobody asked for go through every
`except Exception`: through Strands, the turn's event loop and the worker's own. So each is turned into an
`AgentExitError` right where agent code is called: in the threads of tools (`ordinary`), around the stages and hooks of
every agent of a turn (`contain`), and around a turn as a whole (`activities.turn`).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any, TypeVar, cast

from strands import Agent
from strands.hooks import BeforeToolCallEvent, BeforeToolsEvent
from strands.interrupt import Interrupt, InterruptException
from strands.middleware import ExecuteToolContext, ExecuteToolStage, InvokeModelStage, MiddlewareNext, ToolResultEvent
from strands.types._events import ToolInterruptEvent
from strands.types.tools import ToolResult

from abeyance.nesting import MOST_NESTED, TOO_DEEP, is_deeper
from activities.tool_inputs import flaw_of, refusal

T = TypeVar("T")
Stopped = Callable[[], bool]


CANCELLED = "cancelled"
"""The stop reason of a turn whose end nobody waits for any more."""


class TurnSignal(BaseException):
    """What this package itself sends through Strands: no agent's `except Exception` may hold it up."""


class TurnEndsError(TurnSignal):
    """Ends an invocation at a safe point, where a snapshot is whole, or where it counts no more.

    Not an `Exception`, since Strands offers those to hooks, which could ask for the model call again.
    """

    def __init__(self, stop_reason: str):
        super().__init__(stop_reason)
        self.stop_reason = stop_reason


class Asked(TurnSignal):
    """A tool asks a person. Strands' own `InterruptException` is an `Exception`, which tools swallow.

    Attributes:
        interrupt: what is asked.
    """

    def __init__(self, interrupt: Interrupt):
        super().__init__(interrupt.name)
        self.interrupt = interrupt


class AgentExitError(Exception):
    """The agent's code has raised what is not an `Exception`."""

    def __init__(self, raised: BaseException):
        super().__init__(f"{_shown(raised)} was raised. It does not end the worker: it counts as an error.")


def ordinary(work: Callable[[], T]) -> T:
    """Call `work`, a synchronous tool, in its thread.

    Raises:
        AgentExitError: if it raises what is not an `Exception`, or what no future can carry.
        InterruptException: if it asks a person.
    """
    try:
        return work()
    except Asked as asked:
        raise InterruptException(asked.interrupt) from None
    except TurnSignal:
        raise
    except StopIteration as error:
        # A future that is given one is never done.
        raise AgentExitError(error) from error
    except BaseException as error:
        if isinstance(error, Exception) and _can_be_said(error):
            raise
        raise AgentExitError(error) from error


def as_error(raised: BaseException, stopped: Stopped) -> BaseException:
    """What to raise in place of what agent code has raised in this task.

    Args:
        raised: itself, if it is an `Exception`, a signal of ours or a real cancel; anything else becomes an
            `AgentExitError`.
        stopped: whether the turn was cancelled.
    """
    if isinstance(raised, TurnSignal) or (isinstance(raised, Exception) and _can_be_said(raised)):
        return raised
    if isinstance(raised, asyncio.CancelledError) and (stopped() or _is_being_cancelled()):
        return raised
    error = AgentExitError(raised)
    error.__cause__ = raised
    return error


async def contained(events: AsyncGenerator[T, None], stopped: Stopped) -> AsyncGenerator[T, None]:
    """The events, whose generator raises an `AgentExitError` for what is not an `Exception`.

    Args:
        events: closed when this generator is.
        stopped: whether the turn was cancelled.
    """
    async with aclosing(events):
        while True:
            try:
                event = await anext(events)
            except StopAsyncIteration:
                return
            except BaseException as raised:
                if (error := as_error(raised, stopped)) is raised:
                    raise
                raise error from raised
            # Outside of the above: whoever closes this generator raises GeneratorExit here.
            yield event


async def run_tool(
    context: ExecuteToolContext, next_fn: MiddlewareNext[ExecuteToolContext, Any], stopped: Stopped
) -> AsyncGenerator[Any, None]:
    """What comes of a tool call, right around the tool: what is not an `Exception` becomes a failed result."""
    if "event_loop_cycle_id" in context.invocation_state and (flaw := flaw_of(context.tool_use["input"])):
        # A hook may have rewritten the arguments.
        yield ToolResultEvent(_failed(context.tool_use["toolUseId"], f"{flaw} The call was not run."))
        return
    replaced = False
    try:
        async with aclosing(contained(next_fn(context), stopped)) as events:
            async for event in events:
                kept = _kept(event, context.tool_use["toolUseId"])
                replaced = replaced or kept is not event
                yield kept
    except RecursionError:
        # Strands writes the result that was not kept into a trace.
        if not replaced:
            raise
    except Asked as asked:
        yield ToolInterruptEvent(context.tool_use, [asked.interrupt])
    except AgentExitError as error:
        yield ToolResultEvent(_failed(context.tool_use["toolUseId"], str(error)), exception=error)


def around(
    next_fn: MiddlewareNext[ExecuteToolContext, Any], stopped: Stopped
) -> MiddlewareNext[ExecuteToolContext, Any]:
    """What runs a tool, with `run_tool` around it."""
    return lambda context: run_tool(context, next_fn, stopped)


def _kept(event: Any, tool_use_id: str) -> Any:
    """The event, or a failed result in place of one that nothing could keep."""
    if not isinstance(event, ToolResultEvent) or not is_deeper(event.tool_result.get("content"), MOST_NESTED + 2):
        return event
    said = f"The tool has run, and what it did stays. But its result is {TOO_DEEP}, and was not kept."
    return ToolResultEvent(_failed(tool_use_id, said))


def contain(agent: Agent, stopped: Stopped, decided: Callable[[], None]) -> None:
    """Put one place around all code of `agent` that Strands calls: its hooks, its middleware, its model and its tools.

    Args:
        agent: any agent of a turn.
        stopped: whether the turn was cancelled. No model call and no tool call starts after that.
        decided: called when the hooks have decided about a tool call; it may raise an `Exception` to fail the turn.
    """
    hooks, stages = agent.hooks, agent._middleware_registry
    call_hooks, call_hooks_async, invoke = hooks.invoke_callbacks, hooks.invoke_callbacks_async, stages.invoke

    def hooks_called(event: Any) -> Any:
        try:
            return call_hooks(event)
        except BaseException as raised:
            if (error := as_error(raised, stopped)) is raised:
                raise
            raise error from raised

    async def hooks_awaited(event: Any) -> Any:
        if isinstance(event, BeforeToolsEvent) and (reason := refusal(event.message)):
            # No hook is asked about a call that cannot run.
            event.cancel = reason
            return event, []
        try:
            outcome = await call_hooks_async(event)
            if isinstance(event, BeforeToolCallEvent):
                decided()
            return outcome
        except BaseException as raised:
            if (error := as_error(raised, stopped)) is raised:
                raise
            raise error from raised

    async def staged(stage: Any, context: Any, terminal: Any) -> AsyncGenerator[Any, None]:
        if stopped() and stage in (ExecuteToolStage, InvokeModelStage):
            raise TurnEndsError(CANCELLED)
        try:
            async with aclosing(contained(invoke(stage, context, terminal), stopped)) as events:
                async for event in events:
                    yield event
        except asyncio.CancelledError as error:
            # All that might have cancelled this for a reason of its own, as a time limit, is inside.
            if stage is not ExecuteToolStage or stopped() or not _taken_back("cancelled_by_others"):
                raise
            raise AgentExitError(error) from error

    hooks.invoke_callbacks, hooks.invoke_callbacks_async = hooks_called, hooks_awaited  # type: ignore[method-assign]
    stages.invoke = staged  # type: ignore[method-assign]


def _is_being_cancelled() -> bool:
    """Whether the current task is being cancelled, by anybody but itself."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0 and not _taken_back("cancelled_by_itself")


def _taken_back(by: str) -> bool:
    """Whether it was the one named by that mark of `activities.loops` who cancelled this task; that is undone then."""
    task = asyncio.current_task()
    if task is None or not getattr(task, by, False):
        return False
    while task.cancelling():
        task.uncancel()
    setattr(task, by, False)
    return True


def _can_be_said(error: Exception) -> bool:
    """Whether an error has words: Strands takes them where nothing holds up what its class may raise instead."""
    try:
        str(error)
    except BaseException:  # noqa: BLE001 - the agent's own class
        return False
    return True


def _failed(tool_use_id: str, error: str) -> ToolResult:
    result: Any = {"toolUseId": tool_use_id, "status": "error", "content": [{"text": f"Error: {error}"}]}
    return cast("ToolResult", result)


def _shown(raised: BaseException) -> str:
    try:
        return repr(raised)
    except BaseException:  # noqa: BLE001 - the agent's own class
        return type(raised).__name__
