"""Arguments that are not JSON, and values that are nested too deep: refused with words before they do harm."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from abeyance.nesting import MOST_NESTED, is_deeper
from tests.conftest import Start
from tests.input_agents import nested
from tests.journal_agents import counted
from tests.support import World, tool_results

NOT_JSON = ['{"amount": 5', "amount=5", '{"amount": NaN}', "[1]", '"5"', "null", '{"amount": 5}}']
TOO_DEEP = [MOST_NESTED + 1, 600, 2_000]


@pytest.fixture
async def place(start_world: Start) -> AsyncIterator[World]:
    async with start_world() as world:
        yield world


async def test_what_is_not_json_is_never_run_and_never_asked_about(place: World) -> None:
    """Not with the tool's defaults, not beside others, not in a sub-agent: the model is told what was wrong."""

    async def check(options: dict[str, Any], words: str) -> None:
        run = await place.start("writes", "go", options=options)
        result = await run.result()
        assert not result.decisions
        assert not [one for one in counted(place.workspace, run.id) if one.startswith("pay")], options
        if options.get("below"):
            assert counted(place.workspace, run.id)["model 1"] == 2
            return
        told = await tool_results(place.client, run)
        assert len(told) == 1 + bool(options.get("beside"))
        for one in told:
            assert one["status"] == "error"
            assert words in one["content"][0]["text"], options

    asked: dict[str, Any] = {"ask": "call"}
    cases: list[tuple[dict[str, Any], str]] = [({"written": written}, "JSON") for written in NOT_JSON]
    cases += [({"levels": levels}, f"deeper than {MOST_NESTED}") for levels in TOO_DEEP]
    await asyncio.gather(*(check(asked | options, words) for options, words in cases))
    ways: list[dict[str, Any]] = [{}, {"ask": "batch"}, asked | {"beside": True}, {"below": True}]
    await asyncio.gather(*(check(way | options, words) for way in ways for options, words in cases[:1] + cases[-1:]))


async def test_what_is_json_passes_as_it_is(place: World) -> None:
    async def check(options: dict[str, Any], effect: str) -> None:
        run = await place.start("writes", "go", options=options)
        if "ask" in options:
            await run.reaches("waiting", approvals=1)
            await run.handle.signal("approve")
        await run.result()
        assert counted(place.workspace, run.id)[effect] == 1, options

    ways: list[dict[str, Any]] = [{}, {"ask": "call"}]
    for ask in ways:
        await check({"written": '{"amount": 5, "note": {"a": [1, "ü"]}}'} | ask, "pay 5")
        await check({"written": " "} | ask, "pay 10")
        await check({"levels": MOST_NESTED} | ask, "pay 10")


@pytest.mark.parametrize("where", ["result", "state", "reason"])
async def test_what_is_nested_too_deep_is_refused_with_words(where: str, place: World) -> None:
    for levels in TOO_DEEP[:2]:
        run = await place.start("gives-nested", "go", options={"where": where, "levels": levels})
        await run.result()
        [told] = await tool_results(place.client, run)
        assert told["status"] == "error"
        assert f"nested deeper than {MOST_NESTED} levels" in told["content"][0]["text"]
        assert counted(place.workspace, run.id)[f"give {where}"] == 1


async def test_an_answer_or_a_request_that_is_nested_too_deep_is_refused(place: World) -> None:
    run = await place.start("writes", "go", options={"written": "{}", "ask": "call"})
    await run.reaches("waiting", approvals=1)
    for count, levels in enumerate((150, 600, 900), 1):
        await run.handle.signal("respond", {"approval": 1, "response": nested(levels)})
        status = await run.refuses(count)
        assert f"nested deeper than {MOST_NESTED}" in str(status.refused[-1])
    await run.handle.signal("approve", 1)
    await run.result()


def test_how_deep() -> None:
    assert not is_deeper(nested(MOST_NESTED))
    assert is_deeper(nested(MOST_NESTED + 1))
    assert is_deeper([[nested(MOST_NESTED - 1)]])
    assert is_deeper(nested(100_000))
