"""The ids of Strands' interrupts, taken apart in one place.

Strands calls them opaque and offers no other way to tell which call an interrupt is about. It builds them in four
places as `v1:<kind>:<tool use id>:<uuid>`, quotes the tool use id where the call runs a sub-agent, and puts the
sub-agent's own id behind it.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from importlib.metadata import version
from urllib.parse import quote, unquote

from abeyance.errors import ConfigurationError

VERSION = "v1"
BEFORE_TOOL_CALL = "before_tool_call"
TOOL_CALL = "tool_call"
MIDDLEWARE = "middleware_execute_tool"
BATCH = "before_tools"
WHOLE_PASS = "middleware_agent_stream"  # noqa: S105 - no password
SUB_AGENT = "agent_as_tool"

_OF_ONE_CALL = (BEFORE_TOOL_CALL, TOOL_CALL, MIDDLEWARE)
_OF_NO_CALL = (BATCH, WHOLE_PASS)


class UnknownInterruptError(ConfigurationError):
    """An interrupt's id is not of the grammar that is known, so nobody can tell which call it is about."""

    def __init__(self, interrupt_id: str):
        super().__init__(
            f"The interrupt id {interrupt_id[:200]!r} cannot be read, so it is unknown which call its answer is about. "
            f"No call was run. This worker has strands-agents {version('strands-agents')}; the id is of a version of "
            "Strands that was not tested, or the agent made it up itself. Let a worker with the Strands version that "
            "asked take the run, or ask with `event.interrupt(...)`, then send retry."
        )


@dataclass(frozen=True)
class InterruptId:
    """An interrupt's id, taken apart.

    Attributes:
        kind: which part of Strands has asked.
        tool_use_id: of the call that it is about; `None` for a whole batch of calls, or a whole pass.
        below: the id that a sub-agent gave its own interrupt, where one asked; else "".
    """

    kind: str
    tool_use_id: str | None
    below: str = ""

    def is_about(self, tool_use_id: str) -> bool:
        """Whether the answer permits or forbids the call `tool_use_id`."""
        return self.kind == BATCH or self.tool_use_id == tool_use_id


def parse(interrupt_id: str) -> InterruptId:
    """Take an interrupt's id apart, with all that is below it.

    Raises:
        UnknownInterruptError: if any part of it is unknown.
    """
    grammar, _, rest = interrupt_id.partition(":")
    kind, _, rest = rest.partition(":")
    if grammar == VERSION and kind in _OF_NO_CALL and _is_uuid(rest):
        return InterruptId(kind, None)
    if grammar == VERSION and kind in _OF_ONE_CALL:
        owner, _, unique = rest.rpartition(":")
        if owner and _is_uuid(unique):
            return InterruptId(kind, owner)
    if grammar == VERSION and kind == SUB_AGENT:
        owner, _, below = rest.partition(":")
        if owner and below:
            try:
                parse(below)
            except UnknownInterruptError as error:
                raise UnknownInterruptError(interrupt_id) from error
            return InterruptId(kind, unquote(owner), below)
    raise UnknownInterruptError(interrupt_id)


def of_middleware(tool_use_id: str, name: str) -> str:
    """The id of a question that our own middleware asks about a call, as Strands itself would make it."""
    return f"{VERSION}:{MIDDLEWARE}:{tool_use_id}:{uuid.uuid5(uuid.NAMESPACE_OID, name)}"


def below_of(tool_use_id: str) -> str:
    """What the ids of all questions begin with that are asked by the sub-agent which the call `tool_use_id` runs."""
    return f"{VERSION}:{SUB_AGENT}:{quote(tool_use_id, safe='')}:"


def _is_uuid(text: str) -> bool:
    try:
        uuid.UUID(text)
    except ValueError:
        return False
    return True
