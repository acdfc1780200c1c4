"""What a run remembers of itself: what was asked, what was decided, and what ran, in which turn and where."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from temporalio.client import Client, WorkflowFailureError

from abeyance.contracts import (
    Approval,
    Decision,
    Ran,
    Response,
    RunResult,
    RunStatus,
    TurnInput,
    TurnNote,
    TurnResult,
    Usage,
    Work,
)
from abeyance.settings import Settings
from activities.journal import MOST_RAN, Call, Journal
from tests.chaos.workers import Nursery
from tests.conftest import Start
from tests.processes import address_of
from tests.support import World, short, until
from workflows.story import APPROVALS_BYTES, DECISIONS_BYTES, TURNS_BYTES, Story, Told, latest, summary

AT = "2026-01-02T03:04:05+00:00"


def ran(told: RunStatus | RunResult) -> list[list[tuple[str, str, int]]]:
    """For each turn the calls that are told: tool, status, and how often they were started."""
    return [[(call.tool, call.status, call.starts) for call in note.work.ran] for note in told.turn_notes]


def in_order(status: RunStatus) -> list[str]:
    """All that is told of a run, in the order in which it happened."""
    told: list[tuple[int, str]] = [(note.order, f"turn {note.number}") for note in status.turn_notes]
    told += [(approval.order, f"asked {approval.number}") for approval in [*status.closed, *status.approvals]]
    told += [
        (decision.order, f"{'refused ' if decision.refused else ''}{decision.response}")
        for decision in [*status.decisions, *status.refused]
    ]
    assert len({order for order, _ in told}) == len(told), "two things share a place"
    return [what for _, what in sorted(told)]


async def test_a_run_with_two_answers(world: World) -> None:
    """What was asked, by whom it was answered, and what ran or was denied, turn by turn, in the result too."""
    run = await world.start("file-manager", "Delete a.txt; delete b.txt")
    await run.reaches("waiting", approvals=2)
    await run.handle.signal("approve")
    await run.refuses(1)
    await run.handle.signal("approve", {"approval": 1, "by": "ann", "comment": "fine"})
    await run.reaches("waiting", approvals=1)
    await run.handle.execute_update("decide", {"approval": 2, "response": "n", "by": "bob"})
    result = await run.result()
    status = await run.reaches("completed")
    assert (
        ran(result)
        == ran(status)
        == [
            [("inspect_files", "success", 1)],
            [("delete_files", "success", 1)],
            [("delete_files", "denied", 0)],
        ]
    )
    assert [note.work.ran[0].input for note in result.turn_notes] == [
        '{"paths": ["a.txt", "b.txt"]}', '{"paths": ["a.txt"]}', '{"paths": ["b.txt"]}',
    ]  # fmt: skip
    assert [(note.number, note.answers, note.work.attempt) for note in result.turn_notes] == [
        (1, [], 1), (2, [1], 1), (3, [2], 1),
    ]  # fmt: skip
    assert all(note.work.worker and note.started_at <= (note.ended_at or "") for note in result.turn_notes)
    assert sum((note.usage for note in result.turn_notes), Usage()) == result.usage
    assert in_order(status) == ["turn 1", "asked 1", "asked 2", "refused y", "y", "turn 2", "n", "turn 3"]
    assert [(a.number, a.tool, a.input, bool(a.asked_at)) for a in result.approvals] == [
        (1, "delete_files", {"paths": ["a.txt"]}, True),
        (2, "delete_files", {"paths": ["b.txt"]}, True),
    ]
    assert status.closed == result.approvals
    assert [(d.approval, d.tool, d.input, d.by, d.comment, d.via) for d in result.decisions if not d.refused] == [
        (1, "delete_files", {"paths": ["a.txt"]}, "ann", "fine", "signal approve"),
        (2, "delete_files", {"paths": ["b.txt"]}, "bob", None, "update decide"),
    ]
    assert (status.prompt, bool(status.started_at), bool(status.ended_at)) == ("Delete a.txt; delete b.txt", True, True)


async def test_what_is_open_is_not_closed(world: World) -> None:
    """An approval is among the open ones or among the closed ones, never in both."""
    run = await world.start("file-manager", "Delete a.txt; delete b.txt")
    before = await run.reaches("waiting", approvals=2)
    assert (before.closed, before.ended_at) == ([], None)
    await run.handle.signal("deny", 2)
    after = await run.reaches("waiting", approvals=1)
    assert [[a.number for a in approvals] for approvals in (after.approvals, after.closed)] == [[1], [2]]


async def test_a_tool_that_asks_and_one_that_a_hook_cancels(start_world: Start) -> None:
    """A call that stopped to ask is told as that; one that nobody was asked about and did not run as cancelled."""
    async with start_world() as world:
        run = await world.start("two-questions", "go")
        await run.reaches("waiting", approvals=1)
        await run.handle.signal("respond", "one")
        await run.reaches("waiting", approvals=1, turn=2)
        await run.handle.signal("respond", {"approval": 2, "response": "two"})
        assert ran(await run.result()) == [
            [("transfer", "interrupted", 1)],
            [("transfer", "interrupted", 2)],
            [("transfer", "success", 3)],
        ]
        forbidden = await world.start("forbids", "go")
        assert ran(await forbidden.result()) == [[("look", "cancelled", 0)]]


async def test_a_call_that_stopped_to_ask_and_is_denied_then(start_world: Start) -> None:
    """It has started once and is denied without another start, although the hook does not ask any more."""
    async with start_world() as world:
        run = await world.start("asks-inside-and-out", "go")
        await run.reaches("waiting", approvals=1)
        (world.workspace / "ask").touch()
        await run.handle.signal("approve")
        await run.reaches("waiting", approvals=1, turn=2)
        (world.workspace / "ask").unlink()
        await run.handle.signal("deny", 2)
        assert ran(await run.result()) == [[("look", "interrupted", 1)], [], [("look", "denied", 1)]]


async def test_an_earlier_attempt_that_failed_is_told(world: World) -> None:
    """With why it failed; what it ran is not run again and not lost."""
    (world.workspace / "offline").touch()
    run = await world.start("reconnects", "go")
    result = await run.result()
    [note] = result.turn_notes
    assert (note.work.attempt, note.work.failure) == (2, "attempt 1: the cable is cut")
    assert ran(result) == [[("look", "success", 1), ("look", "success", 1)]]


async def test_a_parked_turn_is_told_and_its_calls_once(world: World) -> None:
    """The note of the turn that failed has the problem and what had run; the note of its retry only what is new."""
    (world.workspace / "broken").touch()
    run = await world.start("fails-late", "go")
    await run.reaches("waiting", approvals=1)
    await run.handle.signal("approve")
    parked = await run.reaches("parked")
    assert "refuses this conversation" in (parked.turn_notes[-1].problem or "")
    assert ran(parked) == [[], [("step", "success", 1)]]
    (world.workspace / "broken").unlink()
    await run.handle.signal("retry", {"by": "ann"})
    result = await run.result()
    assert ran(result) == [[], [("step", "success", 1)], []]
    assert [(note.number, note.stop_reason) for note in result.turn_notes] == [
        (1, "interrupt"), (2, None), (2, "end_turn"),
    ]  # fmt: skip
    status = await run.status()
    assert in_order(status) == ["turn 1", "asked 1", "y", "turn 2", "retry", "turn 2"]


async def test_a_cancelled_run_tells_what_was_not_answered(start_world: Start) -> None:
    async with start_world() as world:
        run = await world.start("file-manager", "Delete a.txt")
        await run.reaches("waiting", approvals=1)
        await run.handle.cancel()
        with pytest.raises(WorkflowFailureError):
            await run.result()
        status = await run.reaches("cancelled")
        assert ([a.number for a in status.closed], status.decisions, bool(status.ended_at)) == ([1], [], True)


async def test_a_hundred_long_questions_fit_into_the_result(start_world: Start) -> None:
    """Each is there, shortened, and what is open is complete."""
    async with start_world() as world:
        run = await world.start("asks-much", "go", options={"calls": 100})
        open_ = (await run.reaches("waiting", approvals=100)).approvals
        assert open_[0].reason == "x" * 5_000
        await run.handle.signal("approve", list(range(1, 101)))
        result = await run.result()
        assert [approval.number for approval in result.approvals] == list(range(1, 101))
        assert len(json.dumps(asdict(result))) < 500_000
        [_, note] = result.turn_notes
        assert (note.work.ran_count, len(note.work.ran)) == (100, MOST_RAN)


@pytest.mark.long
async def test_very_many_long_comments_do_not_keep_a_run_from_its_end(start_world: Start) -> None:
    """A result beyond 2 MiB would never be accepted: the latest decisions are in it, with what they decided."""
    async with start_world() as world:
        run = await world.start("asks-much", "go", options={"calls": 240, "length": 1})
        await run.reaches("waiting", approvals=240)
        for first in range(1, 241, 40):
            comments = [{"approval": number, "comment": "x" * 2_000} for number in range(first, first + 40)]
            await run.handle.signal("approve", comments)
        result = await run.result()
        assert 100 < len(result.decisions) < 240
        told = [decision.approval for decision in result.decisions]
        assert told == list(range(241 - len(result.decisions), 241))
        assert {approval.number for approval in result.approvals} <= set(told)
        assert json_size(result.decisions) <= DECISIONS_BYTES


@pytest.fixture
def queue(client: Client, workspace: Path) -> World:
    """A task queue without a worker."""
    return World(client, Settings(task_queue=f"queue-{uuid.uuid4().hex[:8]}", workspace=workspace))


@pytest.fixture
def nursery(client: Client, workspace: Path) -> Iterator[Nursery]:
    with Nursery(address_of(client), workspace, heartbeat=short()) as workers:
        yield workers


async def dead(nursery: Nursery, pid: int) -> None:
    async def look() -> bool:
        return nursery.has_died(pid)

    await until(look, what="the worker to die")


@pytest.mark.processes
async def test_what_a_dead_worker_ran_is_told(queue: World, nursery: Nursery) -> None:
    """Nineteen calls of the worker that was killed, the one that it died in, and nineteen of its successor."""
    (queue.workspace / "die-1").touch()
    doomed = nursery.fork(queue.settings.task_queue)
    run = await queue.start("dies-at-twenty", "go")
    await dead(nursery, doomed)
    nursery.fork(queue.settings.task_queue)
    result = await run.result()
    [note] = result.turn_notes
    assert (note.work.attempt, note.work.ran_count) == (2, 39)
    workers = [call.worker.partition("@")[0] == str(doomed) for call in note.work.ran]
    assert workers == [True] * 19 + [False] * 20
    assert [call.starts for call in note.work.ran] == [1] * 19 + [2] + [1] * 19


@pytest.mark.processes
@pytest.mark.parametrize(
    ("response", "told"),
    [("retry", ("success", 2)), ("skip", ("denied", 1)), ({"result": "it went through"}, ("answered", 1))],
)
async def test_a_call_in_doubt_is_told(response: Any, told: tuple[str, int], queue: World, nursery: Nursery) -> None:
    """First that it is in doubt, then what became of it."""
    (queue.workspace / "die-1").touch()
    doomed = nursery.fork(queue.settings.task_queue)
    run = await queue.start("payer", "go")
    await dead(nursery, doomed)
    nursery.fork(queue.settings.task_queue)
    await run.reaches("waiting", approvals=1)
    await run.handle.signal("respond", {"approval": 1, "response": response})
    assert ran(await run.result()) == [[("pay", "in-doubt", 1)], [("pay", *told)]]


async def test_the_summary_of_a_turn_is_in_the_history(world: World) -> None:
    """The Temporal UI shows beside each activity what it was about."""
    run = await world.start("file-manager", "Delete a.txt")
    await run.reaches("waiting", approvals=1)
    await run.handle.signal("approve")
    await run.result()
    events = (await run.handle.fetch_history()).events
    summaries = [
        json.loads(e.user_metadata.summary.data)
        for e in events
        if e.activity_task_scheduled_event_attributes.activity_id
    ]
    assert summaries == ["turn 1 of file-manager: Delete a.txt", "turn 2 of file-manager: y to 1 delete_files"]


def approval(number: int, **more: Any) -> Approval:
    given: dict[str, Any] = {"name": "ask", "reason": None, "tool": "delete", "input": {}, "asked_at": AT} | more
    return Approval(number, f"id-{number}", **given)


@pytest.mark.parametrize(
    ("turn", "told"),
    [
        (TurnInput("r", "cleaner", 1, prompt="Delete\n it  all"), "turn 1 of cleaner: Delete it all"),
        (TurnInput("r", "cleaner", 2), "turn 2 of cleaner: goes on"),
        (
            TurnInput("r", "cleaner", 3, responses=[Response("id-1", "y"), Response("id-2", {"result": [1]})]),
            'turn 3 of cleaner: y to 1 delete; {"result": [1]} to 2 ask',
        ),
    ],
)
def test_the_summary_says_what_a_turn_is_about(turn: TurnInput, told: str) -> None:
    assert summary(turn, [approval(1), approval(2, tool=None)]) == told


def test_a_summary_is_short_in_any_script() -> None:
    """The server takes 400 bytes; half characters are never cut out of whole ones."""
    for prompt in ("x" * 1_000, "\u4e2d\U0001f600" * 300):
        told = summary(TurnInput("r", "cleaner", 1, prompt=prompt), [])
        assert 190 < len(told.encode()) <= 200
        kept, left = re.fullmatch(r"turn 1 of cleaner: (.*)… \(\+(\d+) characters\)", told).groups()  # type: ignore[union-attr]
        assert len(kept) + int(left) == len(prompt)


def json_size(items: Sequence[Any]) -> int:
    return sum(len(json.dumps(asdict(item))) for item in items)


def told_turn(story: Story, number: int, work: Work) -> None:
    story.begins(TurnInput("r", "cleaner", number, prompt="go"), [], number, AT)
    story.ends(TurnResult("end_turn", "Done.", "", {}, work=work), AT)


def test_a_story_stays_small_whatever_is_asked() -> None:
    """The latest are kept, shortened, however long they are and in whatever script."""
    story = Story(Told("\u4e2d" * 100_000, AT))
    for number in range(1, 201):
        story.asks([approval(number, reason="\u4e2d" * 5_000, input={"text": "\U0001f600" * 5_000})])
        calls = [Ran("t" * 64, f"{number}-{n}", "success", AT, "w") for n in range(50)]
        told_turn(story, number, Work(1, "w", None, calls))
    assert len(json.dumps(story.prompt)) < 20_000
    asked, turns = story.asked, story.turns
    assert APPROVALS_BYTES // 2 < json_size(asked) <= APPROVALS_BYTES
    assert TURNS_BYTES // 2 < json_size(turns) <= TURNS_BYTES
    assert (asked[-1].number, turns[-1].number) == (200, 200)
    assert [item.number for item in asked] == list(range(asked[0].number, 201))
    decisions = [Decision("y", AT, "x", number, comment="\u4e2d" * 2_000, order=number) for number in range(1, 201)]
    kept = latest(decisions)
    assert kept == decisions[-len(kept) :]
    assert DECISIONS_BYTES // 2 < json_size(kept) <= DECISIONS_BYTES


def test_hundreds_of_short_questions_are_all_kept() -> None:
    story = Story(Told("go", AT))
    for number in range(1, 501):
        story.asks([approval(number, reason="Delete it?", input={"path": f"file-{number}.txt"})])
    assert len(story.asked) == 500
    assert latest([Decision("y", AT, "x", n, order=n) for n in range(1, 501)])[0].order == 1


def test_an_approval_that_is_asked_again_takes_its_own_place() -> None:
    story = Story(Told("go", AT))
    story.asks([approval(1), approval(2)])
    story.asks([approval(1, error="the hook failed")])
    assert [(item.number, item.error) for item in story.asked] == [(1, "the hook failed"), (2, None)]
    assert [item.number for item in story.closed([approval(1)])] == [2]


def test_a_call_that_was_told_is_not_told_again() -> None:
    """A call that waits for its neighbour goes through several turns and has happened once."""
    story, call = Story(Told("go", AT)), Ran("pay", "use-1", "interrupted", AT, "w", 1)
    told_turn(story, 1, Work(1, "w", None, [call], 1))
    told_turn(story, 2, Work(1, "w", None, [call, Ran("pay", "use-1", "success", AT, "w", 2)], 2))
    assert [[ran.status for ran in note.work.ran] for note in story.turns] == [["interrupted"], ["success"]]
    assert [note.work.ran_count for note in story.turns] == [1, 1]


def test_of_very_many_calls_the_first_and_the_latest_are_told() -> None:
    """What people approved comes first in a turn; a record stays small, and says how many there were."""
    journal = Journal(None, {})
    for number in range(3 * MOST_RAN):
        journal.started(f"use-{number}", Call("step", AT, "w"))
        journal.finished(f"use-{number}", {"toolUseId": f"use-{number}", "status": "success", "content": []})
        journal.batch_closed()
    work = journal.work(1, "w")
    assert work.ran_count == 3 * MOST_RAN
    half = MOST_RAN // 2
    kept = [*range(half), *range(3 * MOST_RAN - half, 3 * MOST_RAN)]
    assert [call.tool_use_id for call in work.ran] == [f"use-{number}" for number in kept]
    assert 0 < journal.size < 300 * MOST_RAN


def test_a_call_that_was_prevented_and_then_ran_is_told_once() -> None:
    """A hook may prevent a call in one attempt and let it run in the next."""
    journal = Journal(None, {})
    journal.prevented(Ran("step", "use-1", "cancelled", AT))
    journal.prevented(Ran("step", "use-1", "cancelled", AT))
    assert [call.status for call in journal.work(1, "w").ran] == ["cancelled"]
    journal.started("use-1", Call("step", AT, "w"))
    journal.finished("use-1", {"toolUseId": "use-1", "status": "error", "content": []})
    journal.batch_closed()
    work = journal.work(1, "w")
    assert ([call.status for call in work.ran], work.ran_count) == (["error"], 1)


def test_notes_of_runs_that_began_before_there_were_any() -> None:
    """Results and statuses of an earlier version are read."""
    assert RunResult("end_turn", "Done.", [], Usage(), 1).turn_notes == []
    assert TurnResult("end_turn", "Done.", "", {}).work == Work()
    assert TurnNote(1, 1, AT).work.ran == []
