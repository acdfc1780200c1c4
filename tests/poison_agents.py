"""Agents that end their worker's process, as the OOM killer does, for as long as the file `poison` is there."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

from strands import Agent, tool
from strands.hooks import BeforeToolCallEvent

from abeyance import AgentContext, ToolCall, agent
from tests.chaos.agents import CountingModel, effects_of


def _die_if_poisoned(context: AgentContext, where: str) -> None:
    if (context.workspace / "poison").exists() and context.options.get("in") == where:
        effects_of(context.workspace, context.run_id).add("died", where)
        os.kill(os.getpid(), signal.SIGKILL)


@agent("poison", repeatable=["step"], description="Ends its process where the option `in` says")
def poison(context: AgentContext) -> Agent:
    effects = effects_of(context.workspace, context.run_id)
    _die_if_poisoned(context, "factory")

    class Dies(CountingModel):
        def compose(self, messages: Any, tool_specs: Any, system_prompt: Any) -> Any:
            _die_if_poisoned(context, "model")
            return super().compose(messages, tool_specs, system_prompt)

    @tool
    def step(n: int) -> str:
        """Take a step."""
        _die_if_poisoned(context, "tool")
        effects.add("step", str(n))
        return f"step {n}"

    def hook(event: BeforeToolCallEvent) -> None:
        _die_if_poisoned(context, "hook")

    return Agent(model=Dies([ToolCall("step", {"n": 1}), "Done."], effects), tools=[step], hooks=[hook])


@agent("bystander", repeatable=["work"], description="A model and a tool that work while the file `hold` is there")
def bystander(context: AgentContext) -> Agent:
    effects = effects_of(context.workspace, context.run_id)

    def held(where: str) -> None:
        while (context.workspace / "hold").exists() and context.options.get("in") == where:
            time.sleep(0.02)

    class Slow(CountingModel):
        def compose(self, messages: Any, tool_specs: Any, system_prompt: Any) -> Any:
            held("model")
            return super().compose(messages, tool_specs, system_prompt)

    @tool
    def work() -> str:
        """Work."""
        effects.add("work", "start")
        held("tool")
        return "worked"

    return Agent(model=Slow([ToolCall("work"), "Done."], effects), tools=[work])


@agent("elsewhere", description="An agent that only some workers have")
def elsewhere(context: AgentContext) -> Agent:
    Path(context.workspace / f"ran-{context.run_id}").touch()
    return Agent(model=CountingModel(["Done."], effects_of(context.workspace, context.run_id)))
