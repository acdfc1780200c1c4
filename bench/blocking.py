"""Tools that block their thread, twenty turns at once: whether other runs on the same worker go on beside them."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from temporalio.api.enums.v1 import EventType

from bench.contestants import ABEYANCE, OnTemporal, contest, warm_up
from bench.harness import Bench, Found, Goal, Table, percentile, ratios, rounded, spread, told
from bench.script import Script
from bench.servers import unique

BLOCKED = 20
SECONDS = 25.0
"""Longer than the heartbeat timeout of a worker as it is by default."""
REPETITIONS = 3


async def measure(bench: Bench) -> Found:
    """Time short runs alone and beside the blocked ones; tells how often an activity was attempted at most."""
    seconds = 3.0 if bench.quick else SECONDS
    rows = []
    async with contest(bench, (ABEYANCE,)) as contestants:
        contestant = contestants[ABEYANCE]
        await warm_up(contestants, Script("", 1))
        for kind in ("sleep", "spin"):
            samples = []
            for repetition in range(1 if bench.quick else REPETITIONS):
                bench.say(f"blocking, {kind}, repetition {repetition + 1}")
                samples.append(await _sample(contestant, kind, seconds))
            rows.append(_row(kind, seconds, samples))
    return Found({"rows": rows}, [_table(rows)], _goals(rows))


async def _sample(contestant: OnTemporal, kind: str, seconds: float) -> dict[str, Any]:
    alone = [await _short(contestant) for _ in range(10)]
    blocked = [Script(unique("blocked"), 1, acts={"0": f"{kind} {seconds:g}"}) for _ in range(BLOCKED)]
    begin = time.perf_counter()
    handles = [await contestant.start(script) for script in blocked]
    await asyncio.sleep(min(1.0, seconds / 3))
    beside = []
    while time.perf_counter() - begin < seconds * 0.8:
        beside.append(await _short(contestant))
    await asyncio.gather(*(handle.result() for handle in handles))
    whole = time.perf_counter() - begin
    attempts = [await _attempts(contestant, script.run) for script in blocked]
    return {"alone": alone, "beside": beside, "attempts": max(attempts), "seconds": whole}


async def _short(contestant: OnTemporal) -> float:
    begin = time.perf_counter()
    await contestant.run(Script(unique("short"), 1))
    return time.perf_counter() - begin


async def _attempts(contestant: OnTemporal, run: str) -> int:
    history = await contestant.server.client.get_workflow_handle(run).fetch_history()
    started = [e for e in history.events if e.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_STARTED]
    return max(event.activity_task_started_event_attributes.attempt for event in started)


def _row(kind: str, seconds: float, samples: list[dict[str, Any]]) -> dict[str, Any]:
    alone, beside = ([percentile(s[name], 50) * 1000 for s in samples] for name in ("alone", "beside"))
    return {
        "kind": kind,
        "blocked_turns": BLOCKED,
        "seconds": seconds,
        "repetitions": len(samples),
        "short_run_alone_ms": spread(alone),
        "short_run_beside_ms": spread(beside),
        "short_runs_beside": sum(len(sample["beside"]) for sample in samples),
        "ratio": ratios(beside, alone),
        "slowest_beside_ms": rounded(max(max(sample["beside"]) for sample in samples) * 1000),
        "blocked_runs_seconds": spread([sample["seconds"] for sample in samples]),
        "attempts": max(sample["attempts"] for sample in samples),
    }


def _table(rows: list[dict[str, Any]]) -> Table:
    columns = ["tool", "short run alone, ms", "beside, ms", "ratio", "slowest, ms", "blocked runs, s", "attempts"]
    cells = [
        [
            f"{row['kind']} {row['seconds']:g} s",
            told(row["short_run_alone_ms"], digits=0),
            told(row["short_run_beside_ms"], digits=0),
            told(row["ratio"]),
            f"{row['slowest_beside_ms']:,.0f}",
            told(row["blocked_runs_seconds"], digits=1),
            str(row["attempts"]),
        ]
        for row in rows
    ]
    return Table(f"{BLOCKED} turns at once, each in a tool that blocks", columns, cells)


def _goals(rows: list[dict[str, Any]]) -> list[Goal]:
    return [Goal(f"attempts of {BLOCKED} turns that {row['kind']}", row["attempts"], 1) for row in rows]
