"""Payloads that nobody can read, and those that take long to read: none drops an answer, none stops a run."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

import pytest
from temporalio.api.common.v1 import Payload
from temporalio.client import WorkflowFailureError, WorkflowUpdateFailedError
from temporalio.common import RawValue
from temporalio.exceptions import ApplicationError

from abeyance.answers import Undecodable
from abeyance.contracts import LARGEST_OPTIONS, LONGEST_NAME, WORKFLOW_TYPE, Response
from abeyance.payloads import WorkerPayloadConverter
from tests.conftest import Start
from tests.support import PATIENCE, World
from tests.test_forgiving import refuses


def payload(data: bytes, encoding: bytes | None = b"json/plain", **metadata: bytes) -> Payload:
    return Payload(metadata=metadata | ({} if encoding is None else {"encoding": encoding}), data=data)


REFERENCE = b'{"driver_name": "s3", "driver_claim": {"claim_data": {"key": "k"}}}'
STORED_ELSEWHERE = {
    "a reference": payload(REFERENCE, b"json/external-storage-reference"),
    "half a reference": payload(b"{}", b"json/external-storage-reference"),
    "a reference as protobuf": payload(
        b"{}", b"json/protobuf", messageType=b"temporal.api.sdk.v1.ExternalStorageReference"
    ),
    "a marked one": payload(b"1", __temporal_external_storage_reference=b"true"),
}
UNREADABLE = STORED_ELSEWHERE | {
    "an unknown encoding": payload(b"1", b"binary/of-nobody"),
    "no encoding": payload(b"1", None),
    "an encoding in no letters": payload(b"1", b"\xff\xfe"),
    "a long encoding": payload(b"1", b"x" * 500_000),
    "no JSON": payload(b"{"),
    "no data": payload(b""),
    "no UTF-8": payload(b'"\xff"'),
    "UTF-16": payload('"y"'.encode("utf-16")),
    "a long number": payload(b"1" * 5_000),
    "depth": payload(b"[" * 100_000),
    "a name twice": payload(b'{"approval": 1, "response": "y", "response": "n"}'),
    "null with something in it": payload(b"y", b"binary/null"),
    "an unknown message": payload(b"{}", b"json/protobuf", messageType=b"no.such.Message"),
    "a known message": payload(b"{}", b"json/protobuf", messageType=b"temporal.api.common.v1.Payload"),
    "a slow message": payload(b'{"a":{"a":1}}', b"json/protobuf", messageType=b"google.protobuf.Struct"),
    "a binary message": payload(b"\x00", b"binary/protobuf", messageType=b"temporal.api.common.v1.Payload"),
}


@pytest.mark.parametrize("case", UNREADABLE)
def test_what_cannot_be_decoded_becomes_words(case: str) -> None:
    [value] = WorkerPayloadConverter().from_payloads([UNREADABLE[case]])
    assert isinstance(value, Undecodable)
    assert value.reason.startswith("It")
    assert value.reason.endswith(".")
    assert len(value.reason) < 500


@pytest.mark.parametrize(
    ("data", "value"),
    [
        (b'{"a": [1, 2.5, null, true, "\xc3\xa4"]}', {"a": [1, 2.5, None, True, "ä"]}),
        (b'\xef\xbb\xbf"with a byte order mark"', "with a byte order mark"),
        (b' [ {"a": 1}, {"a": 2} ] ', [{"a": 1}, {"a": 2}]),
        (b'"' + b"x" * 600_000 + b'"', "x" * 600_000),
    ],
)
def test_json_is_read_as_ever(data: bytes, value: Any) -> None:
    assert WorkerPayloadConverter().from_payloads([payload(data)]) == [value]


def test_our_own_shapes_are_read_as_temporal_does() -> None:
    """With a type hint, what cannot be read is our own mistake, which raises."""
    converter = WorkerPayloadConverter()
    response = Response("id", {"a": 1}, "use")
    assert converter.from_payloads(converter.to_payloads([response]), [Response]) == [response]
    with pytest.raises(RuntimeError, match="could not be converted"):
        converter.from_payloads([payload(b"{")], [Response])


async def test_what_cannot_be_decoded_is_refused_with_words(world: World) -> None:
    """As a signal it is refused and counted, as an update it is refused to its sender, and neither stops the run."""
    run = await world.start("file-manager", "Delete a.txt")
    before = await run.reaches("waiting", approvals=1)
    for count, unreadable in enumerate(UNREADABLE.values(), 1):
        await run.handle.signal("approve", RawValue(unreadable))
        await refuses(run, before, count, "It")
        with pytest.raises(WorkflowUpdateFailedError) as refused:
            await asyncio.wait_for(run.handle.execute_update("decide", RawValue(unreadable)), PATIENCE)
        assert isinstance(refused.value.cause, ApplicationError)
        assert refused.value.cause.type == "Refused"
    await run.handle.signal("approve")
    result = await run.result()
    assert "a.txt" not in world.files()
    assert [d.response for d in result.decisions if not d.refused] == ["y"]


async def failed_start(world: World, start: Any) -> str:
    """What a run says that fails at once, since its input is no request."""
    handle = await world.client.start_workflow(
        WORKFLOW_TYPE, start, id=f"bad-{uuid.uuid4().hex[:8]}", task_queue=world.settings.task_queue
    )
    with pytest.raises(WorkflowFailureError) as failure:
        await asyncio.wait_for(handle.result(), PATIENCE)
    assert isinstance(failure.value.cause, ApplicationError)
    assert failure.value.cause.type == "BadRequest"
    return failure.value.cause.message


async def test_a_start_that_cannot_be_decoded_fails_at_once(world: World) -> None:
    """Temporal's own converter would try its first task for ever."""
    for unreadable in UNREADABLE.values():
        message = await failed_start(world, RawValue(unreadable))
        assert message.startswith("A run's input must be JSON that can be kept. It")


LARGE: list[tuple[dict[str, Any], str]] = [
    ({"agent": "n" * (LONGEST_NAME + 1)}, "'agent' may have 1000 characters"),
    ({"session": "n" * 1_900_000}, "'session' may have 1000 characters"),
    ({"options": {"a": "x" * LARGEST_OPTIONS}}, "'options' may have 100000 characters"),
    ({"f" * 1_900_000: 1}, "has no field 'fff"),
]


async def test_a_start_that_is_too_large_fails_at_once(world: World) -> None:
    """With it, no query could be answered, or no turn be started."""
    for more, words in LARGE:
        message = await failed_start(world, {"agent": "counted", "prompt": "go"} | more)
        assert words in message
        assert len(message) < 500


SLOW = {
    "approve": ("[" + "99," * 20_000 + "99]", "may hold 100 answers, and this one holds 20001"),
    "respond": ("[" + "[]," * 200_000 + "[]]", "characters as JSON, and an answer may have 100000"),
    "deny": ("[" + '{"approval": 9},' * 118_000 + "1]", "characters as JSON, and an answer may have 100000"),
    "retry": ("{" + ",".join(f'"{n}":0' for n in range(150_000)) + "}", "characters as JSON"),
}


async def test_junk_that_takes_long_to_read_does_not_stop_the_run(world: World) -> None:
    """Up to the 2 MB that a signal may have. What takes a workflow task too long would be tried again for ever."""
    run = await world.start("file-manager", "Delete a.txt")
    await run.reaches("waiting", approvals=1)
    for name, (junk, _) in SLOW.items():
        await run.handle.signal(name, RawValue(payload(junk.encode())))
    status = await run.refuses(len(SLOW))
    for refused, (_, words) in zip(status.refused, SLOW.values(), strict=True):
        assert words in (refused.refused or "")
    await run.handle.signal("approve")
    await run.result()
    assert "a.txt" not in world.files()


async def test_answers_that_no_turn_can_carry_are_refused(start_world: Start) -> None:
    """Each is within its limit, but together they exceed what one turn is given."""
    async with start_world() as world:
        run = await world.start("counted", "go", options={"acts": 7})
        await run.reaches("waiting", approvals=7)
    for number in range(1, 8):  # nobody is there to take the first of them at once
        await run.handle.signal("respond", {"approval": number, "response": {"approve": True, "comment": "y" * 90_000}})
    async with start_world(task_queue=world.settings.task_queue) as world:
        await run.refuses(2)

        status = await run.reaches("waiting", approvals=2, turn=2)
    assert "in the next turn there is room for" in (status.refused[0].refused or "")


async def test_a_long_list_of_refusals_is_told_shortly(start_world: Start) -> None:
    async with start_world() as world:
        run = await world.start("counted", "go", options={"acts": 2})
        await run.reaches("waiting", approvals=2)
        with pytest.raises(WorkflowUpdateFailedError) as refused:
            await run.handle.execute_update("decide", [{"approval": 9, "response": "y"}] * 100)
        assert isinstance(refused.value.cause, ApplicationError)
        message = refused.value.cause.message
        assert message.count("There is no open approval 9.") == 5
        assert message.endswith("(And 95 more are refused.)")
