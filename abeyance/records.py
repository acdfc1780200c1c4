"""The journal's record as it comes back from the server, where anyone may have put something else. Pure.

`activities.journal` writes it. Here it is checked before anybody relies on its shape, and told.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from abeyance.contracts import JsonObject, Ran, Usage, Work
from abeyance.converter.typed import typed

CALL: Mapping[str, type | tuple[type, ...]] = {
    "tool": str,
    "started_at": str,
    "worker": str,
    "starts": int,
    "doubts": int,
    "once": bool,
    "running": bool,
    "result": (dict, type(None)),
    "input": str,
    "instead": str,
    "why": str,
    "unrecorded": bool,
    "inner": dict,
    "inner_left_out": int,
    "attempt": int,
    "died_on": list,
    "stopped": bool,
}
INNER = {"tool": str, "started_at": str, "input": str, "starts": int, "once": bool, "status": str, "ended_at": str}
REQUIRED_OF_CALL = ("tool", "started_at", "worker")
RECORD: Mapping[str, type | tuple[type, ...]] = {
    "kept": int,
    "messages": list,
    "state": dict,
    "usage": dict,
    "begun": bool,
    "new_ids": list,
    "calls": dict,
}


def call_status(result: JsonObject | None, instead: str, *, running: bool) -> str:
    """What came of a call of the journal, as `Ran.status` has it."""
    if result:
        return "denied" if result.get("cancelled") else instead or str(result["status"])
    return "in-doubt" if running else instead or "interrupted"


def record_flaw(record: Any) -> str | None:
    """Why this is not a journal's record, or `None` if it is one."""
    if not isinstance(record, dict):
        return "it is not a JSON object"
    for name, kind in RECORD.items():
        if not _is(record.get(name), kind):
            return f"it has no {name!r}" if name not in record else f"its {name!r} has another shape"
    if record["kept"] < 0 or not all(_is_message(message) for message in record["messages"]):
        return "its messages are not a conversation"
    if not all(isinstance(key, str) for key in record["new_ids"]):
        return "its 'new_ids' has another shape"
    if not isinstance(record["state"].get("agent"), dict):
        return "it has no state of the agent"
    if record["begun"] and not {"conversation_manager", "model"} <= record["state"].keys():
        return "its state is not whole"
    try:
        typed(Usage, record["usage"])
        _work(record)
    except (TypeError, ValueError) as error:
        return str(error)
    return calls_flaw(record["calls"])


def calls_flaw(calls: Any) -> str | None:
    """Why these are not the open calls of a journal, or `None` if they are."""
    if not isinstance(calls, dict):
        return "its calls are not a JSON object"
    for key, call in calls.items():
        if not isinstance(call, dict):
            return f"the call {key!r} is not a JSON object"
        for name, kind in CALL.items():
            if (name in call or name in REQUIRED_OF_CALL) and not _is(call.get(name), kind):
                return f"{name!r} of the call {key!r} has another shape"
        for inner in call.get("inner", {}).values():
            if not isinstance(inner, dict) or not all(_is(inner.get(name), kind) for name, kind in INNER.items()):
                return f"a call inside the call {key!r} has another shape"
        result = call.get("result")
        if result and not (isinstance(result.get("status"), str) and isinstance(result.get("content"), list)):
            return f"the result of the call {key!r} has another shape"
    return None


def work_of(record: JsonObject) -> Work:
    """What a record tells of a turn; a call that was at work is in doubt. Nobody knows which attempt wrote it."""
    told = _work(record)
    told.ran += [
        Ran(
            tool=call["tool"],
            tool_use_id=key,
            status=call_status(call.get("result"), call.get("instead", ""), running=call.get("running", True)),
            started_at=call["started_at"],
            worker=call["worker"],
            starts=call.get("starts", 1),
            input=call.get("input", ""),
            why=call.get("why", ""),
        )
        for key, call in record["calls"].items()
    ]
    told.ran_count += len(record["calls"])
    return told


def _work(record: JsonObject) -> Work:
    return typed(Work, record.get("work") or {})


def _is(value: Any, kind: type | tuple[type, ...]) -> bool:
    return isinstance(value, kind) and not (kind is int and isinstance(value, bool))


def _is_message(message: Any) -> bool:
    return (
        isinstance(message, dict)
        and message.get("role") in ("user", "assistant")
        and isinstance(message.get("content"), list)
        and all(isinstance(block, dict) for block in message["content"])
    )
