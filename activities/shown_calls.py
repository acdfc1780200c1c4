"""Calls as people see them: with their effective input, and with a digest that binds the answer to what was shown."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from strands.types.tools import AgentTool, ToolUse

from abeyance.contracts import Response
from abeyance.digests import digest_of
from abeyance.jsonable import jsonable
from abeyance.shortened import shortened
from activities.effective_input import effective_input

SHOWN_CHARACTERS = 16_000
"""Of a reason or an input, as JSON: what is longer is shortened for display, never for the agent."""

SCHEMA = "the tool's input schema"
"""What has changed about a call of which tool and input are the same."""


@dataclass(frozen=True)
class ShownCall:
    """A tool call as it would run.

    Attributes:
        given: the input as the model or a hook wrote it, as JSON.
        schema: the tool's input schema, `None` where there is no such tool.
    """

    tool_use_id: str
    tool: str
    given: Any
    schema: Any = field(default=None, compare=False)

    @cached_property
    def input(self) -> Any:
        """The input with the schema's defaults filled in."""
        return effective_input(self.given, self.schema)

    @property
    def bound(self) -> dict[str, Any]:
        """What an answer is bound to, as JSON: tool, effective input, and the schema by its digest."""
        schema = None if self.schema is None else digest_of(jsonable(self.schema))
        return {"tool": self.tool, "input": self.input, "schema": schema}

    @cached_property
    def digest(self) -> str:
        """The SHA-256, in hexadecimal, of the canonical JSON (RFC 8785) of tool, effective input and schema."""
        return digest_of(self.bound)

    @property
    def old_digest(self) -> str:
        """The digest as it was before it covered defaults and the schema."""
        return digest_of({"tool": self.tool, "input": self.given})


def call_of(tool: AgentTool | None, use: ToolUse) -> ShownCall:
    """The call that would run `tool` with the input of `use`, as they are now."""
    # A hook may have put another tool in the place of the one that the model asked for.
    name = tool.tool_name if tool else use["name"]
    return ShownCall(use["toolUseId"], name, jsonable(use["input"]), schema_of(tool) if tool else None)


def schema_of(tool: AgentTool) -> Any:
    """A tool's input schema as JSON; `{}` where it has none."""
    described: Any = tool.tool_spec.get("inputSchema")
    return described["json"] if isinstance(described, dict) and "json" in described else described or {}


def difference(response: Response, call: ShownCall) -> dict[str, Any]:
    """What a person is told of a call that is not the one that was answered any more."""
    before, now = response.input, shortened(call.input, SHOWN_CHARACTERS)
    message = "What would run now is not what was shown to the person who answered. It has not run."
    both = isinstance(before, dict) and isinstance(now, dict)
    if both:
        same = {name for name in {*before} & {*now} if before[name] == now[name]}
        different = [f"input.{name}" for name in sorted({*before, *now} - same)]
    else:
        different = ["input"] if before != now else []
    if response.tool != call.tool:
        different.insert(0, "tool")
    if not different and now != call.input:
        different = [f"a part of the input that is too long to be shown, or {SCHEMA}"]
    elif not different:
        different = [SCHEMA]
        message = (
            "Tool and input are what was shown to the person who answered, but the tool's input schema is not: a "
            "deployment has changed what the tool takes. It has not run."
        )
    if response.digests.get(call.tool_use_id) == call.old_digest:
        message = (
            "It was asked about by an older worker, which did not show the tool's defaults and did not hold the call "
            "to the tool's schema. It has not run; this is the call with its defaults."
        )
    return {
        "message": message,
        "shown": {"tool": response.tool, "input": response.input},
        "now": {"tool": call.tool, "input": now},
        "different": different,
        "options": {"y": "run it as it is now", "n": "do not run it, and tell the model so"},
    }
