"""The agent that chaos runs, and the file outside its process in which its effects are counted."""

from __future__ import annotations

import json
import os
import random
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from strands import Agent, ToolContext, tool
from strands.hooks import BeforeToolCallEvent
from strands.types.content import ContentBlock, Messages
from strands.types.tools import AgentTool, ToolSpec

from abeyance import AgentContext, ScriptedModel, ToolCall, agent
from tests.chaos.throwing import dying_tool, throwing_callback, throwing_hook, throwing_model, throwing_tools

SCRIPT: list[Any] = [
    [ToolCall("look", {"n": 1}), ToolCall("look", {"n": 2})],
    [ToolCall("pay", {"n": 1}), ToolCall("look", {"n": 3})],
    [ToolCall("wire", {"n": 1}), ToolCall("look", {"n": 4}), ToolCall("move", {"n": 1})],
    [ToolCall("wire", {"n": 2}), ToolCall("pay", {"n": 2})],
    "Done.",
]


def script_of(options: Mapping[str, Any]) -> list[Any]:
    """What a run's model says: the script, with the further calls of the run's options, each in a reply of its own."""
    script = list(SCRIPT)
    for call in options.get("calls", []):
        script.insert(call["at"], ToolCall(call["name"], call["input"]))
    return script


class Effects:
    """A file that effects are appended to, synced before the call returns, so that no crash loses one."""

    def __init__(self, path: Path):
        self._path = path

    def add(self, what: str, key: str, **more: Any) -> None:
        line = json.dumps({"what": what, "key": key, "at": time.time(), "pid": os.getpid()} | more) + "\n"
        with self._path.open("ab", buffering=0) as file:
            file.write(line.encode())
            os.fsync(file.fileno())

    def read(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self._path.read_text().splitlines()] if self._path.exists() else []

    def first(self, what: str) -> bool:
        """Whether this is the first time that `what` is asked for, in any process."""
        try:
            self._path.with_suffix(f".{what}").touch(exist_ok=False)
        except FileExistsError:
            return False
        return True


class CountingModel(ScriptedModel):
    """A scripted model that notes every call that reaches it."""

    def __init__(self, replies: Sequence[Any], effects: Effects):
        super().__init__(replies)
        self._effects = effects

    def compose(
        self, messages: Messages, tool_specs: Sequence[ToolSpec], system_prompt: str | None
    ) -> list[ContentBlock]:
        self._effects.add("model", str(sum(message["role"] == "assistant" for message in messages)))
        return super().compose(messages, tool_specs, system_prompt)


def effects_of(workspace: Path, run: str) -> Effects:
    return Effects(workspace / f"{run}.jsonl")


def _ask(event: BeforeToolCallEvent) -> None:
    if event.tool_use["name"] in ("wire", "move", "charge") and event.interrupt("approve", reason="money") != "y":
        event.cancel_tool = "denied"


def _acting(effects: Effects, longest: float = 0.02) -> list[AgentTool]:
    def act(name: str, n: int, tool_context: ToolContext) -> str:
        key = f"{name}:{tool_context.tool_use['toolUseId']}"
        effects.add("start", key, call=f"{name} {n}")
        time.sleep(random.uniform(0, longest))
        effects.add("finish", key, call=f"{name} {n}")
        return f"{name} done"

    @tool(context=True)
    def look(n: int, tool_context: ToolContext) -> str:
        """Look; nobody minds if it happens twice."""
        return act("look", n, tool_context)

    @tool(context=True)
    def pay(n: int, tool_context: ToolContext) -> str:
        """Pay; declared once only."""
        return act("pay", n, tool_context)

    @tool(context=True)
    def wire(n: int, tool_context: ToolContext) -> str:
        """Wire; once only because a person approves it."""
        return act("wire", n, tool_context)

    @tool(context=True)
    def move(n: int, tool_context: ToolContext) -> str:
        """Move; approved, and declared repeatable."""
        return act("move", n, tool_context)

    @tool(context=True)
    def charge(n: int, tool_context: ToolContext) -> str:
        """Charge; the tool of a sub-agent, approved."""
        return act("charge", n, tool_context)

    @tool(context=True)
    def fee(n: int, tool_context: ToolContext) -> str:
        """Take a fee; the tool of a sub-agent, declared once only."""
        return act("fee", n, tool_context)

    return [look, pay, wire, move, charge, fee]


@agent("chaos", once_only=["pay"], repeatable=["move"])
def chaos(context: AgentContext) -> Agent:
    effects, options = effects_of(context.workspace, context.run_id), context.options
    throwing_hook("factory", effects, options)(None)
    look, pay, wire, move, _, _ = _acting(effects, options.get("longest", 0.02))
    return Agent(
        model=throwing_model(CountingModel, script_of(options), effects, options),
        tools=[look, pay, wire, move, *throwing_tools(effects), dying_tool(effects)],
        hooks=[_ask, *_throwing(effects, options)],
        callback_handler=throwing_callback(effects, options),
    )


@agent("chaos-below", once_only=["pay", "fee"], repeatable=["move"])
def chaos_below(context: AgentContext) -> Agent:
    """The same with a sub-agent that takes a fee and, asked about, charges."""
    effects = effects_of(context.workspace, context.run_id)
    look, pay, wire, move, charge, fee = _acting(effects, context.options.get("longest", 0.02))
    script: list[Any] = [
        [ToolCall("fee", {"n": 1}), ToolCall("look", {"n": 8})],
        ToolCall("charge", {"n": 1}),
        "Charged.",
    ]
    deputy = Agent(name="deputy", model=ScriptedModel(script), tools=[look, charge, fee], hooks=[_ask])
    return Agent(
        model=CountingModel(script_of(context.options), effects),
        tools=[look, pay, wire, move, deputy.as_tool(name="deputy", description="Charges")],
        hooks=[_ask],
    )


@agent("chaos-pulse")
def chaos_pulse(context: AgentContext) -> Agent:
    """Looks once: whether a worker is alive."""
    effects = effects_of(context.workspace, context.run_id)
    look = _acting(effects)[0]
    return Agent(model=CountingModel([ToolCall("look", {"n": 1}), "Done."], effects), tools=[look])


def _throwing(effects: Effects, options: Mapping[str, Any]) -> list[Any]:
    from strands.hooks import AfterToolCallEvent, BeforeInvocationEvent

    class Throwing:
        def register_hooks(self, registry: Any, **more: Any) -> None:
            registry.add_callback(BeforeToolCallEvent, throwing_hook("before tool", effects, options))
            registry.add_callback(AfterToolCallEvent, throwing_hook("after tool", effects, options))
            registry.add_callback(BeforeInvocationEvent, throwing_hook("before invocation", effects, options))

    return [Throwing()] if "throws" in options else []
