"""From Strands' interrupts to questions that a person can answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from strands.interrupt import Interrupt

from abeyance.contracts import Question
from abeyance.digests import digest_of
from abeyance.jsonable import jsonable
from abeyance.nesting import TOO_DEEP, is_deeper
from abeyance.options import offered
from abeyance.shortened import left_out, shortened
from activities.once_only import spelled
from activities.shown_calls import SHOWN_CHARACTERS, ShownCall
from activities.strands_adapter import interrupt_ids

IN_DOUBT = "in-doubt"
"""The name of the interrupt that asks what becomes of a call whose worker died while it ran."""

CHANGED = "changed"
"""The name of the interrupt that asks again about a call that is no longer the one that was shown."""

RESET = "reset"
"""The name of the interrupt that asks about a call which the run may have made before it was reset."""

CHOICES = {RESET: ["y", "n"], IN_DOUBT: ["retry", "skip", "result"], CHANGED: ["y", "n"]}


@dataclass(frozen=True)
class Subject:
    """What an interrupt is about.

    Attributes:
        calls: the calls that an answer permits or denies; several where it was asked before a whole batch.
        owner: the tool-use id of the turn's own call that waits for the answer, where it is one. It is not the
            call in `calls` where a sub-agent asked.
        position: of the call in its message, and in its sub-agent's.
        path: the names of the tools that lead to the sub-agent that asked, () for the run's own agent.
    """

    calls: list[ShownCall]
    owner: str | None
    position: tuple[int, ...]
    path: tuple[str, ...] = ()


def as_questions(
    interrupts: Sequence[Interrupt],
    subject_of: Callable[[str], Subject],
    answers: Mapping[str, tuple[Any, ...] | None],
) -> list[Question]:
    """The questions that a turn ended with.

    Args:
        interrupts: what the agent's result carries.
        subject_of: tells by an interrupt's id which calls it is about.
        answers: the further answers that the agent's registration declares, as `Registration.answers`.

    Returns:
        One question per interrupt, in the order of the calls, with tool, input and digest of what would run if the
        answer is yes.
    """
    different = {interrupt.id: interrupt for interrupt in interrupts}
    asked = [(interrupt, subject_of(interrupt.id)) for interrupt in different.values()]
    in_order = sorted(asked, key=lambda pair: pair[1].position)
    return [_as_question(interrupt, subject, answers) for interrupt, subject in in_order]


def asked_tools(interrupts: Sequence[Interrupt], subject_of: Callable[[str], Subject]) -> set[str]:
    """The tools that people are asked about, as authors name them: "tool", or "sub-agent/tool"."""
    subjects = [subject_of(interrupt.id) for interrupt in interrupts]
    return {spelled(subject.path, call.tool) for subject in subjects for call in subject.calls}


def _asked_by_tool(interrupt_id: str) -> bool:
    """Whether a tool asks in its own body, and so hears the answer itself, whatever it is."""
    asked = interrupt_ids.parse(interrupt_id)
    while asked.below:
        asked = interrupt_ids.parse(asked.below)
    return asked.kind == interrupt_ids.TOOL_CALL


def _as_question(interrupt: Interrupt, subject: Subject, answers: Mapping[str, tuple[Any, ...] | None]) -> Question:
    reason = jsonable(f"<{TOO_DEEP}>" if is_deeper(interrupt.reason) else interrupt.reason)
    declared = answers.get(interrupt.name, ())
    question = Question(interrupt.id, interrupt.name, shortened(reason, SHOWN_CHARACTERS))
    question.path = list(subject.path)
    question.options = offered(reason, [jsonable(call.input) for call in subject.calls], declared or ())
    # What is about no call keeps none from running, and what a tool asks in its body it judges itself.
    question.strict = bool(subject.calls) and not _asked_by_tool(interrupt.id) and declared is not None
    if interrupt.id.startswith(f"{interrupt_ids.VERSION}:{interrupt_ids.MIDDLEWARE}:"):
        question.choices = CHOICES.get(interrupt.name)
    question.tool_use_id = subject.owner
    question.digests = {call.tool_use_id: call.digest for call in subject.calls}
    whole: Any = None
    if len(subject.calls) == 1 and subject.owner:
        call = subject.calls[0]
        question.tool, question.digest, whole = call.tool, call.digest, call.input
    elif subject.calls:
        question.tool = ", ".join(dict.fromkeys(call.tool for call in subject.calls))
        whole = [{"tool": call.tool, "input": jsonable(call.input)} for call in subject.calls]
        question.digest = digest_of(whole)
    question.input = shortened(whole, SHOWN_CHARACTERS)
    question.left_out = left_out(reason, question.reason) + left_out(whole, question.input)
    if question.left_out:
        question.calls = [{"id": call.tool_use_id} | call.bound for call in subject.calls]
        question.digest = question.digest or digest_of({"reason": reason})
    return question
