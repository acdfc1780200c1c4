"""Agents whose code ends with what is not an ordinary exception, or does not end at all."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from strands import Agent, ToolContext, tool
from strands.hooks import AfterToolCallEvent, BeforeModelCallEvent, BeforeToolCallEvent
from strands.middleware import ExecuteToolStage
from strands.models import Model

from abeyance import AgentContext, ToolCall, agent
from tests.chaos.agents import CountingModel, Effects, effects_of
from tests.hostile_agents import ask

GATES: dict[str, threading.Event] = {}
"""Events that tests set to let what blocks go on, by run id."""

THREADS: dict[str, threading.Thread] = {}
"""The threads that have blocked last, by run id."""


async def _cancelled_inside() -> None:
    inner = asyncio.create_task(asyncio.sleep(60))
    inner.cancel()
    await inner


async def _cancels_itself() -> None:
    task = asyncio.current_task()
    assert task
    task.cancel()
    await asyncio.sleep(60)


async def _cancelled_from_a_callback() -> None:
    task = asyncio.current_task()
    assert task
    asyncio.get_running_loop().call_soon(task.cancel)
    await asyncio.sleep(60)


async def _exits_in_a_task() -> None:
    async def work() -> None:
        sys.exit(2)

    await asyncio.create_task(work())


async def _exits_in_a_group() -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(_exits_in_a_task())


async def _exits_in_a_callback() -> None:
    asyncio.get_running_loop().call_soon(sys.exit, 2)
    await asyncio.sleep(0.1)
    raise RuntimeError("SystemExit did not end the loop")


async def _stops_the_loop() -> None:
    asyncio.get_running_loop().stop()
    await asyncio.sleep(0.1)
    raise RuntimeError("stop did not end the loop")


async def _takes_the_threads_away() -> None:
    loop = asyncio.get_running_loop()
    loop.set_default_executor(ThreadPoolExecutor(1))
    await loop.shutdown_default_executor()
    raise RuntimeError("the threads are gone")


def _raises(error: type[BaseException]) -> Callable[[], None]:
    def fail() -> None:
        raise error

    return fail


def _cannot_be_said() -> None:
    class Unsayable(Exception):
        def __str__(self) -> str:
            raise SystemExit(2)

        __repr__ = __str__

    raise Unsayable


SYNC: dict[str, Callable[[], None]] = {
    "exit": lambda: sys.exit(2),
    "ctrl-c": _raises(KeyboardInterrupt),
    "generator-exit": _raises(GeneratorExit),
    "cancelled": _raises(asyncio.CancelledError),
    "stop-iteration": lambda: next(iter(())),
    "stop-async-iteration": _raises(StopAsyncIteration),
    "unsayable": _cannot_be_said,
}
ASYNC: dict[str, Callable[[], Any]] = {
    "cancelled-inside": _cancelled_inside,
    "cancels-itself": _cancels_itself,
    "cancelled-from-a-callback": _cancelled_from_a_callback,
    "exits-in-a-task": _exits_in_a_task,
    "exits-in-a-group": _exits_in_a_group,
    "exits-in-a-callback": _exits_in_a_callback,
    "stops-the-loop": _stops_the_loop,
    "takes-the-threads-away": _takes_the_threads_away,
}


def _payment(context: AgentContext, effects: Effects, how: str) -> Any:
    if how in ASYNC:

        @tool
        async def pay() -> str:
            """Pay."""
            effects.add("pay", "start")
            await ASYNC[how]()
            return "paid"
    elif how.startswith("async-"):

        @tool
        async def pay() -> str:
            """Pay."""
            effects.add("pay", "start")
            SYNC[how.removeprefix("async-")]()
            return "paid"
    else:

        @tool
        def pay() -> str:
            """Pay."""
            effects.add("pay", "start")
            SYNC[how]()
            return "paid"

    return pay


@agent("ends-oddly", description="A tool that ends with what its options say")
def ends_oddly(context: AgentContext) -> Agent:
    effects = effects_of(context.workspace, context.run_id)
    options = context.options
    pay = _payment(context, effects, options["how"])

    @tool
    def look() -> str:
        """Look."""
        return "looked"

    hooks: list[Any] = [ask] if options.get("ask") else []
    script = [[ToolCall("pay"), ToolCall("look")], ToolCall("look"), "Done."]
    inner = Agent(
        name="sub", model=CountingModel(script, effects), tools=[pay, look], hooks=hooks, callback_handler=None
    )
    if not options.get("below"):
        return inner
    outer = CountingModel([ToolCall("sub", {"input": "pay"}), "All done."], effects)
    return Agent(model=outer, tools=[inner.as_tool()])


@agent(
    "breaks-oddly",
    description="Its hook, model, factory or another part ends with what its options say",
    answers={"approve": ["break"]},
)
def breaks_oddly(context: AgentContext) -> Agent:
    effects = effects_of(context.workspace, context.run_id)
    where = context.options["where"]
    end = SYNC[context.options["how"]]
    if where == "factory":
        end()

    class Ends(CountingModel):
        def compose(self, messages: Any, tool_specs: Any, system_prompt: Any) -> Any:
            if where == "model":
                end()
            return super().compose(messages, tool_specs, system_prompt)

    def before_call(event: BeforeToolCallEvent) -> None:
        if where == "hook" or (where == "answer" and event.interrupt("approve") == "break"):
            end()

    def after_call(event: AfterToolCallEvent) -> None:
        if where == "after":
            end()

    def before_model(event: BeforeModelCallEvent) -> None:
        if where == "model-hook":
            end()

    def callback(**event: Any) -> None:
        if where == "callback" and "message" in event:
            end()

    async def around(call: Any, next_fn: Any) -> Any:
        if where == "middleware":
            end()
        async for event in next_fn(call):
            yield event

    @tool
    def pay() -> str:
        """Pay."""
        effects.add("pay", "start")
        return "paid"

    built = Agent(
        model=Ends([ToolCall("pay"), "Done."], effects),
        tools=[pay],
        hooks=[before_call, after_call, before_model],
        callback_handler=callback,
    )
    built.add_middleware(ExecuteToolStage, around)
    return built


def _never(context: AgentContext, effects: Effects) -> None:
    gate = GATES.setdefault(context.run_id, threading.Event())
    THREADS[context.run_id] = threading.current_thread()
    effects.add("never", "started")
    gate.wait(120)
    effects.add("never", "ended")


class _Blocks(CountingModel):
    def __init__(self, script: list[Any], effects: Effects, block: Callable[[], None]):
        super().__init__(script, effects)
        self._wait = block

    def compose(self, messages: Any, tool_specs: Any, system_prompt: Any) -> Any:
        self._wait()
        return super().compose(messages, tool_specs, system_prompt)


@agent("never-ends", once_only=["pay"], description="A tool, a hook, a model or a factory that never returns")
def never_ends(context: AgentContext) -> Agent:
    effects = effects_of(context.workspace, context.run_id)
    where = context.options["where"]

    def block() -> None:
        _never(context, effects)

    @tool
    def pay() -> str:
        """Never return."""
        block()
        return "paid"

    @tool
    async def wait() -> str:
        """Wait for what never comes, and do not listen."""
        effects.add("never", "started")
        while True:
            try:
                await asyncio.get_running_loop().create_future()
            except asyncio.CancelledError:
                effects.add("never", "cancelled")

    @tool
    async def leave() -> str:
        """Leave a thread behind, and what is to go on in the loop after it."""
        left = asyncio.get_running_loop().run_in_executor(None, block)
        left.add_done_callback(lambda _: effects.add("never", "went on"))
        await asyncio.sleep(0.1)
        return "left"

    async def goes_on() -> None:
        try:
            await asyncio.sleep(3_600)
        except asyncio.CancelledError:
            effects.add("never", "cancelled")
            raise

    @tool
    async def begin() -> str:
        """Leave a task behind."""
        asyncio.get_running_loop().create_task(goes_on())
        await asyncio.sleep(0.1)
        return "begun"

    def hook(event: BeforeToolCallEvent) -> None:
        if where == "hook":
            block()

    if where == "factory":
        block()
    called = {"future": "wait", "leftover": "leave", "task": "begin"}.get(where, "pay")
    script = [ToolCall(called), "Done."]
    model: Model = _Blocks(script, effects, block) if where == "model" else CountingModel(script, effects)
    return Agent(model=model, tools=[pay, wait, leave, begin], hooks=[hook])


class _StopsFor(CountingModel):
    """A model with a stop reason of its own."""

    def __init__(self, reason: str, effects: Effects):
        super().__init__(["Done."], effects)
        self._reason = reason

    async def stream(self, *args: Any, **kwargs: Any) -> Any:
        async for event in super().stream(*args, **kwargs):
            yield {"messageStop": {"stopReason": self._reason}} if "messageStop" in event else event


@agent("stops-for", description="Stops for the reason that its options say")
def stops_for(context: AgentContext) -> Agent:
    effects = effects_of(context.workspace, context.run_id)
    return Agent(model=_StopsFor(context.options["reason"], effects))


@agent("checkpoints", description="Pauses by itself, or has a sub-agent that does")
def checkpoints(context: AgentContext) -> Agent:
    effects = effects_of(context.workspace, context.run_id)
    below = bool(context.options.get("below"))
    inner = Agent(name="pauser", model=CountingModel(["Done."], effects), checkpointing=True)
    return Agent(model=CountingModel(["Done."], effects), tools=[inner]) if below else inner


@agent("large-state", description="Has more state than a record is to have")
def large_state(context: AgentContext) -> Agent:
    effects = effects_of(context.workspace, context.run_id)

    @tool
    def look() -> str:
        """Look."""
        return "looked"

    script = [ToolCall("look"), ToolCall("look"), "Done."]
    return Agent(model=CountingModel(script, effects), tools=[look], state={"large": "x" * 1_200_000})


@agent("swallows", description="Tools and a hook that catch their own question, and would go on unasked")
def swallows(context: AgentContext) -> Agent:
    effects = effects_of(context.workspace, context.run_id)
    how = context.options["how"]

    def act(tool_context: ToolContext) -> str:
        try:
            if tool_context.interrupt("approve", reason="money") != "y":
                return "denied"
        except Exception:
            effects.add("pay", "swallowed")
        except BaseException:
            if how != "everything":
                raise
        effects.add("pay", "start")
        return "paid"

    @tool(context=True)
    def pay(tool_context: ToolContext) -> str:
        """Pay."""
        return act(tool_context)

    @tool(context=True)
    async def send(tool_context: ToolContext) -> str:
        """Pay in the loop."""
        return act(tool_context)

    @tool
    def give() -> str:
        """Pay without asking."""
        effects.add("pay", "start")
        return "paid"

    def hook(event: BeforeToolCallEvent) -> None:
        try:
            event.interrupt("approve")
        except Exception:
            effects.add("pay", "swallowed")

    script = [ToolCall({"async": "send", "hook": "give"}.get(how, "pay")), "Done."]
    hooks: list[Any] = [hook] if how == "hook" else []
    model = CountingModel(script, effects)
    inner = Agent(name="sub", model=model, tools=[pay, send, give], hooks=hooks, callback_handler=None)
    if how != "below":
        return inner
    return Agent(model=CountingModel([ToolCall("sub", {"input": "go"}), "Done."], effects), tools=[inner])
