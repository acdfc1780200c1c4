"""Pattern three: trust that a person grants once and that is remembered in the agent's state."""

from __future__ import annotations

from typing import Any

from strands import Agent
from strands.hooks import BeforeToolCallEvent, HookProvider, HookRegistry

from abeyance import AgentContext, agent, explain, is_yes
from agents._tools import SYSTEM_PROMPT, delete_files, inspect_files


class AskUntilTrusted(HookProvider):
    """Asks before every `delete_files` until a person answers "t"; the trust is kept under "<app>-trust"."""

    def __init__(self, app: str):
        self._app = app

    def register_hooks(self, registry: HookRegistry, **kwargs: Any) -> None:
        """Subscribe to the calls of tools."""
        registry.add_callback(BeforeToolCallEvent, self.ask)

    def ask(self, event: BeforeToolCallEvent) -> None:
        """Stop the turn until a person has answered, unless one trusts this agent already."""
        if event.tool_use["name"] != "delete_files":
            return
        trust = f"{self._app}-trust"
        if event.agent.state.get(trust) == "t":
            explain(event, "not asked: a person has answered t before, to trust always", trust)
            return
        response = event.interrupt(
            f"{self._app}-approval",
            reason={
                "paths": event.tool_use["input"].get("paths"),
                "options": {"y": "yes", "n": "no", "t": "trust"},
            },
        )
        if isinstance(response, str) and response.strip().lower() == "t":
            event.agent.state.set(trust, "t")
        elif not is_yes(response):
            event.cancel_tool = f"A person denied the deletion (answer: {response!r})."


@agent("trusted-file-manager", description='Deletes files; asks until a person answers "t" (trust always)')
def trusted_file_manager(context: AgentContext) -> Agent:
    """Build the agent for one turn."""
    return Agent(
        model=context.model,
        tools=[inspect_files(context.workspace), delete_files(context.workspace)],
        hooks=[AskUntilTrusted("trusted-file-manager")],
        system_prompt=SYSTEM_PROMPT,
    )
