"""What activities came to, as the workflow reads it, whoever has completed or failed them."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import pytest
from temporalio.exceptions import (
    ActivityError,
    ApplicationError,
    CancelledError,
    RetryState,
    TimeoutError,  # noqa: A004 - as Temporal names it
    TimeoutType,
)

from abeyance import formats
from abeyance.answers import Undecodable
from abeyance.contracts import Handover, SessionFacts, SessionRead, TurnFailure, TurnResult, Usage, Whole, Work
from abeyance.conversation_ids import next_id
from abeyance.errors import NewerFormatError
from abeyance.records import record_flaw
from workflows.outcomes import (
    FailedTurn,
    ForeignResultError,
    doubted,
    failed_turn,
    session_read,
    session_version,
    turn_result,
    verified,
    whole_conversation,
)

NEWER = formats.FORMAT + 1
DELTA: dict[str, Any] = {
    "messages": [[0, 1], {"role": "user", "content": [{"text": "hé"}]}],
    "data": {"state": {"n": 0.5}},
    "format": formats.FORMAT,
}
CALL = {"tool": "pay", "started_at": "2026-01-01", "worker": "1@a", "starts": 1, "running": True}
RECORD: dict[str, Any] = {
    "kept": 1,
    "messages": [{"role": "assistant", "content": [{"toolUse": {"toolUseId": "a"}}]}],
    "state": {"agent": {}, "conversation_manager": {}, "model": {}},
    "usage": asdict(Usage()),
    "begun": True,
    "new_ids": [],
    "calls": {"a": CALL},
    "work": {"failure": None, "ran": [], "ran_count": 0},
}


def real(**changed: Any) -> dict[str, Any]:
    """A turn's result as its activity gives it, with some fields changed."""
    result = TurnResult("end_turn", "Done.", next_id("before", DELTA), DELTA, work=Work(1, "1@a"), format=1)
    return asdict(result) | changed


def test_a_turns_own_result_is_read() -> None:
    assert turn_result(real(), "before").message == "Done."


def test_the_result_of_a_worker_that_named_no_format_is_read() -> None:
    unnamed = real(conversation="made in another way")
    del unnamed["format"]
    assert turn_result(unnamed, "before").message == "Done."


@pytest.mark.parametrize(
    "value",
    [
        "done",
        None,
        7,
        [],
        {},
        {"format": NEWER},
        {"stop_reason": "end_turn", "message": "", "conversation": "x", "delta": {"messages": []}},
        Undecodable("It is no JSON."),
        real(conversation="another"),
        real(conversation=""),
        real(delta={}),
        real(delta={"messages": [[1, 0]]}),
        real(delta={"messages": [["a", 1]]}),
        real(delta=DELTA | {"messages": []}),
        real(stop_reason=""),
        real(stop_reason=None),
        real(message={"a": 1}),
        real(questions=[{"id": "x"}]),
        real(questions=[{"id": "x", "name": "y"}]),
        real(calls=5),
        real(calls={"a": {"tool": "pay"}}),
        real(calls={"a": CALL | {"result": {"status": 1}}}),
        real(usage={"model_calls": "many"}),
        real(usage={"model_calls": float("inf")}),
        real(usage={"model_calls": -1}),
        real(work={"ran": 3}),
        real(shown_state=[]),
        real(attributes="yes"),
        {name: value for name, value in real().items() if name not in ("format", "work")},
    ],
)
def test_a_result_that_no_turn_made_is_refused_with_words(value: Any) -> None:
    with pytest.raises(ForeignResultError) as refused:
        turn_result(value, "before")
    assert str(refused.value).endswith(".")
    assert len(str(refused.value)) < 500


def test_a_result_counts_for_the_conversation_that_its_turn_was_given() -> None:
    with pytest.raises(ForeignResultError, match="not what its delta makes"):
        turn_result(real(), "another")


def test_the_result_of_a_newer_version_is_left_to_that() -> None:
    with pytest.raises(NewerFormatError, match=rf"newer version of Abeyance \(format {NEWER}; this worker knows"):
        turn_result(real(format=NEWER), "before")


def test_what_moves_conversations_is_read_as_strictly() -> None:
    nothing = asdict(SessionRead(SessionFacts("s")))
    assert session_read(nothing, "s").conversation == ""
    junk: list[Any] = ["x", {}, nothing | {"delta": "x"}, nothing | {"facts": {"name": "another"}}, {"facts": None}]
    for value in junk:
        with pytest.raises(ForeignResultError):
            session_read(value, "s")
    assert session_version("v1") == "v1"
    junk = [None, "", 5, {}, Undecodable("It is no JSON.")]
    for value in junk:
        with pytest.raises(ForeignResultError):
            session_version(value)
    assert verified(asdict(Handover("this", "")), "this") == ""
    for value in ("", None, False, {}, asdict(Handover("another", ""))):
        with pytest.raises(ForeignResultError):
            verified(value, "this")
    assert whole_conversation(asdict(Whole("a", "b", stored=False))).delta == "b"
    junk = [None, {"conversation": "", "delta": "x", "stored": False}, {"conversation": "a", "delta": 5}]
    for value in junk:
        with pytest.raises(ForeignResultError):
            whole_conversation(value)


def failed(cause: BaseException) -> FailedTurn:
    error = ActivityError(
        "Activity task failed",
        scheduled_event_id=1,
        started_event_id=2,
        identity="",
        activity_type="run_turn",
        activity_id="1",
        retry_state=RetryState.NON_RETRYABLE_FAILURE,
    )
    error.__cause__ = cause
    return failed_turn(error)


def timeout(*details: Any) -> TimeoutError:
    return TimeoutError("activity Heartbeat timeout", type=TimeoutType.HEARTBEAT, last_heartbeat_details=details)


def told(**changed: Any) -> dict[str, Any]:
    return asdict(TurnFailure(record=RECORD, work=Work(2, "1@a"), format=1)) | changed


@pytest.mark.parametrize(
    "cause",
    [
        ApplicationError("because"),
        ApplicationError("because", {"a": 1}),
        ApplicationError("because", "text", None),
        ApplicationError("because", Undecodable("It is no JSON.")),
        ApplicationError("because", told(record={"begun": True}), type="AgentError"),
        ApplicationError("because", told(failed_calls=5), type="AgentError"),
        ApplicationError("because", told(work={"ran": 1}), type="AgentError"),
        ApplicationError("because", told(untouched="yes"), type="AgentError"),
        timeout("junk"),
        timeout({"begun": 1}),
        timeout(RECORD | {"calls": {"a": 5}}),
        CancelledError("cancelled", "ACTIVITY_ID_NOT_STARTED"),
    ],
)
def test_a_failure_that_tells_nothing_is_believed_nothing(cause: BaseException) -> None:
    """There is nothing to go on from, nothing is claimed, and it does not count as the agent's own error."""
    read = failed(cause)
    assert read.unrecorded
    assert (read.told, read.record, read.kind, read.work) == (False, None, None, Work())


def test_the_record_is_taken_from_wherever_it_is() -> None:
    for cause in (ApplicationError("x", told(), type="AgentError"), timeout(RECORD)):
        read = failed(cause)
        assert read.record == RECORD
        assert read.told
        assert not read.unrecorded
    assert [(ran.tool, ran.status) for ran in failed(timeout(RECORD)).work.ran] == [("pay", "in-doubt")]
    assert failed(ApplicationError("x", told(), type="AgentError")).kind == "AgentError"
    cancelled = failed(CancelledError("x", told(record=None, untouched=False)))
    assert cancelled.told
    assert cancelled.work.worker == "1@a"


@pytest.mark.parametrize("details", [(), (None,)])
def test_a_turn_that_timed_out_before_its_first_heartbeat_is_given_again(details: tuple[Any, ...]) -> None:
    assert failed(timeout(*details)).untouched


def test_failures_of_older_workers_are_read() -> None:
    """Their details were a list: the record, whether nothing was done, the calls that failed, and the work."""
    work = asdict(Work(2, "1@a"))
    assert failed(ApplicationError("x", RECORD, False, ["a"], work)).failed_calls == ["a"]
    assert failed(ApplicationError("x", None, True, [], work)).untouched
    assert failed(ApplicationError("x", None, False, [], work)).too_large


def test_a_newer_record_is_handed_on_as_it_is() -> None:
    newer = {"format": NEWER, "anything": [1]}
    for cause in (timeout(newer), ApplicationError("x", told(record=newer))):
        read = failed(cause)
        assert read.opaque
        assert read.record == newer


@pytest.mark.parametrize(
    "changed",
    [
        {"kept": "1"},
        {"kept": True},
        {"messages": [{"role": "user"}]},
        {"messages": {}},
        {"state": {}},
        {"state": {"agent": {}}},
        {"usage": []},
        {"usage": {"model_calls": "x"}},
        {"begun": 1},
        {"new_ids": [1]},
        {"calls": []},
        {"calls": {"a": {}}},
        {"calls": {"a": CALL | {"running": "yes"}}},
        {"work": {"ran": [{}]}},
        {"work": {"ran_count": "x"}},
    ],
)
def test_a_record_of_another_shape_is_none(changed: dict[str, Any]) -> None:
    assert record_flaw(RECORD) is None
    assert record_flaw(RECORD | changed)
    junk: list[Any] = [None, "x", 5, [], {}]
    assert all(record_flaw(value) for value in junk)


def test_calls_without_a_result_are_doubted() -> None:
    done = CALL | {"result": {"status": "success", "content": []}}
    assert doubted({"a": CALL, "b": done, "c": 5}) == {"a": CALL | {"unrecorded": True}, "b": done}
