"""How long a run takes with K tool calls and one approval that is answered at once, beside everybody else."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from itertools import product
from typing import Any

from bench.contestants import ABEYANCE, BARE, COMPETITOR, FLOOR, Bare, Contestant, contest, warm_up
from bench.harness import Bench, Found, Goal, Table, in_turns, median_of, ratios, spread, told
from bench.script import Script
from bench.servers import unique

CALLS = (1, 4, 16, 64)
DELAYS = (0.0, 0.2)
REPETITIONS = 5
WARM_UPS = 10
SERVERS = {False: "as it is", True: "unhurried"}
"""What a server is called that is, or is not, `bench.servers.UNHURRIED`."""
TO_COMPETITOR = {1: 0.50, 4: 0.25, 16: 0.15, 64: 0.12}
TO_FLOOR = {1: 1.05, 16: 1.4}


async def measure(bench: Bench) -> Found:
    """Run everybody in turns, on either server; gives milliseconds, and ratios within each repetition."""
    calls, delays = ((1, 4), (0.0,)) if bench.quick else (CALLS, DELAYS)
    rows = []
    for unhurried in (False, True):
        async with contest(bench, unhurried=unhurried) as contestants:
            everybody: dict[str, Contestant] = {BARE: Bare(), **contestants}
            # A dev server is quick at first, until it has used up what its limit lets pass at once.
            for _ in range(2 if bench.quick else WARM_UPS):
                await warm_up(everybody, script(1, 0))
            # A model that takes its time is measured once: it takes as long on either server.
            for delay, count in product(delays if unhurried else delays[:1], calls):
                bench.say(f"latency, {count} calls, {delay:g} s per model call")
                repetitions = 2 if bench.quick else REPETITIONS
                ways = {name: timed(one, script(count, delay)) for name, one in everybody.items()}
                found = await in_turns(ways, repetitions, bench.say)
                rows.append(_row(count, delay, found) | {"server": SERVERS[unhurried]})
    return Found({"runs": rows}, [_table(rows, of) for of in SERVERS.values()], _goals(rows))


def script(calls: int, delay: float) -> Script:
    """One approval, in the middle of the run."""
    return Script("", calls, delay, asks=[calls // 2])


def timed(contestant: Contestant, what: Script) -> Callable[[], Awaitable[float]]:
    """Runs `what` under a new name and gives the milliseconds that it took."""

    async def go() -> float:
        once = Script(unique("run"), what.calls, what.delay, what.asks)
        begin = time.perf_counter()
        await contestant.run(once)
        return (time.perf_counter() - begin) * 1_000

    return go


def _row(calls: int, delay: float, ms: dict[str, list[float]]) -> dict[str, Any]:
    # What the floor does with no agent, and what the agent takes with no Temporal.
    ms[FLOOR] = [a + b for a, b in zip(ms[FLOOR], ms[BARE], strict=True)]
    return {
        "calls": calls,
        "model_seconds": delay,
        "repetitions": len(ms[BARE]),
        "ms": {name: spread(values) for name, values in ms.items()},
        "ratios": {name: ratios(ms[ABEYANCE], values) for name, values in ms.items() if name != ABEYANCE},
    }


def _table(rows: list[dict[str, Any]], server: str) -> Table:
    names = (BARE, FLOOR, ABEYANCE, COMPETITOR)
    columns = ["calls", "model", *(f"{name}, ms" for name in names)]
    columns += [f"abeyance / {name}" for name in (COMPETITOR, FLOOR, BARE)]
    cells = []
    for row in (row for row in rows if row["server"] == server):
        times = [told(row["ms"].get(name), digits=0) for name in names]
        times += [told(row["ratios"].get(name)) for name in (COMPETITOR, FLOOR, BARE)]
        cells.append([str(row["calls"]), f"{row['model_seconds'] * 1000:g} ms", *times])
    return Table(f"A run with so many tool calls and one approval, answered at once; server: {server}", columns, cells)


def _goals(rows: list[dict[str, Any]]) -> list[Goal]:
    goals = []
    for other, limits in ((COMPETITOR, TO_COMPETITOR), (FLOOR, TO_FLOOR)):
        for row in rows:
            if row["model_seconds"] == 0 and row["calls"] in limits:
                what = f"time to {other}'s, {row['calls']} tool calls, server: {row['server']}"
                goals.append(Goal(what, median_of(row["ratios"].get(other)), limits[row["calls"]]))
    return goals
