"""What people decided holds, whatever the agent's own policy says by the time their answers come back."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import pytest

from abeyance.contracts import RunStatus
from abeyance.runs import Runs
from tests.chaos.agents import effects_of
from tests.conftest import Start
from tests.support import StartedRun, World, until


@pytest.fixture
async def world(start_world: Start) -> AsyncIterator[World]:
    """A worker with its cache: what is decided here is decided in turns, and replay is for other tests to try."""
    async with start_world() as started:
        yield started


def done(world: World, run: StartedRun, *whats: str) -> list[str]:
    """What the run's tools have done, as "pay ada", sorted."""
    return sorted(f"{e['what']} {e['key']}" for e in effects_of(world.workspace, run.id).read() if e["what"] in whats)


def paid(world: World, run: StartedRun) -> list[str]:
    return done(world, run, "pay")


async def answer(run: StartedRun, *answers: tuple[int, Any]) -> None:
    """Give all answers at once."""
    await run.handle.execute_update("decide", [{"approval": number, "response": said} for number, said in answers])


async def asks(run: StartedRun, name: str) -> RunStatus:
    """Wait until the run asks something called `name`."""

    async def look() -> RunStatus | None:
        status = await run.status()
        return status if [a for a in status.approvals if a.name == name] else None

    return await until(look, what=f"{name} to be asked")


@pytest.mark.parametrize("agent", ["hitl-trust", "hook-trust"])
async def test_trust_for_one_call_is_no_yes_to_its_neighbour(agent: str, world: World) -> None:
    """The first is trusted and the second denied in one breath; what comes in the next message is trusted."""
    run = await world.start(agent, "go")
    await run.reaches("waiting", approvals=2)
    await answer(run, (1, "t"), (2, "n"))
    result = await run.result()
    assert paid(world, run) == ["pay ada", "pay eve"]
    if agent == "hitl-trust":
        whys = [ran.why for note in result.turn_notes for ran in note.work.ran if ran.status == "success"]
        assert whys == ["", "not asked: a person has trusted this tool before"]


@pytest.mark.parametrize(
    ("said", "expected"), [("n", ["pay ada", "pay eve"]), ("y", ["pay ada", "pay bob", "pay eve"])]
)
@pytest.mark.parametrize("agent", ["hitl-trust", "hook-trust", "tool-trust"])
async def test_what_is_open_stays_open_when_its_neighbour_is_trusted(
    agent: str, said: str, expected: list[str], world: World
) -> None:
    """The second call was shown and not answered yet: trust that is given meanwhile does not run it."""
    run = await world.start(agent, "go")
    await run.reaches("waiting", approvals=2)
    await answer(run, (1, "t"))
    status = await run.reaches("waiting", approvals=1, turn=2)
    assert [a.number for a in status.approvals] == [2]
    assert done(world, run, "pay", "wire") == [expected[0].replace("pay", "wire" if agent == "tool-trust" else "pay")]
    await answer(run, (2, said))
    await run.result()
    assert [line.split()[1] for line in done(world, run, "pay", "wire")] == [line.split()[1] for line in expected]


async def test_an_open_tool_is_not_run_again_for_its_neighbours_sake(start_world: Start) -> None:
    async with start_world() as world:
        run = await world.start("tool-trust", "go")
        await run.reaches("waiting", approvals=2)
        await answer(run, (1, "y"))
        await run.reaches("waiting", approvals=1, turn=2)
        assert Counter(done(world, run, "body")) == {"body ada": 2, "body bob": 1}
        await run.handle.cancel()


@pytest.mark.parametrize("at_once", [True, False])
async def test_a_tool_that_was_told_no_does_not_see_its_neighbours_trust(at_once: bool, world: World) -> None:
    """The tool decides itself, by the agent's state as it was when it asked."""
    run = await world.start("tool-trust", "go")
    await run.reaches("waiting", approvals=2)
    if at_once:
        await answer(run, (1, "t"), (2, "n"))
    else:
        await answer(run, (1, "t"))
        await run.reaches("waiting", approvals=1, turn=2)
        await answer(run, (2, "n"))
    await run.result()
    assert done(world, run, "wire") == ["wire ada", "wire eve"]


async def test_trust_applies_from_the_next_batch_on(world: World) -> None:
    """With calls one after the other, the second is asked about although the first was trusted; the third is not."""
    run = await world.start("hook-trust", "go", options={"sequential": True})
    await run.reaches("waiting", approvals=1)
    await answer(run, (1, "t"))
    status = await run.reaches("waiting", approvals=1, turn=2)
    assert status.approvals[0].input == {"to": "bob"}
    assert paid(world, run) == ["pay ada"]
    await answer(run, (2, "n"))
    await run.result()
    assert paid(world, run) == ["pay ada", "pay eve"]


FLIPPING = ["classifier", "flag", "batch-question", "middleware-question"]


@pytest.mark.parametrize("response", ["n", "NO ", False, {"approve": False}, "later"])
@pytest.mark.parametrize("agent", FLIPPING)
async def test_a_policy_that_flips_does_not_run_what_was_not_allowed(
    agent: str, response: Any, start_world: Start
) -> None:
    async with start_world() as world:
        run = await world.start(agent, "go")
        await run.reaches("waiting", approvals=1)
        (world.workspace / "relaxed").touch()
        await answer(run, (1, response))
        await run.result()
        assert paid(world, run) == []


@pytest.mark.parametrize("agent", FLIPPING)
async def test_a_policy_that_flips_runs_what_was_allowed(agent: str, world: World) -> None:
    run = await world.start(agent, "go")
    await run.reaches("waiting", approvals=1)
    (world.workspace / "relaxed").touch()
    await answer(run, (1, "y"))
    await run.result()
    assert paid(world, run)[0] == "pay ada"


async def test_an_agent_that_does_not_listen_is_held_to_a_no(start_world: Start) -> None:
    async with start_world() as world:
        run = await world.start("deaf", "go")
        await run.reaches("waiting")
        await run.handle.signal("deny")
        await run.result()
        assert paid(world, run) == []
        again = await world.start("deaf", "go")
        await again.reaches("waiting")
        await again.handle.signal("respond", "as you like")
        await again.result()
        assert paid(world, again) == ["pay ada"]


async def test_a_question_about_a_batch_shows_all_its_calls(start_world: Start) -> None:
    async with start_world() as world:
        run = await world.start("batch-question", "go")
        approval = (await run.reaches("waiting", approvals=1)).approvals[0]
        assert approval.tool == "pay"
        assert approval.input == [{"tool": "pay", "input": {"to": name}} for name in ("ada", "bob")]
        assert len(approval.digests) == 2
        await run.handle.signal("approve")
        await run.result()
        assert paid(world, run) == ["pay ada", "pay bob"]


async def test_what_is_shown_is_what_the_hooks_made_of_it(start_world: Start) -> None:
    """A hook that always changes the input costs no second question."""
    async with start_world() as world:
        run = await world.start("rewriter", "go")
        approval = (await run.reaches("waiting", approvals=1)).approvals[0]
        assert (approval.tool, approval.input) == ("pay", {"to": "ADA"})
        await run.handle.signal("approve")
        await run.result()
        assert paid(world, run) == ["pay ADA"]


@pytest.mark.parametrize(("said", "expected"), [("y", ["pay mallory"]), ("n", [])])
async def test_a_call_that_was_changed_is_asked_about_again(said: str, expected: list[str], world: World) -> None:
    run = await world.start("rewriter", "go")
    first = (await run.reaches("waiting", approvals=1)).approvals[0]
    (world.workspace / "redirect").write_text("mallory")
    await answer(run, (1, "y"))
    again = (await run.reaches("waiting", approvals=1, turn=2)).approvals[0]
    assert (again.number, again.name, again.choices) == (2, "changed", ["y", "n"])
    assert (again.tool, again.input) == ("pay", {"to": "mallory"})
    assert again.digest != first.digest
    assert again.reason["shown"] == {"tool": "pay", "input": {"to": "ADA"}}
    assert again.reason["different"] == ["input.to"]
    assert paid(world, run) == []
    await answer(run, (2, said))
    await run.result()
    assert paid(world, run) == expected


async def test_every_change_is_asked_about(start_world: Start) -> None:
    """A yes to one change is no yes to the next one, and none at all to the first version."""
    async with start_world() as world:
        run = await world.start("rewriter", "go")
        await run.reaches("waiting", approvals=1)
        for turn, target in enumerate(("mallory", "trudy", ""), start=2):
            (world.workspace / "redirect").write_text(target)
            await answer(run, (turn - 1, "y"))
            await run.reaches("waiting", approvals=1, turn=turn)
        await answer(run, (4, "y"))
        await run.result()
        assert paid(world, run) == ["pay ADA"]


async def test_another_tool_in_the_place_of_the_approved_one_is_asked_about(start_world: Start) -> None:
    async with start_world() as world:
        run = await world.start("swaps-tool", "go")
        await run.reaches("waiting", approvals=1)
        (world.workspace / "relaxed").touch()
        await answer(run, (1, "y"))
        again = (await run.reaches("waiting", approvals=1, turn=2)).approvals[0]
        assert (again.tool, again.reason["different"]) == ("refund", ["tool"])
        await answer(run, (2, "n"))
        await run.result()
        assert done(world, run, "pay", "refund") == []


async def test_a_sub_agents_calls_are_shown_and_held_to_their_answers(world: World) -> None:
    """Two payments with one id: two approvals, each for its own call, and a policy that flips decides nothing."""
    run = await world.start("manager", "go")
    status = await run.reaches("waiting", approvals=2)
    assert [(a.tool, a.input) for a in status.approvals] == [("pay", {"to": "ada"}), ("pay", {"to": "bob"})]
    assert len({a.id for a in status.approvals}) == 2
    (world.workspace / "relaxed").touch()
    await answer(run, (1, "n"), (2, "y"))
    await run.result()
    assert paid(world, run) == ["pay bob"]


async def test_a_sub_agents_changed_call_is_asked_about_again(start_world: Start) -> None:
    async with start_world() as world:
        run = await world.start("manager", "go")
        await run.reaches("waiting", approvals=2)
        (world.workspace / "redirect").touch()
        await answer(run, (1, "y"), (2, "n"))
        again = (await run.reaches("waiting", approvals=1, turn=2)).approvals[0]
        assert (again.name, again.tool, again.input) == ("changed", "pay", {"to": "mallory"})
        assert paid(world, run) == []
        await answer(run, (again.number, "n"))
        await run.result()
        assert paid(world, run) == []


@pytest.mark.parametrize("sequential", [False, True])
async def test_only_the_answer_that_failed_is_asked_for_again(sequential: bool, world: World) -> None:
    """What ran stays done, what was answered well stays answered, and the bad answer can be corrected."""
    run = await world.start("careless-batch", "go", options={"sequential": sequential})
    if sequential:
        for turn in (1, 2):
            await run.reaches("waiting", approvals=1, turn=turn)
            await answer(run, (turn, "yes" if turn == 1 else 5))
    else:
        await run.reaches("waiting", approvals=3)
        await answer(run, (1, "yes"), (2, 5), (3, "yes"))
    status = await until(lambda: _erring(run), what="the approval to open again")
    assert [(a.number, a.input) for a in status.approvals] == [(2, {"to": "bob"})]
    assert "has no attribute 'lower'" in (status.approvals[0].error or "")
    await answer(run, (2, "no thanks"))
    if sequential:
        await run.reaches("waiting", approvals=1, turn=3)
        await answer(run, (3, "yes"))
    await run.result()
    assert paid(world, run) == ["pay ada", "pay eve"]


async def _erring(run: StartedRun) -> RunStatus | None:
    status = await run.status()
    return status if status.state == "waiting" and any(a.error for a in status.approvals) else None


async def test_two_questions_of_one_name_about_one_call_are_never_one(start_world: Start) -> None:
    """Strands cannot tell them apart, so the run says so and nothing runs."""
    async with start_world() as world:
        run = await world.start("same-name", "go")
        status = await run.reaches("parked")
        assert "interrupt name used more than once" in (status.problem or "")
        assert paid(world, run) == []
        await run.handle.signal("abort")


async def test_a_reason_that_json_does_not_know_is_shown(start_world: Start) -> None:
    async with start_world() as world:
        run = await world.start("odd-reasons", "go")
        reason = (await run.reaches("waiting", approvals=1)).approvals[0].reason
        assert reason["at"] == "2026-01-02T03:04:00+00:00"
        assert (reason["amount"], reason["tags"]) == ("1.10", ["a", "b"])
        assert reason["invoice"] == {"number": 7, "due": "2026-02-01"}
        assert reason["raw"]["data"] == "AP8="
        await run.handle.signal("approve")
        await run.result()
        assert paid(world, run) == ["pay ada"]


async def test_a_long_reason_is_shortened_for_people_only(start_world: Start) -> None:
    async with start_world() as world:
        run = await world.start("odd-reasons", "go", options={"length": 100_000})
        reason = (await run.reaches("waiting", approvals=1)).approvals[0].reason
        kept, left = reason["text"].removesuffix(" characters)").split("… (+")
        assert len(kept) + int(left) == 100_000
        assert len(reason["text"]) < 16_000
        assert reason["options"] == {"y": "pay", "n": "do not"}
        asked = (await run.status()).approvals
        [whole] = await Runs(world.client, world.settings.task_queue).in_full(run.id, asked)
        await run.handle.signal("approve", f"1@{whole.digest}")
        await run.result()
        assert done(world, run, "reason") == ["reason 100000"]
        assert paid(world, run) == ["pay ada"]
