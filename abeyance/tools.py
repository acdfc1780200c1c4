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
    """What `invocation_state["abeyance"]` holds.

    Attributes:
        chain: names the run among all runs there ever were, also those that share its workflow id.
        attempt: at the turn, from 1.
        starts_of: how often a call was started, by its tool-use id.
    """

    chain: str
    attempt: int
    starts_of: Callable[[str], int]


def idempotency_key(context: ToolContext) -> str:
    """A key that is the same however often this call is made, and no other call's in any run.

    Give it to services that take one, so that a call that is repeated after a crash takes effect once.

    Args:
        context: the tool's own `ToolContext`.

    Returns:
        "<Temporal's run id of the run's first execution>/<toolUseId>": workflow ids may be used again.

    Raises:
        KeyError: if the tool does not run in a turn of Abeyance.
    """
    facts: TurnFacts = context.invocation_state[INVOCATION_KEY]
    return f"{facts.chain}/{context.tool_use['toolUseId']}"


def call_attempt(context: ToolContext) -> int:
    """How often this call was started, this time included: above 1 it may have taken effect already.

    Args:
        context: the tool's own `ToolContext`.

    Raises:
        KeyError: if the tool does not run in a turn of Abeyance.
    """
    facts: TurnFacts = context.invocation_state[INVOCATION_KEY]
    return facts.starts_of(context.tool_use["toolUseId"])
