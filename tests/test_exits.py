"""What agent code raises that is no `Exception`, and what never ends: neither ends, deafens or hangs a worker."""

from __future__ import annotations

import asyncio
import threading
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import Any

import pytest
from temporalio.client import WorkflowFailureError
from temporalio.exceptions import CancelledError

from tests.conftest import Start
from tests.exit_agents import ASYNC, GATES, SYNC, THREADS
from tests.journal_agents import counted
from tests.support import StartedRun, World, tool_results, until

WAYS = [*SYNC, *(f"async-{how}" for how in SYNC), *ASYNC]
SAID = {
    "exit": "SystemExit",
    "ctrl-c": "KeyboardInterrupt",
    "generator-exit": "GeneratorExit",
    "cancelled": "CancelledError",
    "stop-iteration": "StopIteration",
}


@pytest.fixture
async def place(start_world: Start) -> AsyncIterator[World]:
    async with start_world(heartbeat_timeout=6) as world:
        yield world


def at_once(ways: Iterable[Any], check: Callable[..., Awaitable[None]]) -> Awaitable[Any]:
    """Check all ways side by side on one worker, so that what one breaks shows in the others."""
    return asyncio.gather(*(check(*way) if isinstance(way, tuple) else check(way) for way in ways))


async def test_a_tool_that_ends_oddly_has_failed(place: World) -> None:
    """The model is told so, the record says it, and the conversation and its neighbours go on."""

    async def check(how: str, asked: bool) -> None:
        run = await place.start("ends-oddly", "go", options={"how": how, "ask": asked})
        if asked:
            approvals = (await run.reaches("waiting")).approvals
            await run.handle.signal("respond", [{"approval": a.number, "response": "y"} for a in approvals])
            await run.reaches("waiting", approvals=1, turn=2)
            await run.handle.signal("approve", 3)
        result = await run.result()
        assert result.message == "Done.", how
        told = {one["toolUseId"]: one for one in await tool_results(place.client, run)}
        assert len(told) == 3, how
        [failed] = [one for one in told.values() if one["status"] == "error"]
        assert SAID.get(how.removeprefix("async-"), "") in failed["content"][0]["text"]
        ran = [one for note in result.turn_notes for one in note.work.ran if one.tool == "pay"]
        assert [one.status for one in ran] == ["error"], how
        assert counted(place.workspace, run.id)["pay start"] == 1, how

    await at_once([(how, asked) for how in WAYS for asked in (False, True)], check)


async def test_a_sub_agents_tool_that_ends_oddly_has_failed(place: World) -> None:
    async def check(how: str) -> None:
        run = await place.start("ends-oddly", "go", options={"how": how, "below": True})
        assert (await run.result()).message == "All done.", how
        effects = counted(place.workspace, run.id)
        # Its own model was asked again, so that it was told.
        assert (effects["pay start"], effects["model 2"]) == (1, 1), how

    await at_once(WAYS, check)


async def test_agent_code_that_ends_oddly_parks_the_run(place: World) -> None:
    async def check(where: str, how: str) -> None:
        run = await place.start("breaks-oddly", "go", options={"where": where, "how": how})
        problem = (await run.reaches("parked")).problem or ""
        assert SAID.get(how, "") in problem, (where, how)
        await run.handle.signal("abort")

    places = ["factory", "model", "hook", "after", "model-hook", "callback"]
    await at_once([(where, how) for where in places for how in SYNC], check)
    await still_serves(place)


async def test_middleware_that_ends_oddly_fails_its_call(place: World) -> None:
    async def check(how: str) -> None:
        run = await place.start("breaks-oddly", "go", options={"where": "middleware", "how": how})
        await run.result()
        [told] = await tool_results(place.client, run)
        assert told["status"] == "error", how
        assert counted(place.workspace, run.id)["pay start"] == 0, how

    await at_once(SYNC, check)


async def test_an_answer_that_makes_a_hook_end_oddly_is_asked_for_again(place: World) -> None:
    async def check(how: str) -> None:
        run = await place.start("breaks-oddly", "go", options={"where": "answer", "how": how})
        await run.reaches("waiting", approvals=1)
        await run.handle.signal("respond", {"approval": 1, "response": "break"})
        again = await run.reaches("waiting", approvals=1, turn=2)
        assert again.approvals[0].error, how
        await run.handle.signal("respond", {"approval": again.approvals[0].number, "response": "y"})
        await run.result()
        assert counted(place.workspace, run.id)["pay start"] == 1, how

    await at_once(SYNC, check)


async def test_threads_and_loops_are_whole_after_an_odd_end(place: World) -> None:
    """The next turns in the same threads have what they need."""
    for how in ("takes-the-threads-away", "stops-the-loop", "exits-in-a-callback"):
        await (await place.start("ends-oddly", "go", options={"how": how})).result()
        await still_serves(place)


async def test_a_cancel_ends_what_never_ends(place: World) -> None:
    async def check(where: str) -> None:
        run = await place.start("never-ends", "go", options={"where": where}, run=f"never-{uuid.uuid4().hex[:8]}")
        try:
            await begun(place, run)
            await run.handle.cancel()
            with pytest.raises(WorkflowFailureError) as failed:
                await run.result()
            assert isinstance(failed.value.cause, CancelledError), where
            assert counted(place.workspace, run.id)["never ended"] == 0, where
        finally:
            GATES.setdefault(run.id, threading.Event()).set()

    await at_once(["tool", "hook", "model", "factory", "future"], check)
    await still_serves(place)


async def test_a_thread_that_a_tool_left_behind_holds_no_run_up(place: World) -> None:
    run = await place.start("never-ends", "go", options={"where": "leftover"}, run=f"never-{uuid.uuid4().hex[:8]}")
    try:
        assert (await run.result()).message == "Done."
        assert counted(place.workspace, run.id)["never ended"] == 0
        await still_serves(place)
    finally:
        GATES.setdefault(run.id, threading.Event()).set()


async def test_what_a_thread_left_behind_comes_to_is_nothing_in_the_next_turn(place: World) -> None:
    """Its end is told to the loop of its own turn, which runs no more."""
    run = await place.start("never-ends", "go", options={"where": "leftover"}, run=f"never-{uuid.uuid4().hex[:8]}")
    try:
        await run.result()
    finally:
        GATES.setdefault(run.id, threading.Event()).set()

    async def ended() -> bool:
        return counted(place.workspace, run.id)["never ended"] == 1

    await until(ended, what="the thread to end")
    await still_serves(place)
    assert counted(place.workspace, run.id)["never went on"] == 0


async def test_a_task_that_a_tool_left_behind_ends_with_its_turn(place: World) -> None:
    """Before the turn's end is told, and the thread has a loop for the next one."""
    run = await place.start("never-ends", "go", options={"where": "task"})
    assert (await run.result()).message == "Done."
    assert counted(place.workspace, run.id)["never cancelled"] == 1
    await still_serves(place)


async def test_a_thread_that_was_left_behind_runs_no_other_turn(place: World) -> None:
    """A hook that heard of no cancel has its turn's own thread; once the hook ends, so does the thread."""
    run = await place.start("never-ends", "go", options={"where": "hook"}, run=f"never-{uuid.uuid4().hex[:8]}")
    try:
        await begun(place, run)
        await run.handle.cancel()
        with pytest.raises(WorkflowFailureError):
            await run.result()
        await still_serves(place)
        assert THREADS[run.id].is_alive()
    finally:
        GATES.setdefault(run.id, threading.Event()).set()

    async def gone() -> bool:
        return not THREADS[run.id].is_alive()

    await until(gone, what="the thread to end")


async def begun(place: World, run: StartedRun) -> None:
    async def look() -> bool:
        return counted(place.workspace, run.id)["never started"] > 0

    await until(look, what="the agent to block")


async def still_serves(place: World) -> None:
    run = await place.start("file-manager", "Delete a.txt")
    await run.reaches("waiting", approvals=1)
    await run.handle.signal("deny")
    await run.result()
