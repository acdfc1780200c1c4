"""No agent's stop reason is taken for one of this project's, and no turn goes on for ever without anything new."""

from __future__ import annotations

from dataclasses import asdict

import pytest

from abeyance.contracts import CHECKPOINT, IDLE, TurnResult, Usage
from abeyance.conversation_ids import next_id
from tests.conftest import Start
from tests.journal_agents import counted
from tests.test_operators import happens, paying


@pytest.mark.parametrize("below", [False, True])
async def test_an_agent_that_pauses_by_itself_is_refused(below: bool, start_world: Start) -> None:
    async with start_world() as world:
        run = await world.start("checkpoints", "go", options={"below": below})
        assert "checkpointing=True ('pauser')" in ((await run.reaches("parked")).problem or "")


@pytest.mark.parametrize("reason", ["checkpoint", "limit_turns", "end_turn", "guardrail_intervened"])
async def test_a_stop_reason_of_the_models_ends_the_run(reason: str, start_world: Start) -> None:
    async with start_world() as world:
        run = await world.start("stops-for", "go", options={"reason": reason})
        result = await run.result()
        assert result.turns == 1
        ours = reason in ("checkpoint", "limit_turns")
        assert result.stop_reason == (f"agent_{reason}" if ours else reason)


async def test_a_state_that_is_large_from_the_beginning_does_not_spin(start_world: Start) -> None:
    async with start_world() as world:
        run = await world.start("large-state", "go")
        assert (await run.result()).message == "Done."


async def test_a_turn_that_came_to_nothing_new_parks_the_run(start_world: Start) -> None:
    """Completed by hand here: it is not given again by itself, which it would be for ever."""
    async with start_world(heartbeat_timeout=2) as world:
        run = await paying(world)
        delta: dict[str, object] = {"messages": [], "data": {}}
        nothing = TurnResult(CHECKPOINT, "", next_id("", delta), delta, format=1)
        turn = world.client.get_async_activity_handle(workflow_id=run.id, run_id=None, activity_id="1")
        await turn.complete(asdict(nothing))
        assert (await run.reaches("parked")).problem == IDLE
        assert counted(world.workspace, run.id)["pay start 1"] == 1
        (world.workspace / "hold").unlink()
        await happens(world, run, "pay finish")
        await run.handle.signal("abort")


@pytest.mark.parametrize(
    ("delta", "calls", "idle"),
    [
        ({"messages": [[0, 3]], "data": {}}, 0, True),
        ({"messages": [], "data": {}}, 0, True),
        ({"messages": [[0, 3], {"role": "user", "content": []}], "data": {}}, 0, False),
        ({"messages": [[0, 3]], "data": {"state": {"n": 1}}}, 0, False),
        ({"messages": [[0, 3]], "data": {}}, 1, False),
    ],
)
def test_what_a_turn_without_anything_new_is(delta: dict[str, object], calls: int, idle: bool) -> None:
    assert TurnResult(CHECKPOINT, "", "", delta, usage=Usage(calls)).is_idle is idle
    assert not TurnResult("end_turn", "", "", delta, usage=Usage(calls)).is_idle
