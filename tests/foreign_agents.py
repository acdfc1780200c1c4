"""Agents that say, ask and call whatever their options hold."""

from __future__ import annotations

from typing import Any

from strands import Agent, tool
from strands.hooks import BeforeToolCallEvent

from abeyance import AgentContext, ScriptedModel, ToolCall, agent
from tests.support import noise


@agent("says", description="Says what its options say, after a call that is asked about if they hold an input")
def says(context: AgentContext) -> Agent:
    @tool
    def act(arguments: Any) -> str:
        """Do it."""
        (context.workspace / "acted").write_text("x")
        return "done"

    def ask(event: BeforeToolCallEvent) -> None:
        given = context.options
        if rewritten := given.get("rewritten") or (given.get("noise") and noise(given["noise"])):
            event.tool_use = {**event.tool_use, "input": {"arguments": rewritten}}
        if event.interrupt(given.get("name", "approve"), reason=given.get("reason")) != "y":
            event.cancel_tool = "denied"

    message = context.options.get("message", "Done.")
    calls = [ToolCall("act", {"arguments": context.options["input"]})] if "input" in context.options else []
    return Agent(model=ScriptedModel([*calls, message, message]), tools=[act], hooks=[ask])
