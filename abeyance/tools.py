"""What a tool may ask about the turn it runs in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from strands import ToolContext

INVOCATION_KEY = "abeyance"


@dataclass(frozen=True)
class TurnFacts:
    """What `invocation_state["abeyance"]` holds: the run's id, the attempt at the turn, the starts of its calls."""

    run_id: str
    attempt: int
    starts_of: Callable[[str], int]


def idempotency_key(context: ToolContext) -> str:
    """A key that is the same however often this call is made, and no other call's in any run.

    Give it to services that take one, so that a call that is repeated after a crash takes effect once.

    Args:
        context: the tool's own `ToolContext`.

    Returns:
        "<run id>/<toolUseId>".

    Raises:
        KeyError: if the tool does not run in a turn of Abeyance.
    """
    facts: TurnFacts = context.invocation_state[INVOCATION_KEY]
    return f"{facts.run_id}/{context.tool_use['toolUseId']}"


def call_attempt(context: ToolContext) -> int:
    """How often this call was started, this time included: above 1 it may have taken effect already.

    Args:
        context: the tool's own `ToolContext`.

    Raises:
        KeyError: if the tool does not run in a turn of Abeyance.
    """
    facts: TurnFacts = context.invocation_state[INVOCATION_KEY]
    return facts.starts_of(context.tool_use["toolUseId"])
