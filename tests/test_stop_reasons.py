"""No agent's stop reason is taken for one of this project's, and no turn goes on for ever without anything new."""

from __future__ import annotations

import pytest

from abeyance.contracts import CHECKPOINT, TurnResult, Usage
from tests.conftest import Start


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
