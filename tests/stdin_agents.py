"""An agent whose tools and hooks ask whoever sits at the worker's keyboard."""

from __future__ import annotations

import getpass
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import click
from rich.prompt import Confirm
from strands import Agent, tool
from strands.vended_interventions.hitl import HumanInTheLoop

from abeyance import AgentContext, ScriptedModel, ToolCall, agent

ASK: dict[str, Callable[[], Any]] = {
    "input": lambda: input("sure? "),
    "readline": lambda: sys.stdin.readline(),
    "read": lambda: sys.stdin.read(),
    "buffer": lambda: sys.stdin.buffer.read(),
    "lines": lambda: next(iter(sys.stdin)),
    "getpass": lambda: getpass.getpass("password: "),
    "click": lambda: click.confirm("sure?"),
    "rich": lambda: Confirm.ask("sure?"),
}


@agent("asks-the-keyboard", description="Asks somebody who is not there")
def asks_the_keyboard(context: AgentContext) -> Agent:
    @tool
    def consent(how: str) -> str:
        """Ask for consent."""
        try:
            ASK[how]()
        except (EOFError, Exception):
            return "cancelled by the user"
        return "asked"

    @tool
    def child() -> str:
        """Have a child read its standard input."""
        return repr(subprocess.run(["cat"], capture_output=True, check=True).stdout)

    calls: list[Any] = [ToolCall("consent", {"how": how}) for how in ASK]
    model = ScriptedModel([[*calls, ToolCall("child")], "Done."])
    hooks: list[Any] = [HumanInTheLoop(ask="stdio")] if context.options.get("hitl") else []
    return Agent(model=model, tools=[consent, child], interventions=hooks)
