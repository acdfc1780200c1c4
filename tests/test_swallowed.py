"""A tool that catches its own question does not go on with what it was to ask about."""

from __future__ import annotations

import pytest

from tests.conftest import Start
from tests.journal_agents import counted


@pytest.mark.parametrize("answer", ["y", "n"])
@pytest.mark.parametrize("how", ["sync", "async", "hook", "below"])
async def test_a_swallowed_question_is_asked_all_the_same(how: str, answer: str, start_world: Start) -> None:
    async with start_world() as world:
        run = await world.start("swallows", "go", options={"how": how})
        await run.reaches("waiting", approvals=1)
        effects = counted(world.workspace, run.id)
        assert effects["pay start"] == 0
        if how != "hook":
            assert effects["pay swallowed"] == 0
        await run.handle.signal("respond", {"approval": 1, "response": answer})
        await run.result()
        assert counted(world.workspace, run.id)["pay start"] == (answer == "y")


async def test_what_swallows_everything_is_told_in_the_record(start_world: Start) -> None:
    async with start_world() as world:
        run = await world.start("swallows", "go", options={"how": "everything"})
        result = await run.result()
        [ran] = result.turn_notes[0].work.ran
        assert ran.why == "It asked 'approve' and went on without an answer."
