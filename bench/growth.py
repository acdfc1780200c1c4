"""What a further turn costs in a conversation that is long already: time, and bytes of history.

Turns of many calls make the conversation as long as it is to be; from then on the agent asks before each call. So each
answer brings one more turn of the same size: a tool call, its result, and the model's next call, which asks again.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

from temporalio.api.enums.v1 import EventType

from bench.contestants import ABEYANCE, OnTemporal, contest
from bench.harness import Bench, Found, Goal, Table, in_turns, ratios, spread, told
from bench.script import Script
from bench.servers import unique

MESSAGES = (10, 100, 1_000, 2_000)
TURNS = 10
TO_SHORTEST = {"ms": 1.5, "bytes": 1.2}
PATIENCE = 600.0
AS_IT_IS, UNHURRIED = "server: as it is", "server: unhurried"
CALLS_PER_TURN = 50
"""While it grows. Strands calls itself for each model call, so no invocation can have many hundreds of them."""

Sample = tuple[float, int]
"""Milliseconds from an answer until the next one would be taken, and the bytes of history between the two."""


class Conversation:
    """One run that asks again and again.

    Args:
        contestant: runs it.
        messages: how many messages it has before it is measured.
        turns: how many turns follow, at most.
    """

    def __init__(self, contestant: OnTemporal, messages: int, turns: int):
        calls = messages // 2
        self._growing = range(CALLS_PER_TURN, calls, CALLS_PER_TURN)
        asks = [*self._growing, *range(calls, calls + turns)]
        self._script = Script(unique(f"of-{messages}"), calls + turns, asks=asks)
        self._contestant = contestant
        self._answered = 0

    async def begin(self) -> None:
        """Grow to its length; the first turn that it is asked for then is one like all that follow."""
        handle = await self._contestant.start(self._script)
        self._events = aiter(handle.fetch_history_events(wait_new_event=True))
        async with asyncio.timeout(PATIENCE):
            await self._asks()
            for _ in self._growing:
                await self.further_turn()
            # The first turn after the growth begins with events of the last growing one.
            await self.further_turn()

    async def further_turn(self) -> Sample:
        """Answer, and wait until the next answer would be taken."""
        begin = time.perf_counter()
        self._answered += 1
        await self._contestant.answer(self._script.run, self._answered)
        size = await self._asks()
        return (time.perf_counter() - begin) * 1_000, size

    async def _asks(self) -> int:
        """Wait until a workflow task has ended after an activity; gives the bytes of the events until then."""
        size, done = 0, False
        async for event in self._events:
            assert event.event_type != EventType.EVENT_TYPE_ACTIVITY_TASK_FAILED, event
            size += event.ByteSize()
            done = done or event.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_COMPLETED
            if done and event.event_type == EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED:
                return size
        raise AssertionError(f"{self._script.run} has ended")


async def measure(bench: Bench) -> Found:
    """Have conversations of all lengths go on in turns: as it is by default, and with other settings."""
    found = {
        AS_IT_IS: await _grown(bench, AS_IT_IS, unhurried=False),
        UNHURRIED: await _grown(bench, UNHURRIED),
        "unhurried, without compression": await _grown(bench, "without compression", ABEYANCE_COMPRESSION="off"),
        "unhurried, with a storage": await _grown(
            bench, "with a storage", ABEYANCE_STORAGE=str(bench.directory / "payloads")
        ),
    }
    tables = [_table(name, rows) for name, rows in found.items()]
    goals = [goal for name in (AS_IT_IS, UNHURRIED) for goal in _goals(name, found[name])]
    return Found({"rows": found[AS_IT_IS], "ways": found}, tables, goals)


async def _grown(bench: Bench, name: str, *, unhurried: bool = True, **settings: str) -> list[dict[str, Any]]:
    lengths, turns = ((10, 100), 3) if bench.quick else (MESSAGES, TURNS)
    async with contest(bench, (ABEYANCE,), unhurried=unhurried, settings=settings) as contestants:
        conversations = {
            str(messages): Conversation(contestants[ABEYANCE], messages, turns + 2) for messages in lengths
        }
        for messages, conversation in conversations.items():
            bench.say(f"{name}: a conversation of {messages} messages")
            await conversation.begin()
        ways = {messages: conversation.further_turn for messages, conversation in conversations.items()}
        return _rows(await in_turns(ways, turns, bench.say))


def _rows(found: dict[str, list[Sample]]) -> list[dict[str, Any]]:
    values = {
        messages: {"ms": [sample[0] for sample in samples], "bytes": [float(sample[1]) for sample in samples]}
        for messages, samples in found.items()
    }
    shortest = next(iter(values.values()))
    return [
        {
            "messages": int(messages),
            "repetitions": len(of["ms"]),
            **{name: spread(numbers) for name, numbers in of.items()},
            "ratios": {name: ratios(numbers, shortest[name]) for name, numbers in of.items()},
        }
        for messages, of in values.items()
    ]


def _table(name: str, rows: list[dict[str, Any]]) -> Table:
    shortest = rows[0]["messages"]
    columns = ["messages", "ms", f"to {shortest} messages", "bytes of history", f"to {shortest} messages"]
    cells = [
        [
            f"{row['messages']:,}",
            told(row["ms"], digits=0),
            told(row["ratios"]["ms"]),
            told(row["bytes"], digits=0),
            told(row["ratios"]["bytes"]),
        ]
        for row in rows
    ]
    return Table(
        f"One more turn of the same size, in a conversation of so many messages; {name}", columns, cells, left=0
    )


def _goals(way: str, rows: list[dict[str, Any]]) -> list[Goal]:
    first, last = rows[0]["messages"], rows[-1]["messages"]
    return [
        Goal(
            f"{name} of a further turn at {last:,} messages to {first}, {way}",
            rows[-1]["ratios"][name]["median"],
            limit,
        )
        for name, limit in TO_SHORTEST.items()
    ]
