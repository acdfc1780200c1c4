"""What the Temporal UI and the visibility store show of a run. Pure functions of its status."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from abeyance.contracts import (
    AGENT_MEMO,
    APPROVALS_MEMO,
    CANCELLED_MEMO,
    LISTENING_MEMO,
    PROBLEM_MEMO,
    SINCE_MEMO,
    Approval,
    Decision,
    Prompt,
    RunStatus,
)
from abeyance.markdown import code, encoded_size, fits
from abeyance.matching import REFUSING_CHOICES
from abeyance.printable import one_line, printable, visible
from abeyance.shortened import cut, left_out, shortened
from abeyance.yes_no import meaning

MEMO_TEXT = 2_000
MEMO_NAME = 200

MOST_DETAILS = 7_500
"""The UI hands the details to a frame in its address, percent-encoded, and common proxies take 8 kB of that."""
MOST_HISTORY = 1_200
"""As much of that is for the latest refused answers, and as much for the latest decisions."""
MOST_TEXT = 2_000
MOST_SAID = 1_500
MOST_OPTIONS = 8


def current_details(status: RunStatus, run: str, queries: str | None = None) -> str:
    """The run as Markdown for the Temporal UI: what is open and what answers it, what was refused and decided.

    Whatever agents and people wrote stands in code spans, where it can fake neither a question nor a link.

    Args:
        status: the run's status.
        run: its workflow id.
        queries: where a browser finds the run's queries, which is left out first; `None` if that is not known.

    Returns:
        At most `MOST_DETAILS` characters when percent-encoded. What does not fit is left out, and the text says so.
    """
    head = _head(status)
    sending = {whole: _how_to_send(status, run, queries, whole=whole) for whole in (True, False)}
    around = (
        _history("Refused", status.refused, status.refused_count, _refusal),
        _prompts(status.prompts),
        _history("Decided", status.decisions, len(status.decisions), _decision),
        "".join(f"**Reset** {_when(reset.at)}, of execution {code(reset.of, 60)}.\n\n" for reset in status.resets[-3:]),
    )
    *history, resets = around
    room = MOST_DETAILS - sum(encoded_size(part) + 6 for part in (head, *around))
    room -= max(encoded_size(how) + 6 for how in sending.values())
    questions, whole = _questions(status.approvals, room)
    details = "\n\n".join(filter(None, (head, questions, *history, sending[whole], resets)))
    return details if not queries or encoded_size(details) <= MOST_DETAILS else current_details(status, run)


def memo_of(status: RunStatus) -> dict[str, Any]:
    """What lists of runs show without asking a worker: open approvals, each cut to a few kB, and why it is parked."""
    cancelled = {CANCELLED_MEMO: words} if (words := _cancelled(status)) else {}
    return cancelled | {
        AGENT_MEMO: status.agent,
        LISTENING_MEMO: True if status.state == "listening" else None,
        PROBLEM_MEMO: cut(visible(one_line(status.problem)), MEMO_TEXT) if status.problem else None,
        SINCE_MEMO: status.since if status.problem else None,
        APPROVALS_MEMO: [
            {
                "number": approval.number,
                "id": approval.id,
                "name": _named(approval.name),
                "tool": None if approval.tool is None else _named(approval.tool),
                "reason": shortened(approval.reason, MEMO_TEXT, visible),
                "input": shortened(approval.input, MEMO_TEXT, visible),
                "asked_at": approval.asked_at,
                "choices": approval.choices,
                "digest": approval.digest,
                "options": shortened([asdict(option) for option in approval.options], MEMO_TEXT, visible),
                "strict": approval.strict,
                "denials": [asdict(denial) for denial in approval.denials],
                "left_out": approval.left_out + _left_out(approval.reason) + _left_out(approval.input),
            }
            | ({"path": approval.path} if approval.path else {})
            for approval in status.approvals
        ]
        or None,
    }


def _cancelled(status: RunStatus) -> str | None:
    """What the turn has done with which the run was cancelled, on one line; `None` if that is nothing."""
    note = status.turn_notes[-1] if status.state == "cancelled" and status.turn_notes else None
    if note is None or note.stop_reason != "cancelled":
        return None
    calls = [f"{ran.tool} {ran.input}: {ran.status}" for ran in note.work.ran]
    more = [f"and {left} more calls"] if (left := note.work.ran_count - len(calls)) > 0 else []
    told = [f"It had run {'; '.join(calls + more)}."] if calls else []
    words = " ".join([*told, *([note.problem] if note.problem else [])])
    return cut(visible(one_line(words)), MEMO_TEXT) or None


def _head(status: RunStatus) -> str:
    agent = f"Agent {code(status.agent, 200)}, turn {status.turn}."
    count = len(status.approvals)
    if status.state == "parked":
        since = f", since {_when(status.since)}" if status.since else ""
        return (
            f"## Parked: it cannot go on\n\n{agent} The problem{since}: {code(status.problem, 1_000)}\n\n"
            "- **Try again**, once that is mended: signal `retry`, input left empty\n"
            "- **Give up:** signal `abort`, input left empty"
        )
    if status.state == "waiting":
        title = "Waiting for a person" if count == 1 else f"Waiting for people: {count} approvals are open"
        return f"## {title}\n\n{agent}"
    if status.state == "listening":
        return (
            f"## Listening for a prompt\n\n{agent}{_said(status)}\n\n"
            '- **Go on:** signal `say`, input the prompt as a text, `"..."`\n'
            "- **Let it end:** signal `finish`, input left empty"
        )
    problem = f" The problem: {code(status.problem, 1_000)}" if status.problem else ""
    return f"## {status.state.capitalize()}\n\n{agent}{problem}{_said(status) if status.state == 'completed' else ''}"


def _said(status: RunStatus) -> str:
    return f" It said: {code(status.message, MOST_SAID)}" if status.message else ""


def _questions(approvals: Sequence[Approval], room: int) -> tuple[str, bool]:
    if not approvals:
        return "", True
    more = "**And {} more.** What is open is in the query `status`, and is shown here as others are answered."
    room -= encoded_size(more) + 6
    each, parts, first_is_whole = room // len(approvals), list[str](), False
    for approval in approvals:
        part, whole = _question(approval, each)
        first_is_whole |= whole and not parts
        room -= encoded_size(part) + 6
        if room < 0:
            parts.append(more.format(len(approvals) - len(parts)))
            break
        parts.append(part)
    return "\n\n".join(parts), first_is_whole


def _question(approval: Approval, room: int) -> tuple[str, bool]:
    """What is asked and how it is answered, and whether all of it is shown, so that a yes may stand beside it."""
    said = {
        ("It will call" if approval.choices is None else "The call"): _call(approval) if approval.tool else None,
        "Its reason": _reason(approval),
        "The last answer made the agent fail": approval.error,
        "Denied before": _denied(approval),
    }
    where = f" in {code(' > '.join(approval.path), 200)}" if approval.path else ""
    asked = f"**{approval.number}.** {code(approval.name, 200)} asks{where}, since {_when(approval.asked_at)}"
    answers = [
        f"- **{label}:** signal `{signal}`, input {code(given, 300)}" for label, signal, given in _answers(approval)
    ]
    there = {label: text for label, text in said.items() if text is not None}
    share = (room - encoded_size("\n".join([asked, *answers]))) // max(1, len(there)) - 150
    most = min(max(share, 80), MOST_TEXT)
    reasons = [f"- {label}: {code(text, most)}" for label, text in there.items()]
    if approval.left_out:
        reasons.append(f"- This is not all of it: **{approval.left_out} characters are left out.**")
    whole = not approval.left_out and all(fits(text, most) for text in there.values())
    if not whole:
        answers = [f"- **No:** signal `{signal}`, input {code(given, 300)}" for signal, given in _noes(approval)]
        answers.append(f"- **Yes:** read all of it first, {_where_all_is(approval)}")
    return "\n".join([asked, "", *reasons, *answers]), whole


def _noes(approval: Approval) -> list[tuple[str, str]]:
    """How a call that is not shown whole is kept from running: the signal and its input."""
    word = next((choice for choice in REFUSING_CHOICES if choice in (approval.choices or ())), None)
    if word is None:
        return [("deny", str(approval.number))]
    return [("respond", json.dumps({"approval": approval.number, "response": word}))]


def _where_all_is(approval: Approval) -> str:
    if approval.left_out:
        return "with `starter.py show RUN --full`, and answer with the digest that stands there"
    return f"in the query `status`; then signal `approve`, input `{approval.number}`, or answer as it asks"


def _answers(approval: Approval) -> list[tuple[str, str, str]]:
    """What can be answered: a label, the signal and its exact input as JSON."""
    number = approval.number

    def respond(response: Any) -> str:
        return json.dumps({"approval": number, "response": response}, ensure_ascii=False)

    if approval.choices:
        choices = [(choice, {"result": "..."} if choice == "result" else choice) for choice in approval.choices]
        return [(label, "respond", respond(response)) for label, response in choices]
    seen = {"approval": number} | ({"digest": approval.digest[:8]} if approval.digest else {})
    said = json.dumps(seen | {"by": "your name", "comment": "why"})
    answers = [
        ("Yes", "approve", str(number)),
        ("No", "deny", str(number)),
        ("Either, with your name", "approve", said),
    ]
    for option in approval.options[:MOST_OPTIONS]:
        if meaning(option.response) is None or option.response in ("t", "trust"):
            answers.append((f"Answer {code(_text(option.response), 60)}", "respond", respond(option.response)))
    if not approval.strict and not approval.options:
        answers.append(("Anything else", "respond", respond("...")))
    return answers


def _denied(approval: Approval) -> str | None:
    """Who said no to the same call before, when and why."""
    told = [
        f"as approval {denial.approval} by {denial.by or 'somebody'}, {_when(denial.at)}"
        + (f": {denial.comment}" if denial.comment else "")
        for denial in approval.denials
    ]
    return "; ".join(told) or None


def _how_to_send(status: RunStatus, run: str, queries: str | None, *, whole: bool) -> str:
    """A command that is ready to be sent; a yes only where the first question is shown `whole`. Links to more."""
    more = f"More is in the [query `status`]({queries})." if queries else ""
    if not status.approvals and status.state not in ("parked", "listening"):
        return more
    how = "Signals are sent under _More Actions_, _Send a Signal_, and show here after a refresh."
    signal, given = ("say", '"..."') if status.state == "listening" else ("retry", None)
    if status.approvals:
        first = status.approvals[0]
        signal, given = _answers(first)[0][1:] if whole else _noes(first)[0]
    command = f"temporal workflow signal -w {shlex.quote(run)} --name {signal}"
    command += f" --input {shlex.quote(given)}" if given else ""
    # A workflow id may have a thousand characters of any kind, and a command that is cut is of no use.
    whole = encoded_size(command) <= 800 and command == printable(one_line(command))
    return " ".join(filter(None, [how, f"From a terminal: {code(command, 800)}" if whole else "", more]))


def _call(approval: Approval) -> str:
    """The call on one line, as programs are written."""
    given = approval.input
    if isinstance(given, dict) and all(name.isidentifier() for name in given):
        return f"{approval.tool}({', '.join(f'{name}={_json(value)}' for name, value in given.items())})"
    return f"{approval.tool}({'' if given is None else _json(given)})"


def _reason(approval: Approval) -> str | None:
    """The reason, without what the call says already."""
    reason, given = approval.reason, approval.input
    if isinstance(reason, dict) and approval.options:
        reason = {name: value for name, value in reason.items() if name != "options"} or None
    if isinstance(reason, dict) and isinstance(given, dict):
        reason = {name: value for name, value in reason.items() if name not in given or given[name] != value} or None
    if reason is None or isinstance(reason, str):
        return reason or None
    return _json(reason)


def _history(title: str, decisions: Sequence[Decision], count: int, told: Callable[[Decision], str]) -> str:
    """The latest decisions, newest first, as many as there is room for."""
    lines, room = list[str](), MOST_HISTORY - 100
    for decision in reversed(decisions):
        line = f"- {told(decision)}"
        room -= encoded_size(line) + 3
        if room < 0:
            break
        lines.append(line)
    if left := count - len(lines):
        lines.append(f"- and {left} before that")
    return f"**{title}: {count}**\n\n" + "\n".join(lines) if count else ""


def _prompts(prompts: Sequence[Prompt]) -> str:
    """The prompts that wait, by their beginnings."""
    if not prompts:
        return ""
    shown = [f"- {code(prompt.text, 120)} by {_who(prompt.by)}" for prompt in prompts[:3]]
    return f"**Waiting for their turn: {len(prompts)}**\n\n" + "\n".join(shown)


def _who(by: str | None) -> str:
    return code(by, 80) if by else "somebody"


def _decision(decision: Decision) -> str:
    about = f"{decision.approval} {code(decision.name, 80)}" if decision.approval else "The run"
    comment = f", {code(decision.comment, 200)}" if decision.comment else ""
    displaced = f". {code(decision.displaced, 200)}" if decision.displaced else ""
    return f"{about}: {code(_text(decision.response), 200)}{comment}, {_source(decision)}{displaced}"


def _refusal(decision: Decision) -> str:
    return f"{code(_text(decision.response), 200)}, {_source(decision)}: {code(decision.refused, 400)}"


def _source(decision: Decision) -> str:
    return f"by {_who(decision.by)}, {decision.via}, {_when(decision.at)}"


def _when(at: str) -> str:
    return at[:16].replace("T", " ") + " UTC"


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else _json(value)


def _left_out(value: Any) -> int:
    return left_out(value, shortened(value, MEMO_TEXT))


def _named(name: str) -> str:
    return cut(visible(one_line(name)), MEMO_NAME)
