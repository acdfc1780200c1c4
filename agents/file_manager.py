"""Pattern one: a hook asks before a sensitive tool."""

from __future__ import annotations

from typing import Any

from strands import Agent
from strands.hooks import BeforeToolCallEvent, HookProvider, HookRegistry

from abeyance import AgentContext, agent, is_yes
from agents._tools import SYSTEM_PROMPT, delete_files, inspect_files


class AskBeforeDeleting(HookProvider):
    """Asks a person before every `delete_files`; any answer but a plain yes cancels the call."""

    def register_hooks(self, registry: HookRegistry, **kwargs: Any) -> None:
        """Subscribe to the calls of tools."""
        registry.add_callback(BeforeToolCallEvent, self.ask)

    def ask(self, event: BeforeToolCallEvent) -> None:
        """Stop the turn until a person has answered."""
        if event.tool_use["name"] != "delete_files":
            return
        response = event.interrupt("approve-delete", reason={"paths": event.tool_use["input"].get("paths")})
        if not is_yes(response):
            event.cancel_tool = f"A person denied the deletion (answer: {response!r})."


@agent("file-manager", description="Inspects and deletes files; a person approves each deletion")
def file_manager(context: AgentContext) -> Agent:
    """Build the agent for one turn."""
    return Agent(
        model=context.model,
        tools=[inspect_files(context.workspace), delete_files(context.workspace)],
        hooks=[AskBeforeDeleting()],
        system_prompt=SYSTEM_PROMPT,
    )
