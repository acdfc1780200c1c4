"""From Strands' interrupts to questions that a person can answer."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

import rfc8785
from strands.interrupt import Interrupt
from strands.types.content import Message
from strands.types.tools import ToolUse

from abeyance.contracts import Question
from abeyance.jsonable import jsonable

IN_DOUBT = "in-doubt"
"""The name of the interrupt that asks what becomes of a call whose worker died while it ran."""

IN_DOUBT_CHOICES = ["retry", "skip", "result"]


def as_questions(interrupts: Sequence[Interrupt], message: Message) -> list[Question]:
    """The questions that a turn ended with.

    Args:
        interrupts: what the agent's result carries.
        message: the assistant message whose tool calls were interrupted.

    Returns:
        One question per interrupt, in the same order, with tool, input and digest where the interrupt's id says
        that it belongs to a call of `message`.
    """
    uses = [block["toolUse"] for block in message["content"] if "toolUse" in block]
    return [_as_question(interrupt, _tool_use(interrupt.id, uses)) for interrupt in interrupts]


def belongs_to(interrupt_id: str, tool_use_id: str) -> bool:
    """Whether an interrupt is about this tool call, as "v1:before_tool_call:<toolUseId>:<uuid>" says, or about all."""
    version, _, rest = interrupt_id.partition(":")
    kind, _, owner = rest.partition(":")
    # Strands quotes the id of a call that runs a sub-agent, and no other.
    wanted = quote(tool_use_id, safe="") if kind == "agent_as_tool" else tool_use_id
    return version == "v1" and (kind == "before_tools" or owner.startswith(f"{wanted}:"))


def digest(tool: str, arguments: Any) -> str:
    """The SHA-256, in hexadecimal, of a call's canonical JSON (RFC 8785)."""
    call = {"tool": tool, "input": jsonable(arguments)}
    try:
        canonical = rfc8785.dumps(call)
    except rfc8785.CanonicalizationError:
        # Integers beyond 2^53 have no canonical form in RFC 8785.
        canonical = json.dumps(call, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    return hashlib.sha256(canonical).hexdigest()


def _as_question(interrupt: Interrupt, use: ToolUse | None) -> Question:
    question = Question(interrupt.id, interrupt.name, jsonable(interrupt.reason))
    if interrupt.name == IN_DOUBT and interrupt.id.startswith("v1:middleware_execute_tool:"):
        question.choices = IN_DOUBT_CHOICES
    if use:
        question.tool, question.tool_use_id = use["name"], use["toolUseId"]
        question.input, question.digest = jsonable(use["input"]), digest(use["name"], use["input"])
    return question


def _tool_use(interrupt_id: str, uses: Sequence[ToolUse]) -> ToolUse | None:
    if interrupt_id.startswith("v1:before_tools:"):
        return None
    owners = [use for use in uses if belongs_to(interrupt_id, use["toolUseId"])]
    return max(owners, key=lambda use: len(use["toolUseId"]), default=None)
