"""Which calls are once only: never repeated after a crash unless a person says so.

A call is as once only as what runs inside it: one that runs a sub-agent with a once-only tool is once only itself.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from typing import Any, cast

from strands import Agent
from strands.types.tools import AgentTool

from abeyance.errors import ConfigurationError
from abeyance.registry import Registration
from activities.strands_adapter.shapes import agent_of, sub_agents

Path = tuple[str, ...]

TRUSTED = "hitl:trusted_tools"
"""Where Strands' `HumanInTheLoop` keeps the tools that a person has said "t" to, in the agent's state."""


class OnceOnly:
    """Says which calls of an agent, and of those below it, are once only.

    Args:
        registration: what the agent's author has declared.
        asked: the tools that people were asked about before, as `spelled` writes them.
    """

    def __init__(self, registration: Registration, asked: Iterable[str] = ()):
        self._registration, self.asked = registration, set(asked)

    def applies(
        self, at: Path, names: Iterable[str], tool: AgentTool | None, *, answered: bool = False, trusted: bool = False
    ) -> bool:
        """Whether a call is once only.

        Args:
            at: the tools above it that run sub-agents, from the turn's own agent down.
            names: the tool's, and the one that the model has asked for.
            tool: `None` where there is no such tool.
            answered: whether a person has answered about it.
            trusted: whether it needs no question, since a person has answered about others before.
        """
        registration, called = self._registration, set(names)
        if any({name, spelled(at, name)} & registration.once_only for name in called):
            return True
        if any(self._inside(at, name, tool) for name in called) or (answered and agent_of(tool) is not None):
            return True
        if all({name, spelled(at, name)} & registration.repeatable for name in called):
            return False
        if registration.all_once_only:
            return True
        if _is_repeatable_by_itself(tool):
            return False
        return answered or trusted or any(spelled(at, name) in self.asked for name in called)

    def _inside(self, at: Path, name: str, tool: AgentTool | None) -> bool:
        """Whether a once-only call may run inside a call of this tool, as far as it can be told before."""
        inside = spelled(at, name) + "/"
        if any(once.startswith(inside) for once in self._registration.once_only):
            return True
        below = agent_of(tool)
        registry = below.tool_registry.registry.items() if below else ()
        return any(self.applies((*at, name), [inner], inner_tool) for inner, inner_tool in registry)


def spelled(at: Path, name: str) -> str:
    """A tool of a sub-agent as authors name it, "sub-agent/tool"; one of the turn's own agent is its name alone."""
    return "/".join((*at, name))


def trusted_by_state(agent: Agent) -> set[str]:
    """The tools that Strands' own `HumanInTheLoop` no longer asks about, since a person has trusted them."""
    trusted = agent.state.get(TRUSTED)
    return {name for name in trusted if isinstance(name, str)} if isinstance(trusted, (list, dict)) else set()


def require_known_tools(agent: Agent, registration: Registration) -> None:
    """See to it that what is declared once only or repeatable is a tool of the agent, or of one below it.

    Args:
        agent: built, with the tools of its MCP servers.
        registration: names tools as "tool", or as "sub-agent/tool".

    Raises:
        ConfigurationError: if there is no such tool; the message says which name is nearest.
    """
    tools = dict(_tools(agent, ()))
    plain = {path[-1] for path in tools}
    for name in sorted(registration.once_only | registration.repeatable):
        if name in plain or _is_known(tuple(name.split("/")), tools):
            continue
        spelt = sorted({*plain, *(spelled(path[:-1], path[-1]) for path in tools)})
        nearest = difflib.get_close_matches(name, spelt, 1, 0.6)
        meant = f" Did you mean {nearest[0]!r}?" if nearest else ""
        kind = "once_only" if name in registration.once_only else "repeatable"
        raise ConfigurationError(
            f"Agent {registration.name!r} declares {name!r} as {kind}, and has no such tool.{meant} "
            f"It has: {', '.join(spelt) or 'none'}. Name a tool of a sub-agent as it is or as 'sub-agent/tool', "
            "and one of an agent that another tool runs by itself as 'that-tool/tool'."
        )


def _is_known(path: Path, tools: dict[Path, AgentTool]) -> bool:
    """Whether a path leads to a tool, or through one that may run an agent of its own: nobody can look into that."""
    if path in tools:
        return True
    above = [path[:end] for end in range(1, len(path)) if path[:end] in tools]
    return bool(above) and agent_of(tools[above[-1]]) is None


def _tools(agent: Agent, at: Path) -> Iterator[tuple[Path, AgentTool]]:
    for name, tool in agent.tool_registry.registry.items():
        yield (*at, name), tool
    for name, below in sub_agents(agent):
        yield from _tools(below, (*at, name))


def _is_repeatable_by_itself(tool: AgentTool | None) -> bool:
    """Whether an MCP tool says that it only reads, or that doing it twice is doing it once."""
    hints = cast("dict[str, Any]", tool.tool_spec if tool else {}).get("annotations") or {}
    return bool(hints.get("readOnlyHint") or hints.get("idempotentHint"))
