"""The tools of calls that people have answered about, looked for before the answers are used up.

A deployment may rename or remove a tool between question and answer. Strands would tell the model that there is no such
tool, and the answer would be gone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from strands import Agent
from strands.types.tools import ToolUse

from abeyance.contracts import Response
from abeyance.errors import UnknownToolError
from activities.once_only import Path, spelled
from activities.shown_calls import ShownCall
from activities.strands_adapter import interrupt_ids
from activities.strands_adapter.shapes import agent_of, open_uses, stored_turns


def require_answered_tools(agent: Agent, responses: Iterable[Response], is_done: Callable[[str], bool]) -> None:
    """See to it that what people have answered about can still be run.

    Args:
        agent: restored, with its answers, and nothing run yet.
        responses: the answers.
        is_done: whether a call of the agent has ended already, by its tool-use id.

    Raises:
        UnknownToolError: if a tool is gone; the message names it, and the tools that there are.
    """
    context = agent._interrupt_state.context
    for response in responses:
        _require(agent, agent.messages, context, response.id, response, (), is_done)


def _require(
    agent: Agent,
    messages: Any,
    context: Mapping[str, Any],
    interrupt_id: str,
    response: Response,
    at: Path,
    is_done: Callable[[str], bool],
) -> None:
    asked = interrupt_ids.parse(interrupt_id)
    for use in open_uses(messages):
        key = use["toolUseId"]
        if not asked.is_about(key) or (not at and is_done(key)):
            continue
        known = _known(agent)
        tool = agent.tool_registry.registry.get(use["name"])
        below = agent_of(tool)
        if asked.below and tool is not None and below is not None:
            if turn := stored_turns(context).get(key):
                inner = (*at, use["name"])
                _require(below, turn.messages, turn.context, asked.below, response, inner, is_done)
        elif asked.below or not ({use["name"], response.tool} & known or _was_unknown(use, response)):
            what = "sub-agent" if asked.below else "tool"
            raise UnknownToolError(
                f"The {what} {spelled(at, use['name'])!r} is gone: a person has answered about a call of it, and this "
                f"worker's agent has no such {what}. Nothing has run, and the answer is kept. It has: "
                f"{', '.join(sorted(known)) or 'no tools'}. Deploy the {what} under its old name, then send retry."
            )


def _known(agent: Agent) -> set[str]:
    model = getattr(agent, "_default_structured_output_model", None)
    registry = agent.tool_registry
    return {*registry.registry, *registry.dynamic_tools, *([model.__name__] if isinstance(model, type) else [])}


def _was_unknown(use: ToolUse, response: Response) -> bool:
    """Whether there was no such tool when it was asked about, as where a model makes one up."""
    key, tool = use["toolUseId"], response.tool or use["name"]
    shown = response.digests.get(key)
    return shown in {ShownCall(key, tool, given).digest for given in (use["input"], response.input)}
