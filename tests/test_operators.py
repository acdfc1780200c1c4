"""What operators do to activities by hand, and cancelling: a run goes on or ends, and nothing runs twice unasked."""

from __future__ import annotations

import asyncio
import fcntl
import logging
import subprocess
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from temporalio.api.enums.v1 import PendingActivityState
from temporalio.client import Client, WorkflowFailureError, WorkflowHistory
from temporalio.exceptions import CancelledError
from temporalio.worker import Replayer

from abeyance.contracts import RunStatus
from abeyance.devserver import temporal_binary
from abeyance.errors import RunFailedError
from abeyance.places import Place
from abeyance.runs import Runs
from abeyance.session_names import session_run_id
from abeyance.sessions import Sessions
from abeyance.settings import Settings
from tests.chaos.workers import AGENTS, Nursery
from tests.conftest import Start
from tests.journal_agents import counted
from tests.processes import address_of
from tests.sessions import snapshot
from tests.support import StartedRun, World, tool_results, until
from workflows.agent_run import AgentRun


@pytest.fixture
def queue(client: Client, workspace: Path) -> World:
    """A task queue without a worker."""
    return World(client, Settings(task_queue=f"queue-{uuid.uuid4().hex[:8]}", workspace=workspace))


@pytest.fixture
def nursery(client: Client, workspace: Path) -> Iterator[Nursery]:
    with Nursery(address_of(client), workspace, heartbeat=2.0) as workers:
        yield workers


async def temporal(world: World, what: str, run: StartedRun, *arguments: str, activity: str = "1") -> None:
    """Call `temporal activity`, as an operator would."""
    command = [temporal_binary(), "activity", what, "-w", run.id, "--activity-id", activity, *arguments]
    done = await asyncio.to_thread(
        subprocess.run,
        [*command, "--address", address_of(world.client)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr


async def happens(world: World, run: StartedRun, effect: str, times: int = 1) -> None:
    async def look() -> bool:
        return counted(world.workspace, run.id)[effect] >= times

    await until(look, what=f"{effect} of {run.id}")


async def paying(world: World) -> StartedRun:
    """A run whose once-only tool is at work until the file `hold` is gone."""
    (world.workspace / "hold").touch()
    run = await world.start("payer", "go")
    await happens(world, run, "pay start 1")
    return run


async def replays(run: StartedRun) -> None:
    history = WorkflowHistory(run.id, (await run.handle.fetch_history()).events)
    await Replayer(workflows=[AgentRun], data_converter=run.handle._client.data_converter).replay_workflow(history)


async def turn_is(run: StartedRun, state: int) -> None:
    """Wait until the server has the run's activity in that state."""

    async def look() -> bool:
        pending = (await run.handle.describe()).raw_description.pending_activities
        return [one.state for one in pending] == [state]

    await until(look, what=f"the activity to be in state {state}")


async def is_cancelled(run: StartedRun) -> RunStatus:
    with pytest.raises(WorkflowFailureError) as failure:
        await run.result()
    assert isinstance(failure.value.cause, CancelledError)
    return await run.reaches("cancelled")


STARTED = PendingActivityState.PENDING_ACTIVITY_STATE_STARTED
CANCEL_REQUESTED = PendingActivityState.PENDING_ACTIVITY_STATE_CANCEL_REQUESTED
PAUSED = PendingActivityState.PENDING_ACTIVITY_STATE_PAUSED
BY_HAND = [
    ("complete", "--result", '"done"'),
    (
        "complete",
        "--result",
        '{"stop_reason": "end_turn", "message": "", "conversation": "", "delta": {"messages": []}}',
    ),
    ("fail", "--reason", "no more", "--detail", '{"record": 1}'),
]


@pytest.mark.parametrize(
    ("act", "answer"),
    [(BY_HAND[0], "skip"), (BY_HAND[0], "retry"), (BY_HAND[1], "skip"), (BY_HAND[2], "skip")],
    ids=["complete", "complete-and-retry", "complete-shaped", "fail"],
)
async def test_a_turn_that_was_settled_by_hand(act: tuple[str, ...], answer: str, start_world: Start) -> None:
    """It parks with what is known; `retry` works, and asks before the call that may have run runs again."""
    async with start_world(heartbeat_timeout=2) as world:
        run = await paying(world)
        await temporal(world, act[0], run, *act[1:])
        problem = (await run.reaches("parked")).problem or ""
        assert "is not known" in problem
        assert "too large" not in problem
        assert ("no more" if act[0] == "fail" else "what no turn returns") in problem
        (world.workspace / "hold").unlink()
        await happens(world, run, "pay finish")
        await run.handle.signal("retry")
        [asked] = (await run.reaches("waiting", approvals=1)).approvals
        assert (asked.name, asked.tool) == ("in-doubt", "pay")
        assert "left no record" in asked.reason["message"]
        assert "started_at" not in asked.reason
        assert counted(world.workspace, run.id)["pay start 1"] == 1
        await run.handle.signal("respond", {"approval": asked.number, "response": answer})
        await run.result()
        assert counted(world.workspace, run.id)["pay finish"] == (2 if answer == "retry" else 1)
        await replays(run)


async def test_an_answered_call_is_asked_about_again_after_its_turn_was_settled_by_hand(start_world: Start) -> None:
    """A yes and a `retry` for an earlier crash cover no execution that left no record."""
    async with start_world(heartbeat_timeout=2) as world:
        run = await paying(world)
        await temporal(world, "fail", run)
        await run.reaches("parked")
        (world.workspace / "hold").unlink()
        await happens(world, run, "pay finish")
        (world.workspace / "hold").touch()
        await run.handle.signal("retry")
        await run.reaches("waiting", approvals=1)
        await run.handle.signal("respond", "retry")
        await happens(world, run, "pay start 1", 2)
        await temporal(world, "fail", run, activity="3")
        await run.reaches("parked")
        (world.workspace / "hold").unlink()
        await happens(world, run, "pay finish", 2)
        await run.handle.signal("retry")
        [asked] = (await run.reaches("waiting", approvals=1)).approvals
        assert (asked.number, asked.name) == (2, "in-doubt")
        await run.handle.signal("respond", {"approval": 2, "response": "skip"})
        await run.result()
        assert counted(world.workspace, run.id)["pay finish"] == 2


TIMEOUTS = [("--start-to-close-timeout", "2s", "--retry-maximum-attempts", "1"), ("--schedule-to-close-timeout", "2s")]


@pytest.mark.parametrize("options", TIMEOUTS, ids=["start-to-close", "schedule-to-close"])
async def test_a_turn_whose_time_was_shortened(options: tuple[str, ...], start_world: Start) -> None:
    """Its record is in the last heartbeat: `retry` goes on from it, and asks about the call that was at work."""
    async with start_world(heartbeat_timeout=2) as world:
        run = await paying(world)
        await temporal(world, "update-options", run, *options)
        status = await run.reaches("parked")
        assert "Temporal has ended the turn" in (status.problem or "")
        assert [(ran.tool, ran.status) for ran in status.turn_notes[-1].work.ran] == [("pay", "in-doubt")]
        (world.workspace / "hold").unlink()
        await happens(world, run, "pay finish")
        await run.handle.signal("retry")
        [asked] = (await run.reaches("waiting", approvals=1)).approvals
        assert asked.reason["starts"] == 1
        assert asked.reason["worker"]
        await run.handle.signal("respond", "skip")
        await run.result()
        effects = counted(world.workspace, run.id)
        assert (effects["pay start 1"], effects["pay start 2"], effects["model 0"]) == (1, 0, 1)


@asynccontextmanager
async def saving(world: World, place: Path) -> AsyncIterator[tuple[StartedRun, str]]:
    """A run that cannot save its session while the block lasts, and the id of the activity that tries to."""
    name = f"s-{uuid.uuid4().hex[:8]}"
    await Sessions(Place(place)).save("other", "clerk", snapshot("hello"), after=None, mark="somebody/1")
    [lock] = place.glob("*lock")
    run = await world.start("clerk", "ask one", session=name, run=session_run_id(name))
    await run.reaches("waiting", approvals=1)
    with lock.open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        await run.handle.signal("approve")

        async def at_work() -> str | None:
            pending = (await run.handle.describe()).raw_description.pending_activities
            started = [one for one in pending if one.activity_type.name == "save_session" and one.state == STARTED]
            return started[0].activity_id if started else None

        yield run, await until(at_work, what="the session to be saved")


async def test_a_session_that_was_saved_by_hand(start_world: Start, tmp_path: Path) -> None:
    """What is no version parks the run, and `retry` saves."""
    place = tmp_path / "sessions"
    async with start_world(sessions=Place(place)) as world:
        async with saving(world, place) as (run, activity):
            await temporal(world, "complete", run, "--result", "5", activity=activity)
            problem = (await run.reaches("parked")).problem or ""
            assert "save_session was completed with what it never returns: 5" in problem
        await run.handle.signal("retry")
        session = (await run.result()).session
        assert session
        assert session.written
        assert await Sessions(Place(place)).load(session.name, "clerk")
        await replays(run)


async def test_a_run_is_cancelled_that_cannot_save_its_session(start_world: Start, tmp_path: Path) -> None:
    """A store that is away is waited for, but not by a cancelled run, which says that it may be written."""
    place = tmp_path / "sessions"
    async with start_world(sessions=Place(place)) as world, saving(world, place) as (run, _):
        await run.handle.cancel()
        facts = (await is_cancelled(run)).session_facts
        assert facts
        assert (facts.written, facts.in_doubt) == (False, True)
        await replays(run)


async def test_what_a_cancelled_turn_has_done_is_told(start_world: Start) -> None:
    """The payment that ended while the run was being cancelled stands in the record, and in what `result` says."""
    async with start_world(heartbeat_timeout=2) as world:
        run = await paying(world)
        await run.handle.cancel()
        await turn_is(run, CANCEL_REQUESTED)
        await asyncio.sleep(1.5)  # until the worker has heard of it with a heartbeat
        (world.workspace / "hold").unlink()
        note = (await is_cancelled(run)).turn_notes[-1]
        assert [(ran.tool, ran.status) for ran in note.work.ran] == [("pay", "success")]
        assert (note.stop_reason, note.problem) == ("cancelled", None)
        with pytest.raises(RunFailedError, match=r'was cancelled\. It had run pay .*"amount": 5.*: success'):
            await Runs(world.client, world.settings.task_queue).result(run.id)
        await replays(run)


@pytest.mark.processes
async def test_a_cancelled_run_ends_though_its_worker_dies(queue: World, nursery: Nursery) -> None:
    """What was at work is told as in doubt."""
    doomed = nursery.fork(queue.settings.task_queue)
    run = await paying(queue)
    await run.handle.cancel()
    await turn_is(run, CANCEL_REQUESTED)
    nursery.kill(doomed)
    nursery.fork(queue.settings.task_queue)
    note = (await is_cancelled(run)).turn_notes[-1]
    assert [(ran.tool, ran.status) for ran in note.work.ran] == [("pay", "in-doubt")]
    assert note.stop_reason == "cancelled"


async def test_a_run_is_cancelled_whose_turn_is_paused(start_world: Start) -> None:
    """No worker has it, and no record comes with the cancellation: that is what the note says."""
    async with start_world(heartbeat_timeout=2) as world:
        (world.workspace / "hold").touch()
        run = await world.start("held", "go")
        await happens(world, run, "work start 1")
        await temporal(world, "pause", run)
        await asyncio.sleep(1.5)  # until the worker has heard of it with a heartbeat
        (world.workspace / "hold").unlink()
        await turn_is(run, PAUSED)
        await run.handle.cancel()
        note = (await is_cancelled(run)).turn_notes[-1]
        assert note.stop_reason == "cancelled"
        assert "is not known" in (note.problem or "")


async def test_a_terminated_turn_is_told_in_the_log(start_world: Start, caplog: pytest.LogCaptureFixture) -> None:
    """Nobody else hears of it: the run is told nothing."""
    with caplog.at_level(logging.WARNING, "abeyance.turn"):
        async with start_world(heartbeat_timeout=2) as world:
            run = await paying(world)
            await run.handle.terminate("enough")
            await asyncio.sleep(1.5)  # until the worker has heard of it with a heartbeat
            (world.workspace / "hold").unlink()

            async def told() -> bool:
                return any(run.id in line and "It ran: pay (" in line for line in caplog.messages)

            await until(told, what="the log to tell it")
    [line] = [line for line in caplog.messages if run.id in line and "It ran" in line]
    assert line.endswith("): success.")
    assert "amount" not in line


async def test_a_cancelled_turn_is_told_in_the_log(start_world: Start, caplog: pytest.LogCaptureFixture) -> None:
    """What it ran, and nothing of what that was given; the tool ends when it hears of the cancel."""
    with caplog.at_level(logging.INFO, "abeyance.turn"):
        async with start_world(heartbeat_timeout=2) as world:
            (world.workspace / "hold").touch()
            run = await world.start("pays-twice", "go")
            await happens(world, run, "pay 1")
            await run.handle.cancel()
            await is_cancelled(run)
    [line] = [line for line in caplog.messages if run.id in line and "was cancelled" in line]
    assert "turn 1 was cancelled. It ran: pay (" in line
    assert "amount" not in line


async def test_what_comes_after_an_unrecorded_turn_is_asked_about_too(start_world: Start) -> None:
    """It may have got as far as to the next call: an answer about the first one says nothing of that."""
    async with start_world(heartbeat_timeout=2) as world:
        (world.workspace / "hold").touch()
        run = await world.start("pays-twice", "go")
        await happens(world, run, "pay 1")
        await temporal(world, "fail", run)
        await run.reaches("parked")
        (world.workspace / "hold").unlink()
        await run.handle.signal("retry")
        for number in (1, 2):
            [asked] = (await run.reaches("waiting", approvals=1, turn=number)).approvals
            assert (asked.number, asked.name, asked.input) == (number, "in-doubt", {"amount": number})
            assert counted(world.workspace, run.id)["pay 2"] == 0
            await run.handle.signal("respond", {"approval": number, "response": "skip"})
        await run.result()
        effects = counted(world.workspace, run.id)
        assert (effects["pay 1"], effects["pay 2"]) == (1, 0)


@pytest.fixture
def newer_nursery(client: Client, workspace: Path) -> Iterator[Nursery]:
    agents = (*AGENTS, "tests.newer_version")
    with Nursery(address_of(client), workspace, heartbeat=2.0, agents=agents) as workers:
        yield workers


@pytest.fixture
def impatient_nursery(client: Client, workspace: Path) -> Iterator[Nursery]:
    with Nursery(address_of(client), workspace, heartbeat=2.0, agents=(*AGENTS, "tests.impatient")) as workers:
        yield workers


NEWER = "written by a newer version of Abeyance (format 2; this worker knows 1)"


@pytest.mark.long
@pytest.mark.processes
async def test_a_turn_that_an_older_worker_takes_over_goes_on_in_a_newer_one(
    queue: World, newer_nursery: Nursery, nursery: Nursery
) -> None:
    """The older one fails so that it is tried elsewhere, and leaves the record as it is."""
    newer = newer_nursery.fork(queue.settings.task_queue)
    run = await paying(queue)
    nursery.fork(queue.settings.task_queue)
    newer_nursery.kill(newer)

    async def refused() -> bool:
        pending = (await run.handle.describe()).raw_description.pending_activities
        return any(NEWER in turn.last_failure.message for turn in pending)

    await until(refused, what="the older worker to refuse the record")
    newer_nursery.fork(queue.settings.task_queue)

    async def asked() -> Any:
        # A workflow task that an older worker takes fails, and is tried again.
        return next(iter(await _approvals(run)), None)

    question = await until(asked, what="the newer worker to go on")
    assert question["name"] == "in-doubt"
    assert counted(queue.workspace, run.id)["model 0"] == 1


async def _approvals(run: StartedRun) -> list[Any]:
    memo = await (await run.handle.describe()).memo()
    found: list[Any] = memo.get("approvals") or []
    return found


@pytest.mark.long
@pytest.mark.processes
async def test_a_run_that_an_older_worker_has_parked_goes_on_in_a_newer_one(
    queue: World, newer_nursery: Nursery, impatient_nursery: Nursery
) -> None:
    """It says which worker it takes, and never to reset or abort it; `retry` then goes on from the record."""
    newer = newer_nursery.fork(queue.settings.task_queue)
    run = await paying(queue)
    newer_nursery.kill(newer)
    older = impatient_nursery.fork(queue.settings.task_queue)
    problem = (await run.reaches("parked")).problem or ""
    assert NEWER in problem
    assert "run a worker of that version or newer on this task queue, then send retry" in problem
    assert "abort" not in problem
    assert "reset" not in problem
    impatient_nursery.kill(older)
    newer_nursery.fork(queue.settings.task_queue)
    await run.handle.signal("retry")
    [asked] = (await run.reaches("waiting", approvals=1)).approvals
    assert asked.reason["starts"] == 1
    (queue.workspace / "hold").unlink()
    await run.handle.signal("respond", "skip")
    await run.result()
    effects = counted(queue.workspace, run.id)
    assert (effects["pay start 1"], effects["pay start 2"], effects["model 0"]) == (1, 0, 1)
    assert [result["status"] for result in await tool_results(queue.client, run)] == ["error"]


@pytest.mark.long
@pytest.mark.processes
async def test_a_run_whose_history_is_newer_waits_for_a_newer_worker(
    queue: World, newer_nursery: Nursery, nursery: Nursery
) -> None:
    """The older one fails the run's tasks, and nothing is decided by it."""
    newer = newer_nursery.fork(queue.settings.task_queue)
    run = await queue.start("file-manager-like", "go")
    await run.reaches("waiting", approvals=1)
    newer_nursery.kill(newer)
    older = nursery.fork(queue.settings.task_queue)
    await run.handle.signal("approve")

    async def refused() -> bool:
        # Its words are in the history only if this was the task's first attempt: a dead worker may have had it before.
        return bool((await run.handle.describe()).raw_description.pending_workflow_task.attempt >= 3)

    await until(refused, what="the older worker to refuse the history")
    nursery.kill(older)
    newer_nursery.fork(queue.settings.task_queue)
    assert (await run.result()).message == "Done."
    assert counted(queue.workspace, run.id)["step 1"] == 1
