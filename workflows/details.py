"""What the Temporal UI and the visibility store show of a run. Pure functions of its status."""

from __future__ import annotations

import json
import shlex
from typing import Any

from abeyance.contracts import AGENT_MEMO, APPROVALS_MEMO, PROBLEM_MEMO, SINCE_MEMO, Approval, Decision, RunStatus

SHOWN_REASON = 1_000
SHOWN_DECISIONS = 20
MEMO_TEXT = 2_000


def current_details(status: RunStatus, run: str) -> str:
    """The run as Markdown for the Temporal UI: what is open and what answers it, then what was decided.

    Args:
        status: the run's status.
        run: its workflow id.
    """
    parts = [f"**{status.agent}** is **{status.state}** (turn {status.turn})"]
    if status.problem and status.state == "failed":
        parts.append(f"It failed: {_line(status.problem, SHOWN_REASON)}")
    elif status.problem:
        parts.append(
            f"It cannot go on: {_line(status.problem, SHOWN_REASON)}\n\nMend that and send the signal `retry`, "
            "or give the run up with the signal `abort`."
        )
    parts += [_question(approval, run, alone=len(status.approvals) == 1) for approval in status.approvals]
    if status.decisions:
        lines = [_decided(decision) for decision in status.decisions[-SHOWN_DECISIONS:]]
        parts.append("Decided:\n\n" + "\n".join(lines))
    if status.refused:
        lines = [f"- {_code(_short(d.response))} at {d.at}: {d.refused}" for d in status.refused[-SHOWN_DECISIONS:]]
        parts.append(f"Refused ({status.refused_count}):\n\n" + "\n".join(lines))
    return "\n\n".join(parts)


def memo_of(status: RunStatus) -> dict[str, Any]:
    """What lists of runs show without asking a worker: open approvals, each cut to a few kB, and why it is parked."""
    return {
        AGENT_MEMO: status.agent,
        PROBLEM_MEMO: _line(status.problem, MEMO_TEXT) if status.problem else None,
        SINCE_MEMO: status.since if status.problem else None,
        APPROVALS_MEMO: [
            {
                "number": approval.number,
                "id": approval.id,
                "name": _line(approval.name, 200),
                "tool": approval.tool,
                "reason": _cut(approval.reason),
                "input": _cut(approval.input),
                "asked_at": approval.asked_at,
            }
            for approval in status.approvals
        ]
        or None,
    }


def _question(approval: Approval, run: str, *, alone: bool) -> str:
    call = f" to call {_code(approval.tool)} with {_code(_short(approval.input))}" if approval.tool else ""
    what = "no input" if alone else f"the input `{approval.number}`"
    number = "" if alone else f" --input {approval.number}"
    command = f"temporal workflow signal -w {shlex.quote(run)} --name approve{number}"
    error = f"\n\nThe last answer made the agent fail: {_line(approval.error, SHOWN_REASON)}" if approval.error else ""
    answers = (
        f"Answer with the signal `approve` or `deny` and {what}, or with `respond` and "
        f'`{{"approval": {approval.number}, "response": "..."}}`:\n\n'
        f"```\n{command}\n```"
    )
    if approval.choices:
        answers = "Answer with the signal `respond` and one of these:\n\n" + "\n".join(
            "- " + _code(json.dumps({"approval": approval.number, "response": _example(choice)}))
            for choice in approval.choices
        )
    return (
        f"### {approval.number}. {_line(approval.name, 200)}\n\n"
        f"It asks{call}, since {approval.asked_at}.\n\n"
        f"Reason: {_code(_short(approval.reason))}{error}\n\n"
        f"{answers}"
    )


def _example(choice: str) -> Any:
    return {"result": "..."} if choice == "result" else choice


def _decided(decision: Decision) -> str:
    about = f"{decision.approval} ({_line(decision.name or '', 200)})" if decision.approval else "the run"
    comment = f", “{_line(decision.comment, 200)}”" if decision.comment else ""
    return f"- {about}: {_code(_short(decision.response))} by {decision.by or 'somebody'} at {decision.at}{comment}"


def _short(value: Any) -> str:
    return _line(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False), SHOWN_REASON)


def _cut(value: Any) -> Any:
    return value if len(json.dumps(value, ensure_ascii=False)) <= MEMO_TEXT else f"{_short(value)[:MEMO_TEXT]}"


def _line(text: str, most: int) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= most else f"{flat[:most]}…"


def _code(text: str) -> str:
    return f"`{text.replace('`', chr(39))}`"
