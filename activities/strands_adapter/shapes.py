"""The private attributes of Strands that a turn depends on, looked for before anything runs.

There is no public way to an agent's interrupt state, to what a sub-agent's tool has stored of an interrupted turn, or
to whether a tool is called by the model. Where a version of Strands keeps these elsewhere, the guarantees that rest on
them would be void without a word; so an agent of such a version is refused.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib.metadata import version
from typing import Any

from strands import Agent
from strands.agent._agent_as_tool import _INTERRUPTED_TURNS_KEY, _AgentAsTool
from strands.event_loop._retry import ModelRetryStrategy
from strands.types.tools import AgentTool, ToolUse

from abeyance.errors import ConfigurationError

_BY_THE_MODEL = "event_loop_cycle_id"
"""Strands' event loop puts this key into the state of each invocation; a call by code has a state of its own."""


class UnknownShapeError(ConfigurationError):
    """Strands keeps something where this version of Abeyance does not find it."""

    def __init__(self, what: str):
        super().__init__(
            f"strands-agents {version('strands-agents')} was not tested with this version of Abeyance: {what}. "
            "No call was run. Install a version that was tested, or a newer Abeyance, then send retry."
        )


def require_known_shapes(agent: Agent, name: str = "the agent") -> None:
    """See to it that an agent, and those below it, keep what a turn reads of them where it is looked for.

    Raises:
        UnknownShapeError: if something is missing.
    """
    state = getattr(agent, "_interrupt_state", None)
    interrupts = getattr(state, "interrupts", None)
    if not isinstance(interrupts, dict) or not isinstance(getattr(state, "context", None), dict):
        raise UnknownShapeError(f"the interrupts of {name} are not where they were")
    for attribute in ("activated", "pending_tool_execution"):
        if not hasattr(state, attribute):
            raise UnknownShapeError(f"the interrupt state of {name} has no {attribute!r}")
    for attribute in ("_session_manager", "_background_tasks", "_retry_strategy", "_model_state"):
        if not hasattr(agent, attribute):
            raise UnknownShapeError(f"{name} has no {attribute!r}")
    strategy = agent._retry_strategy
    if type(strategy) is ModelRetryStrategy and not hasattr(strategy, "_max_attempts"):
        raise UnknownShapeError(f"the retry strategy of {name} has no '_max_attempts'")
    for tool_name, below in sub_agents(agent):
        tool = agent.tool_registry.registry[tool_name]
        if not hasattr(tool, "_preserve_context"):
            raise UnknownShapeError(f"the sub-agent {tool_name!r} has no '_preserve_context'")
        require_known_shapes(below, f"the sub-agent {tool_name!r}")


def sub_agents(agent: Agent) -> Iterator[tuple[str, Agent]]:
    """The agents that are tools of `agent`, by their tools' names."""
    for name, tool in agent.tool_registry.registry.items():
        if (below := agent_of(tool)) is not None:
            yield name, below


def agent_of(tool: AgentTool | None) -> Agent | None:
    """The agent that a tool runs, where it is a sub-agent."""
    return tool.agent if isinstance(tool, _AgentAsTool) else None


def open_uses(messages: Any) -> list[ToolUse]:
    """The tool calls of the latest message that has any."""
    for message in reversed(messages):
        if uses := [block["toolUse"] for block in message["content"] if "toolUse" in block]:
            return uses
    return []


def is_called_by_code(agent: Agent, tool_use_id: str, invocation_state: Mapping[str, Any]) -> bool:
    """Whether code calls a tool, as in `agent.tool.name()`, and not the model.

    A call that the model has asked for counts as the model's, whatever the invocation's state says.
    """
    if _BY_THE_MODEL in invocation_state:
        return False
    return all(use["toolUseId"] != tool_use_id for use in open_uses(agent.messages))


class StoredTurn:
    """The interrupted turn of a sub-agent, as the agent above has stored it.

    Attributes:
        messages: the sub-agent's conversation.
        interrupt_ids: those that it has asked under.
        context: where it has stored the turns of those below it.
    """

    def __init__(self, stored: Any):
        try:
            data = stored["data"]
            state = data["interrupt_state"]
            self.messages: list[Any] = data["messages"]
            self.interrupt_ids: list[str] = list(state["interrupts"])
            self.context: dict[str, Any] = state["context"]
            open_uses(self.messages)
        except (KeyError, TypeError) as error:
            raise UnknownShapeError(f"the interrupted turn of a sub-agent cannot be read ({error!r})") from error


def stored_turns(context: Mapping[str, Any]) -> dict[str, StoredTurn]:
    """The interrupted turns of sub-agents, by the tool-use id of the calls that run them.

    Args:
        context: that of an agent's interrupt state.

    Raises:
        UnknownShapeError: if they cannot be read.
    """
    return {key: StoredTurn(stored) for key, stored in (context.get(_INTERRUPTED_TURNS_KEY) or {}).items()}
