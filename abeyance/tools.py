"""What tools may ask about the turn they run in, and what hooks may tell."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import quote

if TYPE_CHECKING:
    from strands import ToolContext
    from strands.hooks import BeforeToolCallEvent

INVOCATION_KEY = "abeyance"
MOST_WHY = 200


@dataclass(frozen=True)
class TurnFacts:
    """What `invocation_state["abeyance"]` holds.

    Attributes:
        chain: names the run among all runs there ever were, also those that share its workflow id.
        attempt: at the turn, from 1.
        starts_of: how often a call was started, by its path.
        explain: notes why a call runs, by its path.
        origins: where values of the agent's state come from, in words, by their names.
        above: the path of the call that the tool runs in, with a "/" behind it; "" for calls of the run's own agent.
    """

    chain: str
    attempt: int
    starts_of: Callable[[str], int]
    explain: Callable[[str, str], None]
    origins: Mapping[str, str] = field(default_factory=dict)
    above: str = ""

    def told(self, why: str, remembered: str | None) -> str:
        """Why a call runs, with where the value comes from that lets it pass."""
        origin = self.origins.get(remembered or "")
        return f"{why}; {remembered} was {origin}" if origin else why

    def path_of(self, tool_use_id: str) -> str:
        """The tool-use ids from the call of the run's own agent down, or that call's own id as it is."""
        return self.above + quote(tool_use_id, safe="") if self.above else tool_use_id


def idempotency_key(context: ToolContext) -> str:
    """A key that is the same however often this call is made, and no other call's in any run.

    Give it to services that take one, so that a call that is repeated after a crash takes effect once.

    Args:
        context: the tool's own `ToolContext`.

    Returns:
        "<Temporal's run id of the run's first execution>/<toolUseId>": workflow ids may be used again. In a tool of a
        sub-agent, the tool-use ids of the calls above stand before its own: ".../<sub-agent's call>/<toolUseId>".
        When a sub-agent's call is run again after a crash, its model is asked anew, and may make other calls, or the
        same ones under other ids; then the keys are others as well.

    Raises:
        KeyError: if the tool does not run in a turn of Abeyance.
    """
    facts: TurnFacts = context.invocation_state[INVOCATION_KEY]
    return f"{facts.chain}/{facts.path_of(context.tool_use['toolUseId'])}"


def call_attempt(context: ToolContext) -> int:
    """How often this call was started, this time included: above 1 it may have taken effect already.

    Args:
        context: the tool's own `ToolContext`.

    Raises:
        KeyError: if the tool does not run in a turn of Abeyance.
    """
    facts: TurnFacts = context.invocation_state[INVOCATION_KEY]
    return facts.starts_of(facts.path_of(context.tool_use["toolUseId"]))


def explain(event: BeforeToolCallEvent, why: str, remembered: str | None = None) -> None:
    """Have the run's record say why a call goes on without a question, as where a person has granted trust before.

    Args:
        event: the hook's own event. Outside a turn of Abeyance, nothing is noted.
        why: one short sentence; what is beyond 200 characters is cut.
        remembered: the name of the value in `agent.state` that lets the call pass. The record then says who had
            answered what when it was set, and in which run, if it comes from the run's session.
    """
    facts: TurnFacts | None = event.invocation_state.get(INVOCATION_KEY)
    if facts:
        facts.explain(facts.path_of(event.tool_use["toolUseId"]), facts.told(why[:MOST_WHY], remembered))
