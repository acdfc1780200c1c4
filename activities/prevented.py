"""Calls that were kept from running: they are told among those that ran, and nothing else knows of them."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any, cast

from strands import Agent
from strands.hooks import AfterToolCallEvent

from abeyance.contracts import Ran, TurnInput
from abeyance.jsonable import jsonable
from abeyance.shortened import cut
from activities.journal import Journal
from activities.strands_adapter.shapes import is_called_by_code

SHOWN_CHARACTERS = 100
SHOWN_WHY = 200


class PreventedCalls:
    """Notes the calls of one turn that did not run, because a person or the agent itself said so.

    Args:
        turn: with the answers that were given.
        journal: takes the notes, and knows which calls ran.
    """

    def __init__(self, turn: TurnInput, journal: Journal):
        self._turn, self._journal = turn, journal

    def attach(self, agent: Agent) -> None:
        """Watch the calls of `agent` end."""
        agent.add_hook(self._after, AfterToolCallEvent)

    def _after(self, event: AfterToolCallEvent) -> None:
        use = event.tool_use
        key = use["toolUseId"]
        if is_called_by_code(event.agent, key, event.invocation_state):
            # It belongs to whatever calls it.
            return
        kept = event.cancel_message is not None or bool(cast("dict[str, Any]", event.result).get("cancelled"))
        if key in self._journal.calls and not kept:
            return
        answered = any(response.tool_use_id in (key, None) for response in self._turn.responses or [])
        now = datetime.now(UTC).isoformat(timespec="seconds")
        status = "denied" if answered else "cancelled"
        said = event.cancel_message or " ".join(block.get("text", "") for block in event.result.get("content", []))
        ran = Ran(use["name"], key, status, now, input=brief(use["input"]), why=said.strip()[:SHOWN_WHY])
        self._journal.prevented(ran)


def brief(value: Any) -> str:
    """The beginning of the JSON of a call's input."""
    return cut(json.dumps(jsonable(value), ensure_ascii=False), SHOWN_CHARACTERS)
