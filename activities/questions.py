"""From Strands' interrupts to questions that a person can answer."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import rfc8785
from strands.interrupt import Interrupt

from abeyance.contracts import Question
from abeyance.jsonable import jsonable
from abeyance.shortened import shortened

IN_DOUBT = "in-doubt"
"""The name of the interrupt that asks what becomes of a call whose worker died while it ran."""

CHANGED = "changed"
"""The name of the interrupt that asks again about a call that is no longer the one that was shown."""

CHOICES = {IN_DOUBT: ["retry", "skip", "result"], CHANGED: ["y", "n"]}

SHOWN_CHARACTERS = 16_000
"""Of a reason or an input, as JSON: what is longer is shortened for display, never for the agent."""


@dataclass(frozen=True)
class Call:
    """A tool call as it would run."""

    tool_use_id: str
    tool: str
    input: Any

    @property
    def digest(self) -> str:
        """The SHA-256, in hexadecimal, of the call's canonical JSON (RFC 8785)."""
        return digest(self.tool, self.input)


@dataclass(frozen=True)
class Subject:
    """What an interrupt is about.

    Attributes:
        calls: the calls that an answer permits or denies; several where it was asked before a whole batch.
        owner: the tool-use id of the turn's own call that waits for the answer, where it is one. It is not the
            call in `calls` where a sub-agent asked.
        position: of the call in its message, and in its sub-agent's.
    """

    calls: list[Call]
    owner: str | None
    position: tuple[int, ...]


def as_questions(interrupts: Sequence[Interrupt], subject_of: Callable[[str], Subject]) -> list[Question]:
    """The questions that a turn ended with.

    Args:
        interrupts: what the agent's result carries.
        subject_of: tells by an interrupt's id which calls it is about.

    Returns:
        One question per interrupt, in the order of the calls, with tool, input and digest of what would run if the
        answer is yes.
    """
    different = {interrupt.id: interrupt for interrupt in interrupts}
    asked = [(interrupt, subject_of(interrupt.id)) for interrupt in different.values()]
    return [_as_question(interrupt, subject) for interrupt, subject in sorted(asked, key=lambda pair: pair[1].position)]


def belongs_to(interrupt_id: str, tool_use_id: str) -> bool:
    """Whether an interrupt is about this tool call, as "v1:before_tool_call:<toolUseId>:<uuid>" says, or about all."""
    version, _, rest = interrupt_id.partition(":")
    kind, _, owner = rest.partition(":")
    # Strands quotes the id of a call that runs a sub-agent, and no other.
    wanted = quote(tool_use_id, safe="") if kind == "agent_as_tool" else tool_use_id
    return version == "v1" and (kind == "before_tools" or owner.startswith(f"{wanted}:"))


def digest(tool: str, arguments: Any) -> str:
    """The SHA-256, in hexadecimal, of a call's canonical JSON (RFC 8785)."""
    return _sha256({"tool": tool, "input": jsonable(arguments)})


def _sha256(value: Any) -> str:
    try:
        canonical = rfc8785.dumps(value)
    except rfc8785.CanonicalizationError:
        # Integers beyond 2^53 have no canonical form in RFC 8785.
        canonical = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    return hashlib.sha256(canonical).hexdigest()


def _as_question(interrupt: Interrupt, subject: Subject) -> Question:
    question = Question(interrupt.id, interrupt.name, shortened(jsonable(interrupt.reason), SHOWN_CHARACTERS))
    if interrupt.id.startswith("v1:middleware_execute_tool:"):
        question.choices = CHOICES.get(interrupt.name)
    question.tool_use_id = subject.owner
    question.digests = {call.tool_use_id: call.digest for call in subject.calls}
    if len(subject.calls) == 1 and subject.owner:
        call = subject.calls[0]
        question.tool, question.digest = call.tool, call.digest
        question.input = shortened(jsonable(call.input), SHOWN_CHARACTERS)
    elif subject.calls:
        question.tool = ", ".join(dict.fromkeys(call.tool for call in subject.calls))
        shown = [{"tool": call.tool, "input": jsonable(call.input)} for call in subject.calls]
        question.input, question.digest = shortened(shown, SHOWN_CHARACTERS), _sha256(shown)
    return question
