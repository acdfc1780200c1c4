"""Pattern two: a tool that interrupts itself above a threshold."""

from __future__ import annotations

from strands import Agent, ToolContext, tool

from abeyance import AgentContext, agent, is_yes
from agents._tools import SYSTEM_PROMPT, deleter, inspect_files

HIGHEST_THRESHOLD = 3
"""Options come from whoever starts the run, who must not be able to switch the approval off."""


@agent("smart-delete", description="Deletes files; asks when there are three or more (option threshold: fewer)")
def smart_delete(context: AgentContext) -> Agent:
    """Build the agent for one turn."""
    threshold = context.options.get("threshold", HIGHEST_THRESHOLD)
    if isinstance(threshold, str) and threshold.isdecimal():
        threshold = int(threshold)
    if isinstance(threshold, bool) or not isinstance(threshold, int) or not 1 <= threshold <= HIGHEST_THRESHOLD:
        raise ValueError(
            f"The option 'threshold' must be a whole number from 1 to {HIGHEST_THRESHOLD}, not {threshold!r}."
        )
    delete_from = deleter(context.workspace)

    @tool(name="delete_files", context=True)
    def delete(paths: list[str], tool_context: ToolContext) -> str:
        """Delete files for good.

        Args:
            paths: Paths relative to the workspace.
            tool_context: Given by Strands; the model does not see it.
        """
        if len(paths) >= threshold:
            response = tool_context.interrupt(
                "approve-delete",
                reason={
                    "paths": paths,
                    "count": len(paths),
                    "message": f"{len(paths)} files would be deleted; from {threshold} on a person decides.",
                },
            )
            if not is_yes(response):
                return f"Nothing was deleted: a person denied it (answer: {response!r})."
        return delete_from(paths)

    return Agent(model=context.model, tools=[inspect_files(context.workspace), delete], system_prompt=SYSTEM_PROMPT)
