"""Once only means once only: in sub-agents, in agents inside tools, under trust, and whatever a name is spelt like."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from temporalio.client import Client

from abeyance import agent
from abeyance.errors import ConfigurationError
from abeyance.session_names import session_run_id
from abeyance.settings import Settings
from activities.conversations import NOTHING
from activities.journal import Call
from tests.chaos.agents import effects_of
from tests.chaos.workers import Nursery
from tests.conftest import Start
from tests.processes import address_of
from tests.support import StartedRun, World
from tests.test_crash import dead

AGENTS = ("tests.once_agents",)


@pytest.fixture
def queue(client: Client, workspace: Path) -> World:
    return World(client, Settings(task_queue=f"queue-{uuid.uuid4().hex[:8]}", workspace=workspace))


@pytest.fixture
def nursery(client: Client, workspace: Path) -> Iterator[Nursery]:
    with Nursery(address_of(client), workspace, heartbeat=1.0, agents=AGENTS) as workers:
        yield workers


def done(world: World, run: StartedRun, what: str) -> list[str]:
    """The keys of the run's effects of one kind, in order."""
    return [str(effect["key"]) for effect in effects_of(world.workspace, run.id).read() if effect["what"] == what]


async def killed(queue: World, nursery: Nursery, name: str, at: str, said: str = "", **more: Any) -> StartedRun:
    """Start a run, answer `said` to what it asks first, and have its worker die in the call with `at`."""
    (queue.workspace / f"die-{at}").touch()
    doomed = nursery.fork(queue.settings.task_queue)
    run = await queue.start(name, "go", **more)
    if said:
        await run.reaches("waiting", approvals=1)
        await run.handle.signal("respond", {"approval": 1, "response": said})
    await dead(nursery, doomed)
    nursery.fork(queue.settings.task_queue)
    return run


async def skipped(run: StartedRun, number: int = 1) -> Any:
    """Wait until the run asks about a call in doubt, and have it skipped; gives the approval."""
    approval = (await run.reaches("waiting", approvals=1)).approvals[0]
    assert (approval.name, approval.number) == ("in-doubt", number)
    await run.handle.signal("respond", {"approval": number, "response": "skip"})
    await run.result()
    return approval


@pytest.mark.processes
@pytest.mark.parametrize(("name", "at"), [("below-once", "ada"), ("below-once", "c"), ("below-once-by-path", "c")])
async def test_a_call_is_as_once_only_as_what_runs_inside_it(
    name: str, at: str, queue: World, nursery: Nursery
) -> None:
    """A sub-agent's once-only tool, at any depth: the question lists what ran inside, and nothing is charged twice."""
    run = await killed(queue, nursery, name, at)
    approval = await skipped(run)
    inside = approval.reason["inside"]
    assert approval.tool == ("clerk" if name == "below-once" else "mid")
    [charged] = [line for line in inside if "charge" in line]
    assert '{"to": "ada"}' in charged
    assert ("nothing is known of its end" in charged) == (at == "ada")
    assert ("success, ended" in charged) == (at == "c")
    if name == "below-once":
        assert inside[0].startswith('look {"at": "b"}') and "success, ended" in inside[0]
    else:
        assert charged.startswith("clerk > charge ")
    assert "approved calls too" in approval.reason["options"]["retry"]
    assert done(queue, run, "charge") == ["ada 1"]


@pytest.mark.processes
async def test_a_call_that_had_an_approved_call_inside_is_once_only(queue: World, nursery: Nursery) -> None:
    run = await killed(queue, nursery, "below-approved", "c", "y")
    approval = await skipped(run, 2)
    assert [line.split(":")[0] for line in approval.reason["inside"]] == ['charge {"to"', 'look {"at"']
    assert "success, ended" in approval.reason["inside"][0]
    assert done(queue, run, "charge") == ["ada 1"]


@pytest.mark.processes
@pytest.mark.parametrize("answer", ["skip", "retry"])
async def test_a_sub_agent_whose_question_was_lost_does_not_act_again(
    answer: str, queue: World, nursery: Nursery
) -> None:
    """Its worker dies between its question and the turn's end: how far it had come is lost, and it begins anew."""
    doomed = nursery.fork(queue.settings.task_queue, "withdrawn:1")
    run = await queue.start("below-asks", "go")
    await dead(nursery, doomed)
    nursery.fork(queue.settings.task_queue)
    approval = (await run.reaches("waiting", approvals=1)).approvals[0]
    assert (approval.name, approval.tool) == ("in-doubt", "clerk")
    assert "had stopped to ask" in approval.reason["message"]
    assert approval.reason["inside"][0].startswith('charge {"to": "ada"}')
    await run.handle.signal("respond", {"approval": 1, "response": answer})
    if answer == "retry":
        assert (await run.reaches("waiting", approvals=1, turn=2)).approvals[0].name != "in-doubt"
        await run.handle.signal("respond", {"approval": 2, "response": "y"})
    await run.result()
    assert done(queue, run, "charge") == ["ada 1"] + ["ada 2"] * (answer == "retry")
    assert done(queue, run, "look") == ["b"] * (answer == "retry")


@pytest.mark.processes
async def test_a_sub_agents_call_that_only_asked_is_not_in_doubt(queue: World, nursery: Nursery) -> None:
    """Its worker dies after the question: nothing was charged, so nobody is asked but once more."""
    doomed = nursery.fork(queue.settings.task_queue, "withdrawn:1")
    run = await queue.start("below-asks-first", "go")
    await dead(nursery, doomed)
    nursery.fork(queue.settings.task_queue)
    [asked] = (await run.reaches("waiting", approvals=1)).approvals
    assert asked.name == "sure"
    await run.handle.signal("respond", {"approval": asked.number, "response": "y"})
    await run.result()
    assert done(queue, run, "charge") == ["ada"]


def test_what_is_left_out_of_what_ran_inside_may_have_acted() -> None:
    stopped = Call("clerk", "", "", once=True, running=False, stopped=True)
    assert not stopped.in_doubt
    assert replace(stopped, inner_left_out=1).in_doubt


async def test_a_sub_agent_goes_on_after_its_question(start_world: Start) -> None:
    async with start_world() as world:
        run = await world.start("below-asks", "go")
        await run.reaches("waiting", approvals=1)
        await run.handle.signal("respond", {"approval": 1, "response": "y"})
        result = await run.result()
        assert [approval.name for approval in result.approvals] != ["in-doubt"]
        assert (done(world, run, "charge"), done(world, run, "look")) == (["ada 1"], ["b"])


async def test_code_that_acts_and_then_asks_does_not_act_again_unasked(start_world: Start) -> None:
    """Strands runs a tool from its beginning once its question is answered: what ran inside would run twice."""
    async with start_world() as world:
        run = await world.start("below-asks", "go", options={"by_code": True})
        assert (await run.reaches("waiting", approvals=1)).approvals[0].name == "sure"
        await run.handle.signal("respond", {"approval": 1, "response": "y"})
        approval = (await run.reaches("waiting", approvals=1, turn=2)).approvals[0]
        assert (approval.name, approval.tool) == ("in-doubt", "by_code")
        await run.handle.signal("respond", {"approval": 2, "response": "skip"})
        await run.result()
        assert done(world, run, "charge") == ["ada 1"]


@pytest.mark.processes
async def test_a_retry_repeats_what_is_inside_and_counts_it(queue: World, nursery: Nursery) -> None:
    """What the question says of `retry` is so, and the tool can tell: same key, another attempt."""
    run = await killed(queue, nursery, "below-once", "c")
    await run.reaches("waiting", approvals=1)
    await run.handle.signal("respond", {"approval": 1, "response": "retry"})
    await run.result()
    assert done(queue, run, "charge") == ["ada 1", "ada 2"]
    assert len(set(done(queue, run, "key"))) == 1


@pytest.mark.processes
async def test_a_sub_agent_nobody_was_asked_about_runs_again(queue: World, nursery: Nursery) -> None:
    run = await killed(queue, nursery, "below-unasked", "c")
    await run.result()
    assert done(queue, run, "charge") == ["ada 1", "ada 2"]


@pytest.mark.processes
@pytest.mark.parametrize("by", ["by_agent", "by_graph", "by_code"])
async def test_what_a_tools_own_code_runs_is_held(by: str, queue: World, nursery: Nursery) -> None:
    """An agent, a graph or a once-only tool that a tool runs by itself makes the call once only from then on."""
    run = await killed(queue, nursery, "inside-tool", "c", options={"by": by})
    approval = await skipped(run)
    assert approval.tool == by
    assert [line.split()[0] for line in approval.reason["inside"]] == ["charge", "look"]
    assert done(queue, run, "charge") == ["ada 1"]
    [key] = done(queue, run, "key")
    assert key.startswith(run.handle.first_execution_run_id or "?") and key.count("/") == (2 if by == "by_code" else 3)


@pytest.mark.processes
async def test_a_path_through_a_tool_holds_what_nobody_can_see(queue: World, nursery: Nursery) -> None:
    """In a thread of the tool's own nothing is known of what runs; the declared path makes the tool once only."""
    run = await killed(queue, nursery, "inside-by-path", "c")
    assert (await skipped(run)).tool == "by_thread"
    assert done(queue, run, "look") == ["c"]


@pytest.mark.processes
@pytest.mark.parametrize("explained", [False, True])
async def test_what_passes_by_trust_is_once_only(explained: bool, queue: World, nursery: Nursery) -> None:
    """A person was asked about the tool before, so the call that trust lets pass is not paid twice unasked."""
    run = await killed(queue, nursery, "trusts", "bob", "t", options={"explain": explained})
    assert (await skipped(run, 2)).input == {"to": "bob"}
    assert done(queue, run, "charge") == ["ada 1", "bob 1"]


@pytest.mark.processes
async def test_what_passes_by_trust_and_is_declared_repeatable_runs_again(queue: World, nursery: Nursery) -> None:
    run = await killed(queue, nursery, "trusts-repeatable", "bob", "t")
    await run.result()
    assert len([line for line in done(queue, run, "charge") if line.startswith("bob")]) == 2


@pytest.mark.processes
async def test_trust_of_an_earlier_run_of_the_session_is_once_only(queue: World, nursery: Nursery) -> None:
    """The tools that were asked about travel with the session, as trust does."""
    session = f"s-{uuid.uuid4().hex[:8]}"
    more: dict[str, Any] = {"session": session, "run": session_run_id(session), "options": {"second": True}}
    doomed = nursery.fork(queue.settings.task_queue)
    run = await queue.start("trusts", "go", **more)
    await run.reaches("waiting", approvals=1)
    await run.handle.signal("respond", {"approval": 1, "response": "t"})
    await run.result()
    (queue.workspace / "die-eve").touch()
    again = await queue.start("trusts", "go on", **more)
    await dead(nursery, doomed)
    nursery.fork(queue.settings.task_queue)
    assert (await skipped(again)).input == {"to": "eve"}
    assert done(queue, again, "charge") == ["ada 1", "bob 1", "eve 1"]


def test_what_was_asked_about_is_carried_whole() -> None:
    """Into the next execution of a run, and through deltas that ask nothing."""
    asked = (
        NOTHING.then({"messages": [], "asked": ["pay"]}).then({"messages": []}).then({"messages": [], "asked": ["x"]})
    )
    assert NOTHING.then(asked.whole()).asked == asked.asked == ("pay", "x")


def test_a_string_is_no_list_of_names() -> None:
    for more in ({"once_only": "act"}, {"repeatable": "act"}, {"repeatable": True}, {"once_only": [1]}):
        with pytest.raises(ConfigurationError, match=r"list of tool names|as a text"):
            agent("stringy", **more)


async def test_a_misspelt_name_is_refused_with_the_nearest(start_world: Start) -> None:
    async with start_world() as world:
        run = await world.start("misspelt", "go")
        problem = (await run.reaches("parked")).problem or ""
        assert "'chrage' as once_only" in problem and "Did you mean 'charge'?" in problem
        assert done(world, run, "charge") == []


async def test_a_hook_cannot_call_a_once_only_tool(start_world: Start) -> None:
    """Nothing could keep a crash from repeating it, so it does not run at all."""
    async with start_world() as world:
        run = await world.start("called-by-hook", "go")
        await run.result()
        assert (done(world, run, "pay"), done(world, run, "look")) == ([], ["b"])


async def test_keys_work_in_sub_agents_and_differ_by_path(start_world: Start) -> None:
    """Two sub-agents whose calls have the same ids: two keys, and questions that say who asks."""
    async with start_world() as world:
        run = await world.start("two-ask", "go")
        status = await run.reaches("waiting", approvals=2)
        assert [(a.tool, a.input, a.path) for a in status.approvals] == [
            ("charge", {"to": "ada"}, ["mid", "charger"]),
            ("charge", {"to": "ada"}, ["other"]),
        ]
        memo = await (await run.handle.describe()).memo()
        assert [approval.get("path") for approval in memo["approvals"]] == [["mid", "charger"], ["other"]]
        details = await run.handle.query("__temporal_workflow_metadata")
        assert "mid &gt; charger" in str(details) or "mid > charger" in str(details)
        await run.handle.signal("approve", [1, 2])
        await run.result()
        first = run.handle.first_execution_run_id
        assert sorted(done(world, run, "key")) == [f"{first}/call_0/call_0/call_0", f"{first}/call_1/call_0"]
        assert done(world, run, "charge") == ["ada 1", "ada 1"]
