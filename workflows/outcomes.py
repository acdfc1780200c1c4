"""What activities came to, read strictly: their results and failures are foreign input too. Pure.

Whoever may write to the namespace can complete an activity or fail it by hand. Nothing here raises an error that would
fail the workflow task for ever, but for what a newer version has written, which a worker of that version takes.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, fields
from typing import Any, TypeVar

from temporalio.exceptions import ActivityError, ApplicationError, CancelledError
from temporalio.exceptions import TimeoutError as ActivityTimeoutError

from abeyance import formats
from abeyance.answers import Undecodable, cut
from abeyance.contracts import Handover, JsonObject, SessionRead, TurnFailure, TurnResult, Whole, Work
from abeyance.conversation_ids import next_id
from abeyance.converter.typed import typed
from abeyance.records import calls_flaw, record_flaw, work_of

T = TypeVar("T")
UNREADABLE = (TypeError, ValueError, KeyError, AttributeError, ArithmeticError, RuntimeError)
"""What a conversion of junk raises; a `RecursionError` is a `RuntimeError`."""
SHOWN = 200
UNNAMED = {known.name for known in fields(TurnResult)} - {"format", "changed"}
"""What the result of a turn holds that names no format."""


class ForeignResultError(Exception):
    """An activity's result that the activity has not made. The message says what is wrong with it."""


def turn_result(value: Any, before: str) -> TurnResult:
    """Read the result of `run_turn`.

    Args:
        value: whatever the activity was completed with.
        before: the id of the conversation that the turn began with.

    Raises:
        ForeignResultError: if no turn has made it.
        NewerFormatError: if a turn of a newer version has.
    """
    _require(isinstance(value, dict), value, "it is not a JSON object")
    if isinstance(value.get("delta"), dict) and value.get("conversation") and "stop_reason" in value:
        formats.require_known("The result of a turn", value, "and the run goes on by itself")
    missing = [name for name in ("stop_reason", "message", "conversation", "delta") if name not in value]
    _require(not missing, value, f"it has no {', '.join(map(repr, missing))}")
    result = _typed(TurnResult, value)
    delta = result.delta
    _require(bool(result.stop_reason), value, "it has no stop reason")
    _require(not result.questions or result.stop_reason == "interrupt", value, "it asks, and says that it has ended")
    _require(_is_delta(delta), value, "its delta has another shape")
    _require(calls_flaw(result.calls) is None, value, "its calls have another shape")
    _require(min(_numbers(result)) >= 0, value, "it counts below 0")
    if "format" in value:
        _require(_makes(before, delta, result.conversation), value, "its conversation is not what its delta makes")
    else:
        # A worker that named no format may have made ids in another way. It wrote all that it knew, and its name.
        _require(value.keys() >= UNNAMED and bool(result.work.worker), value, "it is not whole")
    return result


def _makes(before: str, delta: JsonObject, conversation: str) -> bool:
    try:
        return next_id(before, delta) == conversation
    except UNREADABLE:
        return False


def session_read(value: Any, name: str) -> SessionRead:
    """Read the result of `load_session`; `name` is the session's.

    Raises:
        ForeignResultError: if the activity has not made it.
    """
    read = _typed(SessionRead, value)
    _require(read.facts.name == name, value, "it is not about this session")
    whole = (read.conversation == "") == (read.delta is None) and read.facts.conversation == read.conversation
    _require(whole, value, "its conversation is not whole")
    return read


def session_version(value: Any) -> str:
    """Read the result of `save_session`.

    Raises:
        ForeignResultError: if the activity has not made it.
    """
    _require(isinstance(value, str) and bool(value), value, "it is not a version")
    return str(value)


def verified(value: Any, execution: str) -> str:
    """Read the result of `verify_predecessor`: what is wrong with what `execution` was given, or "".

    Raises:
        ForeignResultError: if the activity has not made it.
    """
    found = _typed(Handover, value)
    _require(found.execution == execution, value, "it is about another execution")
    return found.flaw


def whole_conversation(value: Any) -> Whole:
    """Read the result of `carry`.

    Raises:
        ForeignResultError: if the activity has not made it.
    """
    whole = _typed(Whole, value)
    _require(bool(whole.conversation and whole.delta), value, "its conversation is not whole")
    return whole


@dataclass(frozen=True)
class FailedTurn:
    """A turn that has failed for good or was cancelled, and what is known of it.

    Attributes:
        reason: why, in words.
        kind: the type of the failure that it reported itself, `None` if it did not.
        told: whether it is known what the turn had done, as `work` says it.
        record: as in `TurnFailure`, and `untouched`, `too_large`, `failed_calls` and `work`.
    """

    reason: str
    kind: str | None = None
    told: bool = False
    record: JsonObject | None = None
    untouched: bool = False
    too_large: bool = False
    failed_calls: list[str] = field(default_factory=list)
    work: Work = field(default_factory=Work)

    @property
    def unrecorded(self) -> bool:
        """Whether nothing is there to go on from, and it is unknown what the turn has done."""
        return self.record is None and not self.untouched and not self.too_large

    @property
    def opaque(self) -> bool:
        """Whether its record is of a newer format, and can only be handed on."""
        return formats.is_newer(self.record)


def failed_turn(error: ActivityError) -> FailedTurn:
    """Read why a turn has not come to a result: from what it said itself, or else from its last heartbeat."""
    cause = error.cause
    reason = str(cause.message if isinstance(cause, ApplicationError) else cause or error)
    if isinstance(cause, ActivityTimeoutError):
        # The worker may have died. It waits for its heartbeats before any call that may run only once.
        details = list(cause.last_heartbeat_details)
        reason = f"Temporal has ended the turn: {reason.rstrip('.')}."
        if not details or details[0] is None:
            return FailedTurn(reason, told=True, untouched=True)
        return _recorded(FailedTurn(reason), details[0])
    if isinstance(cause, ApplicationError):
        return _reported(reason, cause.type, list(cause.details))
    if isinstance(cause, CancelledError):
        return _reported(reason, None, list(cause.details))
    return FailedTurn(reason)


def _reported(reason: str, kind: str | None, details: list[Any]) -> FailedTurn:
    if len(details) == 4 and isinstance(details[3], dict):
        # As the details were before they had a shape of their own.
        record, untouched, calls, work = details
        details = [{"record": record, "untouched": untouched, "failed_calls": calls, "work": work}]
        details[0]["too_large"] = record is None and not untouched
    if len(details) != 1 or not isinstance(details[0], dict):
        return FailedTurn(reason)
    if not {"record", "untouched", "work"} <= details[0].keys():
        return FailedTurn(reason)
    try:
        told = typed(TurnFailure, details[0])
    except UNREADABLE:
        return FailedTurn(reason)
    failed = FailedTurn(reason, kind, True, None, told.untouched, told.too_large, told.failed_calls, told.work)
    return failed if told.record is None else _recorded(failed, told.record)


def _recorded(failed: FailedTurn, record: Any) -> FailedTurn:
    if isinstance(record, dict) and formats.is_newer(record):
        return FailedTurn(failed.reason, failed.kind, failed.told, record, work=failed.work)
    if record_flaw(record):
        return FailedTurn(failed.reason)
    work = failed.work if failed.work.worker else work_of(record)
    return FailedTurn(failed.reason, failed.kind, True, record, failed.untouched, False, failed.failed_calls, work)


def doubted(calls: JsonObject) -> JsonObject:
    """Open calls of a journal, of which those without a result may have run since, unrecorded."""
    return {
        key: call if call.get("result") else call | {"unrecorded": True}
        for key, call in calls.items()
        if isinstance(call, dict)
    }


def _typed(shape: type[T], value: Any) -> T:
    _require(isinstance(value, dict), value, "it is not a JSON object")
    try:
        return typed(shape, value)
    except UNREADABLE as error:
        raise _foreign(value, str(error)) from error


def _require(condition: bool, value: Any, flaw: str) -> None:
    if not condition:
        raise _foreign(value, flaw)


def _foreign(value: Any, flaw: str) -> ForeignResultError:
    if type(value) is Undecodable:
        return ForeignResultError(value.reason)
    try:
        shown = json.dumps(value, ensure_ascii=False)
    except UNREADABLE:
        shown = "…"
    return ForeignResultError(f"{cut(shown, SHOWN)} ({cut(flaw, SHOWN)}).")


def _is_delta(delta: JsonObject) -> bool:
    parts, used = delta.get("messages"), delta.get("used_ids", [])
    return (
        isinstance(parts, list)
        and all(isinstance(part, dict) or _is_span(part) for part in parts)
        and isinstance(delta.get("data", {}), dict)
        and isinstance(used, list)
        and all(isinstance(key, str) for key in used)
    )


def _is_span(part: Any) -> bool:
    return (
        isinstance(part, list) and len(part) == 2 and all(type(end) is int for end in part) and 0 <= part[0] < part[1]
    )


def _numbers(result: TurnResult) -> list[int]:
    usage, work = result.usage, result.work
    return [
        usage.model_calls,
        usage.input_tokens,
        usage.output_tokens,
        usage.total_tokens,
        work.attempt,
        work.ran_count,
    ]
