"""Agents for the tests of the journal; what they do is counted in files of the workspace."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

from strands import Agent, ToolContext, tool
from strands.agent.conversation_manager import NullConversationManager
from strands.hooks import AfterToolCallEvent, BeforeToolCallEvent

from abeyance import AgentContext, ToolCall, agent, call_attempt, idempotency_key
from tests.chaos.agents import CountingModel, Effects, effects_of
from tests.support import short

GATES: dict[str, threading.Event] = {}
"""Events that tests set to let a tool go on, by run id; they work in the test's own process only."""


def counted(workspace: Path, run: str) -> Counter[str]:
    """How often each effect of a run has happened."""
    return Counter(f"{line['what']} {line['key']}" for line in effects_of(workspace, run).read())


def _build(context: AgentContext, script: list[Any], tools: list[Any], **more: Any) -> Agent:
    return Agent(model=CountingModel(script, effects_of(context.workspace, context.run_id)), tools=tools, **more)


def _step(effects: Effects) -> Any:
    @tool
    def step(n: int) -> str:
        """Take a step."""
        effects.add("step", str(n))
        return f"step {n}"

    return step


@agent("forty-steps", description="Forty tool calls, one per message")
def forty_steps(context: AgentContext) -> Agent:
    effects = effects_of(context.workspace, context.run_id)
    script = [*(ToolCall("step", {"n": n}) for n in range(1, 40)), "Done."]
    return _build(context, script, [_step(effects)])


@agent("same-ids", description="A provider that gives every call the same id")
def same_ids(context: AgentContext) -> Agent:
    effects = effects_of(context.workspace, context.run_id)

    @tool(context=True)
    def step(n: int, tool_context: ToolContext) -> str:
        """Take a step."""
        effects.add("step", f"{n} {idempotency_key(tool_context)} {call_attempt(tool_context)}")
        return f"step {n}"

    def ask(event: BeforeToolCallEvent) -> None:
        if event.interrupt("approve", reason=event.tool_use["input"]) != "y":
            event.cancel_tool = "denied"

    script = [
        [ToolCall("step", {"n": 1}, id="call_1"), ToolCall("step", {"n": 2}, id="call_1")],
        ToolCall("step", {"n": 3}, id="call_1"),
        "Done.",
    ]
    return _build(context, script, [step], hooks=[ask])


@agent("fails-late", description="Its model fails for good after a tool has run, as long as a file is there")
def fails_late(context: AgentContext) -> Agent:
    effects = effects_of(context.workspace, context.run_id)

    class Fails(CountingModel):
        def compose(self, messages: Any, tool_specs: Any, system_prompt: Any) -> Any:
            if len(messages) > 1 and (context.workspace / "broken").exists():
                raise ValueError("the model refuses this conversation")
            return super().compose(messages, tool_specs, system_prompt)

    def ask(event: BeforeToolCallEvent) -> None:
        if event.interrupt("approve") != "y":
            event.cancel_tool = "denied"

    return Agent(model=Fails([ToolCall("step", {"n": 1}), "Done."], effects), tools=[_step(effects)], hooks=[ask])


@agent("waits-in-tool", description="A tool that works until the test says so, or until it is cancelled")
def waits_in_tool(context: AgentContext) -> Agent:
    effects = effects_of(context.workspace, context.run_id)

    @tool(context=True)
    def wait(tool_context: ToolContext) -> str:
        """Work until the gate opens."""
        gate = GATES.setdefault(context.run_id, threading.Event())
        effects.add("wait", "started")
        while not gate.wait(0.02):
            if tool_context.agent.cancel_signal.is_set():
                effects.add("wait", "cancelled")
                return "cancelled"
        effects.add("wait", "finished")
        return "finished"

    return _build(context, [ToolCall("wait"), ToolCall("step", {"n": 1}), "Done."], [wait, _step(effects)])


@agent("big-results", description="Three tool results of 600 kB each")
def big_results(context: AgentContext) -> Agent:
    effects = effects_of(context.workspace, context.run_id)

    @tool
    def load(n: int) -> str:
        """Load much."""
        effects.add("load", str(n))
        return "x" * int(context.options.get("size", 400_000))

    calls = [ToolCall("load", {"n": n}) for n in (1, 2, 3, 4)]
    return _build(context, [*calls, "Done."], [load])


@agent("many-steps", description="Takes as many steps as the option `steps` says, one per reply")
def many_steps(context: AgentContext) -> Agent:
    effects = effects_of(context.workspace, context.run_id)
    calls = [ToolCall("step", {"n": n}) for n in range(int(context.options["steps"]))]
    return _build(context, [*calls, "Done."], [_step(effects)], conversation_manager=NullConversationManager())


@agent("retrying-hook", description="A hook asks for one more try of each call")
def retrying_hook(context: AgentContext) -> Agent:
    effects = effects_of(context.workspace, context.run_id)
    tries: Counter[str] = Counter()

    def again(event: AfterToolCallEvent) -> None:
        tries[event.tool_use["toolUseId"]] += 1
        event.retry = tries[event.tool_use["toolUseId"]] < 2

    return _build(context, [ToolCall("step", {"n": 1}), "Done."], [_step(effects)], hooks=[again])


@agent("slow-hook", description="A synchronous hook that blocks for as many seconds as the option `seconds` says")
def slow_hook(context: AgentContext) -> Agent:
    effects = effects_of(context.workspace, context.run_id)

    def block(event: BeforeToolCallEvent) -> None:
        time.sleep(context.options["seconds"])

    return _build(context, [ToolCall("step", {"n": 1}), "Done."], [_step(effects)], hooks=[block])


def _die_if_asked(workspace: Path, orders: str = "die-*") -> None:
    """Kill this process, once for each file "die-…" in the workspace."""
    for order in sorted(workspace.glob(orders)):
        order.unlink()
        os.kill(os.getpid(), signal.SIGKILL)


@agent("payer", once_only=["pay"], description="Pays once; the tool may kill its own process")
def payer(context: AgentContext) -> Agent:
    effects = effects_of(context.workspace, context.run_id)

    @tool(context=True)
    def pay(amount: int, tool_context: ToolContext) -> str:
        """Pay."""
        effects.add("pay", f"start {call_attempt(tool_context)}")
        _die_if_asked(context.workspace)
        while (context.workspace / "hold").exists():
            time.sleep(0.02)
        effects.add("pay", "finish")
        return "paid for real"

    return _build(context, [ToolCall("pay", {"amount": 5}), "Done."], [pay])


@agent("pays-twice", once_only=["pay"], description="Pays twice, one after the other")
def pays_twice(context: AgentContext) -> Agent:
    effects = effects_of(context.workspace, context.run_id)

    @tool(context=True)
    def pay(amount: int, tool_context: ToolContext) -> str:
        """Pay."""
        effects.add("pay", str(amount))
        while (context.workspace / "hold").exists() and not tool_context.agent.cancel_signal.is_set():
            time.sleep(0.02)
        return "paid"

    return _build(context, [ToolCall("pay", {"amount": 1}), ToolCall("pay", {"amount": 2}), "Done."], [pay])


@agent("three-at-once", description="One call finishes, one asks, one dies")
def three_at_once(context: AgentContext) -> Agent:
    effects = effects_of(context.workspace, context.run_id)

    @tool
    def fast() -> str:
        """Finish at once."""
        effects.add("fast", "finish")
        return "fast"

    @tool
    def asked() -> str:
        """Be asked about."""
        effects.add("asked", "finish")
        return "asked"

    @tool
    def dies() -> str:
        """Die the first time, when the others are where they stay."""
        effects.add("dies", "start")
        time.sleep(short(0.5))  # so that the finish of `fast` has reached the server
        _die_if_asked(context.workspace)
        effects.add("dies", "finish")
        return "dies"

    def ask(event: BeforeToolCallEvent) -> None:
        if event.tool_use["name"] == "asked" and event.interrupt("approve") != "y":
            event.cancel_tool = "denied"

    return _build(
        context, [[ToolCall("fast"), ToolCall("asked"), ToolCall("dies")], "Done."], [fast, asked, dies], hooks=[ask]
    )


@agent("dies-at-twenty", description="Forty model calls; the process dies in the twentieth tool call")
def dies_at_twenty(context: AgentContext) -> Agent:
    effects = effects_of(context.workspace, context.run_id)

    @tool
    def step(n: int) -> str:
        """Take a step."""
        effects.add("step", str(n))
        if n == 20:
            time.sleep(short(0.3))  # so that everything before has reached the server
            _die_if_asked(context.workspace)
        return f"step {n}"

    return _build(context, [*(ToolCall("step", {"n": n}) for n in range(1, 40)), "Done."], [step])


@agent("held", description="A tool that works for as long as the file `hold` is there")
def held(context: AgentContext) -> Agent:
    effects = effects_of(context.workspace, context.run_id)

    @tool
    def work(n: int) -> str:
        """Work."""
        effects.add("work", f"start {n}")
        while (context.workspace / "hold").exists():
            time.sleep(0.02)
        effects.add("work", f"finish {n}")
        return "worked"

    return _build(context, [ToolCall("work", {"n": 1}), ToolCall("work", {"n": 2}), "Done."], [work])


@agent("file-manager-like", description="One step, which a hook asks about")
def file_manager_like(context: AgentContext) -> Agent:
    effects = effects_of(context.workspace, context.run_id)

    def ask(event: BeforeToolCallEvent) -> None:
        if event.interrupt("approve") != "y":
            event.cancel_tool = "denied"

    return _build(context, [ToolCall("step", {"n": 1}), "Done."], [_step(effects)], hooks=[ask])


@agent("asks-in-between", once_only=["pay"], description="A once-only tool that asks, and may die before and after")
def asks_in_between(context: AgentContext) -> Agent:
    effects = effects_of(context.workspace, context.run_id)

    @tool(context=True)
    def pay(tool_context: ToolContext) -> str:
        """Pay."""
        effects.add("pay", f"start {call_attempt(tool_context)}")
        _die_if_asked(context.workspace, "die-before")
        tool_context.interrupt("sure")
        _die_if_asked(context.workspace, "die-after")
        effects.add("pay", "finish")
        return "paid"

    return _build(context, [ToolCall("pay"), "Done."], [pay])


@agent("holds-second", description="Two calls; the second works for as long as the file `hold-2` is there")
def holds_second(context: AgentContext) -> Agent:
    effects = effects_of(context.workspace, context.run_id)

    @tool
    def work(n: int) -> str:
        """Work."""
        effects.add("work", f"start {n}")
        while (context.workspace / f"hold-{n}").exists():
            time.sleep(0.02)
        return "worked"

    return _build(context, [ToolCall("work", {"n": 1}), ToolCall("work", {"n": 2}), "Done."], [work])
