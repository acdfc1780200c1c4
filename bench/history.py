"""How much of a run is in its history: events and bytes, by the number of its tool calls."""

from __future__ import annotations

from typing import Any

from temporalio.client import WorkflowHandle

from bench.contestants import ABEYANCE, COMPETITOR, FLOOR, contest
from bench.harness import Bench, Found, Goal, Table
from bench.script import Script
from bench.servers import unique

CALLS = (1, 4, 16, 64)
EVENTS = 17
BYTES_TO_COMPETITOR = 0.10


async def measure(bench: Bench) -> Found:
    """Run everybody once for each number of calls; a history is the same every time."""
    rows = []
    async with contest(bench) as contestants:
        for calls in (1, 4, 16) if bench.quick else CALLS:
            row: dict[str, Any] = {"calls": calls, "events": {}, "bytes": {}}
            for name, contestant in contestants.items():
                bench.say(f"history, {calls} calls, {name}")
                script = Script(unique(name), calls, asks=[calls // 2])
                await contestant.run(script)
                handle = contestant.server.client.get_workflow_handle(script.run)
                row["events"][name], row["bytes"][name] = await size_of(handle)
            rows.append(row)
    return Found({"runs": rows}, [_table(rows)], _goals(rows))


async def size_of(handle: WorkflowHandle[Any, Any]) -> tuple[int, int]:
    """How many events the run's history has, and how many bytes they have on the wire."""
    history = await handle.fetch_history()
    return len(history.events), sum(event.ByteSize() for event in history.events)


def _table(rows: list[dict[str, Any]]) -> Table:
    names = (FLOOR, ABEYANCE, COMPETITOR)
    columns = ["calls", *(f"{name}, events" for name in names), *(f"{name}, bytes" for name in names)]
    columns.append("abeyance / competitor, bytes")
    cells = []
    for row in rows:
        numbers = [f"{row[of].get(name, 0):,}" for of in ("events", "bytes") for name in names]
        ratio = _ratio(row)
        cells.append([str(row["calls"]), *numbers, "-" if ratio is None else f"{ratio:.3f}"])
    return Table("The history of a run with one approval", columns, cells)


def _goals(rows: list[dict[str, Any]]) -> list[Goal]:
    events = [row["events"][ABEYANCE] for row in rows]
    sixteen = next(row for row in rows if row["calls"] == 16)
    return [
        Goal("history events more for the most tool calls than for one", max(events) - min(events), 0),
        Goal("history events, one approval", max(events), EVENTS),
        Goal("history bytes to competitor's, 16 tool calls", _ratio(sixteen), BYTES_TO_COMPETITOR),
    ]


def _ratio(row: dict[str, Any]) -> float | None:
    there = row["bytes"]
    return there[ABEYANCE] / there[COMPETITOR] if COMPETITOR in there else None
