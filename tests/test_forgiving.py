"""Whatever is sent to a run, nothing bricks it: junk is refused in words, and the right answer still works.

Every test runs twice, the second time without a workflow cache, so that all of it is also replayed.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import uuid
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from temporalio.api.common.v1 import Payload
from temporalio.client import WorkflowFailureError, WorkflowUpdateFailedError
from temporalio.common import RawValue
from temporalio.exceptions import ApplicationError

from abeyance.contracts import WORKFLOW_TYPE, RunResult, RunStatus
from abeyance.devserver import temporal_binary
from tests.processes import address_of
from tests.support import PATIENCE, StartedRun, World, until

ALL = {"a.txt", "b.txt", "c.txt", "d.txt"}
MEGABYTE = "x" * 1_000_000


async def temporal(world: World, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the real `temporal` CLI against the test's server."""
    command = [temporal_binary(), "workflow", *arguments]
    env = os.environ | {"TEMPORAL_ADDRESS": address_of(world.client)}
    return await asyncio.to_thread(
        subprocess.run, command, env=env, capture_output=True, text=True, timeout=PATIENCE, check=False
    )


def unchanged(before: RunStatus, after: RunStatus) -> bool:
    """Whether only the refusals differ.

    A workflow task that the server gives out once more, on a busy machine, asks at a later time: that is no change.
    """

    def told(status: RunStatus) -> Any:
        approvals = [replace(approval, asked_at="") for approval in status.approvals]
        return status.state, status.turn, approvals, status.decisions, status.problem

    return bool(told(before) == told(after))


async def refuses(run: StartedRun, before: RunStatus, count: int, reason: str) -> None:
    """Wait for the `count`th refusal, and check that it is readable, says `reason`, and that nothing else happened."""

    async def look() -> RunStatus | None:
        status = await asyncio.wait_for(run.status(), PATIENCE)
        return status if status.refused_count >= count else None

    status = await until(look, what=f"refusal {count}: {reason}")
    assert status.refused_count == count
    refused = status.refused[-1].refused or ""
    assert refused
    assert reason in refused
    assert len(refused) < 1_500
    assert len(json.dumps(status.refused[-1].response)) < 2_000
    assert unchanged(before, status)


# What arrives, as the arguments of a signal, and what the refusal says. One approval, number 1, is open.
JUNK: dict[str, list[tuple[Sequence[Any], str]]] = {
    "approve": [
        ((1, 2), "takes one JSON value or none, and 2 arrived"),
        ((99,), "no open approval 99. Open: 1 (approve-delete)"),
        ((-1,), "no open approval -1"),
        (("nobody",), "no open approval 'nobody'"),
        (("v1:before_tool_call:tooluse_x:y",), "no open approval"),
        ((True,), "named by its number, its id or its name"),
        ((1.5,), "named by its number, its id or its name"),
        (("",), "named by its number, its id or its name"),
        (([],), "empty list"),
        (([[1]],), "named by its number, its id or its name"),
        (({"approval": [1]},), "named by its number, its id or its name"),
        (({"approval": 1, "response": "n"},), "does not know the field 'response'"),
        (({"aproval": 1},), "does not know the field 'aproval'"),
        (({"approval": 1, "by": 5},), '"by" must be a text'),
        (({"approval": 1, "comment": ["x"]},), '"comment" must be a text'),
        ((MEGABYTE,), ""),
        (({MEGABYTE: 1},), ""),
        ((b"\x00\xff",), ""),
        (("\ud800",), "half a character"),
    ],
    "deny": [
        ((1, 2, 3), "takes one JSON value or none, and 3 arrived"),
        ((2,), "no open approval 2"),
        (({"number": 1},), "does not know the field 'number'"),
    ],
    "respond": [
        ((), "There is no response"),
        ((None,), "null is no answer"),
        ((1, "y"), "takes one JSON value or none, and 2 arrived"),
        (([],), "A list must hold answers only"),
        (({"approval": 1},), 'no "response" in it'),
        (({"approval": 1, "response": None},), 'no "response" in it'),
        (({"approval": 2, "response": "y"},), "no open approval 2"),
        (({"approval": "nobody", "response": "y"},), "no open approval 'nobody'"),
        (({"approval": {"a": 1}, "response": "y"},), "named by its number, its id or its name"),
        (({"response": "y", "bogus": 1},), "does not know the field 'bogus'"),
        (({"interruptResponse": 5},), "Strands' form is"),
        (({"interruptResponse": {"interruptId": "x", "response": "y"}},), "no open approval 'x'"),
        (({"interruptResponse": {"interruptId": "x"}},), "needs an interruptId and a response"),
        (({"interruptResponse": {"interruptId": 1, "response": "y"}},), "needs an interruptId and a response"),
        (({"interruptResponse": {}, "approval": 1},), "Strands' form is"),
        (([{"approval": 1, "response": "y"}, 5],), "A list must hold answers only"),
        (([{"approval": 1, "response": "y"}, {"approval": 1}],), 'no "response" in it'),
        (({"approval": MEGABYTE, "response": "y"},), ""),
        (({"approval": 1, "response": "y", "junk": MEGABYTE},), ""),
        ((MEGABYTE,), "characters"),
    ],
    "retry": [((), "not parked"), ((1, 2), "2 arrived"), ((MEGABYTE,), "characters"), ((1,), "retry takes no input")],
    "abort": [((), "not parked"), (({"by": 5},), '"by" must be a text'), (([None],), "abort takes no input")],
    "aprove": [((), "no signal 'aprove'. Known: approve, deny, respond"), ((1,), "no signal 'aprove'")],
}


@pytest.mark.parametrize("name", JUNK)
async def test_junk_is_refused_and_the_right_answer_works(name: str, world: World) -> None:
    """Each refusal says why and changes nothing; afterwards the answer deletes what it should."""
    run = await world.start("file-manager", "Delete a.txt")
    before = await run.reaches("waiting", approvals=1)
    for count, (arguments, reason) in enumerate(JUNK[name], 1):
        await run.handle.signal(name, args=list(arguments))
        await refuses(run, before, count, reason)
    assert world.files() == ALL
    await run.handle.signal("approve", 1)
    result = await run.result()
    assert world.files() == ALL - {"a.txt"}
    assert [d.response for d in result.decisions if not d.refused] == ["y"]
    assert len([d for d in result.decisions if d.refused]) == len(JUNK[name])


async def test_the_temporal_cli_sends_what_it_sends(world: World) -> None:
    """Nothing, too much, null, a payload that claims to be binary, a signal or an encoding that nobody knows."""
    run = await world.start("file-manager", "Delete a.txt; delete b.txt")
    before = await run.reaches("waiting", approvals=2)

    async def send(name: str, *arguments: str) -> None:
        done = await temporal(world, "signal", "-w", run.id, "--name", name, *arguments)
        assert done.returncode == 0, done.stderr

    await send("approve")
    await refuses(run, before, 1, "2 approvals are open, say which: 1 (approve-delete), 2 (approve-delete)")
    await send("approve", "--input", "1", "--input", "2")
    await refuses(run, before, 2, "takes one JSON value or none, and 2 arrived")
    await send("respond", "--input", '"y"')
    await refuses(run, before, 3, "2 approvals are open, say which")
    await send("respond", "--input", "null")
    await refuses(run, before, 4, "null is no answer")
    await send("approve", "--input", '"approve-delete"')
    await refuses(run, before, 5, "Several approvals of this run have been named 'approve-delete': send the number")
    await send("approve", "--input-base64", "--input", "AP8=", "--input-meta", "encoding=binary/plain")
    await refuses(run, before, 6, "")
    await send("approve", "--input", "1", "--input-meta", "encoding=binary/of-nobody")
    await refuses(run, before, 7, "Its encoding is 'binary/of-nobody'")
    await send("no-such-signal", "--input", "1")
    await refuses(run, before, 8, "no signal 'no-such-signal'")

    await send("deny", "--input", "1")
    before = await run.reaches("waiting", approvals=1, turn=2)
    await send("approve", "--input", "1")
    await refuses(run, before, 9, "Approval 1 was already answered 'n'")
    await run.handle.signal("respond", {"approval": before.decisions[0].id, "response": "y"})
    await refuses(run, before, 10, "Approval 1 was already answered 'n'")
    await send("approve")
    await refuses(run, before, 11, "this is not the run's first question: you may have seen another. Send the number.")
    assert world.files() == ALL
    await send("approve", "--input", "2")
    await run.result()
    assert world.files() == ALL - {"b.txt"}


async def test_an_answer_before_the_question_is_refused(world: World) -> None:
    """Neither one that comes with the start nor one during the turn is kept for a question nobody has seen."""
    (world.workspace / "hold").touch()
    handle = await world.client.start_workflow(
        WORKFLOW_TYPE,
        {"agent": "patient", "prompt": "go", "options": {"ask": True}},
        id=f"early-{uuid.uuid4().hex[:8]}",
        task_queue=world.settings.task_queue,
        start_signal="approve",
        result_type=RunResult,
    )
    run = StartedRun(handle)
    status = await run.refuses(1)
    assert "No question has been asked yet" in (status.refused[0].refused or "")

    async def at_work() -> bool:
        return (world.workspace / "patience").exists()

    await until(at_work, what="the tool to be at work")
    await run.handle.signal("respond", "too early")
    await run.refuses(2)
    (world.workspace / "go").touch()
    status = await run.reaches("waiting", approvals=1)
    assert status.decisions == []
    await run.handle.signal("respond", "in time")
    await run.result()
    assert (world.workspace / "patience").read_text().splitlines()[-1] == "ended in time"


async def test_the_update_refuses_before_it_is_accepted(world: World) -> None:
    """A refused update says why, leaves no trace, and applies no part of a list of answers."""
    run = await world.start("file-manager", "Delete a.txt")
    before = await run.reaches("waiting", approvals=1)
    right = {"approval": 1, "response": "y"}
    for arguments in (
        [],
        [None],
        [1, 2],
        [{"approval": 9, "response": "y"}],
        [[right, {"approval": 9, "response": 1}]],
    ):
        with pytest.raises(WorkflowUpdateFailedError) as refused:
            await run.handle.execute_update("decide", args=arguments)
        assert isinstance(refused.value.cause, ApplicationError)
        assert refused.value.cause.type == "Refused"
    done = await temporal(world, "update", "execute", "-w", run.id, "--name", "decide", "--input", '{"approval": 3}')
    assert done.returncode != 0
    assert 'no "response" in it' in done.stderr
    assert unchanged(before, await run.status())
    assert world.files() == ALL
    await run.handle.execute_update("decide", right)
    await run.result()
    assert world.files() == ALL - {"a.txt"}


BAD_INPUTS: dict[str, tuple[list[Any], str]] = {
    "nothing": ([], "one JSON object"),
    "null": ([None], "one JSON object"),
    "text": (["Delete a.txt"], "one JSON object"),
    "list": ([[1]], "one JSON object"),
    "unknown field": ([{"agent": "file-manager", "prompt": "x", "promt": "y"}], "'promt'"),
    "no agent": ([{"prompt": "x"}], "'agent'"),
    "agent no text": ([{"agent": 5, "prompt": "x"}], "'agent'"),
    "empty prompt": ([{"agent": "file-manager", "prompt": " "}], "'prompt'"),
    "limits no object": ([{"agent": "file-manager", "prompt": "x", "limits": 5}], "'limits'"),
    "unknown limit": ([{"agent": "file-manager", "prompt": "x", "limits": {"tokens": 5}}], "'tokens'"),
    "limit no number": ([{"agent": "file-manager", "prompt": "x", "limits": {"turns": "5"}}], "'turns'"),
    "limit zero": ([{"agent": "file-manager", "prompt": "x", "limits": {"turns": 0}}], "'turns'"),
    "limit true": ([{"agent": "file-manager", "prompt": "x", "limits": {"total_tokens": True}}], "'total_tokens'"),
    "options": ([{"agent": "file-manager", "prompt": "x", "options": [1]}], "'options'"),
    "session": ([{"agent": "file-manager", "prompt": "x", "session": {"a": 1}}], "'session'"),
    "two inputs": ([{"agent": "file-manager", "prompt": "x"}, 2], "one JSON object"),
}


@pytest.mark.parametrize("case", BAD_INPUTS)
async def test_a_malformed_start_fails_at_once(case: str, world: World) -> None:
    """The run fails as a bad request that names the field, and still says how it is."""
    arguments, named = BAD_INPUTS[case]
    handle = await world.client.start_workflow(
        WORKFLOW_TYPE,
        args=arguments,
        id=f"bad-{uuid.uuid4().hex[:8]}",
        task_queue=world.settings.task_queue,
    )
    with pytest.raises(WorkflowFailureError) as failure:
        await asyncio.wait_for(handle.result(), PATIENCE)
    cause = failure.value.cause
    assert isinstance(cause, ApplicationError)
    assert cause.type == "BadRequest"
    assert named in cause.message
    assert (await StartedRun(handle).status()).state == "failed"
    assert world.files() == ALL


async def test_a_careless_hook_is_asked_again(world: World) -> None:
    """An answer that makes the hook fail opens the approval again, with the error beside it."""
    run = await world.start("careless", "go")
    await run.reaches("waiting", approvals=1)
    await run.handle.signal("respond", 5)

    async def look() -> RunStatus | None:
        status = await run.status()
        return status if status.approvals and status.approvals[0].error else None

    status = await until(look, what="the approval to open again")
    assert status.approvals[0].number == 1
    assert "'int' object has no attribute 'lower'" in (status.approvals[0].error or "")
    assert "touched" not in world.files()
    await run.handle.signal("respond", {"approval": 1, "response": "yes"})
    result = await run.result()
    assert "touched" in world.files()
    assert [decision.response for decision in result.decisions] == [5, "yes"]


PARKED = {
    "no-such-agent": "Unknown agent 'no-such-agent'. This worker knows: ",
    "n" * 1_000: "Unknown agent 'nnn",
    "broken-factory": "failed: RuntimeError: the licence server is down",
    "wrong-factory": "returned str. It must return a strands.Agent",
}


@pytest.mark.parametrize("agent", PARKED, ids=lambda agent: agent[:20])
async def test_what_cannot_run_is_parked(agent: str, world: World) -> None:
    """It says why, refuses answers, tries again when told to, and fails with the reason when it is given up."""
    run = await world.start(agent, "go")
    status = await asyncio.wait_for(run.reaches("parked"), PATIENCE)
    assert PARKED[agent] in (status.problem or "")
    await run.handle.signal("approve")
    await run.refuses(1)
    await run.handle.signal("retry", {"by": "alice"})

    async def again() -> bool:
        now = await run.status()
        return now.state == "parked" and [d.response for d in now.decisions] == ["retry"]

    await until(again, what="it to be parked once more")
    await run.handle.signal("retry", {"approval": 1})
    await run.handle.signal("abort", args=[1, 2])
    status = await run.refuses(3)
    assert status.state == "parked"
    assert ["2 arrived" in (d.refused or "") for d in status.refused] == [False, False, True]
    await run.handle.signal("abort")
    with pytest.raises(WorkflowFailureError) as failure:
        await asyncio.wait_for(run.result(), PATIENCE)
    assert isinstance(failure.value.cause, ApplicationError)
    assert failure.value.cause.type == "Aborted"
    assert PARKED[agent] in failure.value.cause.message
    assert [(d.response, d.by) for d in (await run.status()).decisions] == [("retry", "alice"), ("abort", None)]


HARD_TO_CARRY = {
    "deep": (b"[" * 400 + b"]" * 400, "nested deeper"),
    "deeper": (b"[" * 100_000, "cannot be read"),
    "not a number": (b"NaN", "NaN or Infinity"),
}


@pytest.mark.parametrize("answer", HARD_TO_CARRY)
async def test_an_answer_that_is_hard_to_carry(answer: str, world: World) -> None:
    """It is refused, changes nothing, and the right answer still works."""
    run = await world.start("file-manager", "Delete a.txt")
    before = await run.reaches("waiting", approvals=1)
    data, reason = HARD_TO_CARRY[answer]
    await run.handle.signal("respond", RawValue(Payload(metadata={"encoding": b"json/plain"}, data=data)))
    await refuses(run, before, 1, reason)
    await run.handle.signal("approve")
    await asyncio.wait_for(run.result(), PATIENCE)
    assert world.files() == ALL - {"a.txt"}


async def test_options_that_are_hard_to_carry_fail_the_start(world: World) -> None:
    """Options nested deeper than a payload can hold are a bad request, not a run that is stuck."""
    request = b'{"agent": "file-manager", "prompt": "Delete a.txt", "options": {"x": ' + b"[" * 500 + b"]" * 500 + b"}}"
    handle = await world.client.start_workflow(
        WORKFLOW_TYPE,
        RawValue(Payload(metadata={"encoding": b"json/plain"}, data=request)),
        id=f"deep-{uuid.uuid4().hex[:8]}",
        task_queue=world.settings.task_queue,
    )
    with pytest.raises(WorkflowFailureError) as failure:
        await asyncio.wait_for(handle.result(), PATIENCE)
    assert isinstance(failure.value.cause, ApplicationError)
    assert failure.value.cause.type == "BadRequest"
