"""The agents that are measured: scripted, with tools that do nothing, and with a clock in their own hooks."""

from __future__ import annotations

import time
from typing import Any, Literal

from strands import Agent, tool
from strands.agent.conversation_manager import NullConversationManager
from strands.hooks import AfterInvocationEvent, BeforeInvocationEvent
from strands.tools.executors import ConcurrentToolExecutor, SequentialToolExecutor

from abeyance import AgentContext, ScriptedModel, ToolCall, agent
from bench.script import Asks, ScriptModel, act

Shape = Literal["one per message", "one message, one by one", "one message, at once"]
SHAPES: tuple[Shape, ...] = ("one per message", "one message, one by one", "one message, at once")

INVOCATIONS: dict[str, float] = {}
"""How many seconds the agent's invocation took, by run id; it works in the benchmark's own process only."""


def stepping(run: str, shape: Shape, calls: int) -> Agent:
    """An agent that makes `calls` tool calls, which do nothing, and notes in `INVOCATIONS` how long that took."""

    @tool
    def step(n: int) -> str:
        """Take a step."""
        return f"step {n}"

    def begin(event: BeforeInvocationEvent) -> None:
        INVOCATIONS[run] = -time.perf_counter()

    def end(event: AfterInvocationEvent) -> None:
        INVOCATIONS[run] += time.perf_counter()

    steps = [ToolCall("step", {"n": n}, id=f"call_{n}") for n in range(calls)]
    script: list[Any] = [*steps, "Done."] if shape == "one per message" else [steps, "Done."]
    return Agent(
        model=ScriptedModel(script),
        tools=[step],
        hooks=[begin, end],
        callback_handler=None,
        tool_executor=SequentialToolExecutor() if shape == "one message, one by one" else ConcurrentToolExecutor(),
    )


@agent("bench-repeatable", description="Its tool calls may be repeated, so they are written in the background")
def repeatable(context: AgentContext) -> Agent:
    """The agent whose writes hold nothing up."""
    return stepping(context.run_id, context.options["shape"], context.options["calls"])


@agent("bench-once-only", once_only=True, description="Its tool calls wait for the server before and after")
def once_only(context: AgentContext) -> Agent:
    """The agent with two barriers per tool call."""
    return stepping(context.run_id, context.options["shape"], context.options["calls"])


@tool(name="step")
def step(n: int, action: str = "") -> str:
    """Take a step."""
    return act(n, action)


@agent("bench-script", description="Does what its prompt says: see bench.script")
def scripted(context: AgentContext) -> Agent:
    """The agent that every contestant runs."""
    return Agent(model=ScriptModel(), tools=[step], hooks=[Asks()], conversation_manager=NullConversationManager())
