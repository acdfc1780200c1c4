"""How long it takes to list all that waits for people, beside what the server itself needs for the same runs."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from unittest import mock

from temporalio.client import Client

from abeyance.devserver import temporal_binary
from abeyance.runs import OPEN_RUNS, Runs
from bench.harness import Goal, Table, in_turns, median_of, ratios, spread, told
from bench.servers import Server, plain_environment
from tests.support import ROOT

WAITING = f"{OPEN_RUNS} AND AbeyanceOpen > 0"

PENDING, LIST = "starter.py pending", "temporal workflow list"
WAITING_RUNS, BARE_LIST = "Runs.waiting", "Client.list_workflows"
PAIRS = ((PENDING, LIST), (f"{PENDING} --json", f"{LIST} -o json"), (WAITING_RUNS, BARE_LIST))
"""What is measured, each beside what the server itself needs; the last pair without a program."""

SECONDS = 2.0
TO_LIST = 2.0


async def listed(server: Server, count: int, repetitions: int, say: Callable[[str], None]) -> dict[str, Any]:
    """List `count` runs that wait in every way, in turns.

    Returns:
        JSON with the number of calls to the server, the seconds of each way, and the ratios of `PAIRS`.
    """
    ways = {name: _timed(way) for name, way in _ways(server, count).items()}
    samples = await in_turns(ways, repetitions, say)
    return {
        "runs": count,
        "repetitions": repetitions,
        "calls_to_list": await _calls(server.client),
        "seconds": {name: spread(taken) for name, taken in samples.items()},
        "ratios": [
            {"of": ours, "to": theirs, "ratio": ratios(samples[ours], samples[theirs])} for ours, theirs in PAIRS
        ],
    }


def table(found: dict[str, Any]) -> Table:
    """The same for people."""
    rows = []
    for row in found["ratios"]:
        of, to = row["of"], row["to"]
        seconds = [told(found["seconds"][name]) for name in (of, to)]
        rows.append([of, seconds[0], to, seconds[1], told(row["ratio"])])
    title = f"Listing {found['runs']:,} runs that wait, in {found['calls_to_list']} call(s) to the server"
    return Table(title, ["ours", "s", "theirs", "s", "ratio"], rows)


def goals(found: dict[str, Any]) -> list[Goal]:
    """What listing is to come to."""
    json_seconds = found["seconds"][f"{PENDING} --json"]
    return [
        Goal(f"seconds to list {found['runs']:,} waiting runs, {PENDING} --json", median_of(json_seconds), SECONDS),
        *(Goal(f"time of {row['of']} to {row['to']}", median_of(row["ratio"]), TO_LIST) for row in found["ratios"]),
    ]


def _timed(way: Callable[[], Awaitable[None]]) -> Callable[[], Awaitable[float]]:
    async def go() -> float:
        begin = time.perf_counter()
        await way()
        return time.perf_counter() - begin

    return go


def _ways(server: Server, count: int) -> Mapping[str, Callable[[], Awaitable[None]]]:
    """Each way of listing all that waits; it fails if it lists anything less."""
    client, starter = server.client, [sys.executable, "starter.py", "pending"]
    temporal = [temporal_binary(), "workflow", "list", "--address", server.address, "--query", WAITING]

    async def lines(command: list[str]) -> None:
        printed = await _printed(server, command)
        assert printed.count("\n") >= count, f"{command} printed only: {printed[:500]}"

    async def items(command: list[str]) -> None:
        assert len(json.loads(await _printed(server, command))) == count

    async def bare() -> None:
        assert len([execution async for execution in client.list_workflows(WAITING)]) == count

    async def waiting() -> None:
        assert len(await Runs(client, "any").waiting()) == count

    return {
        PENDING: lambda: lines(starter),
        LIST: lambda: lines(temporal),
        f"{PENDING} --json": lambda: items([*starter, "--json"]),
        f"{LIST} -o json": lambda: items([*temporal, "-o", "json"]),
        WAITING_RUNS: waiting,
        BARE_LIST: bare,
    }


async def _printed(server: Server, command: list[str]) -> str:
    environment = plain_environment(server.address)
    done = await asyncio.to_thread(subprocess.run, command, cwd=ROOT, env=environment, capture_output=True, check=True)
    return str(done.stdout.decode())


async def _calls(client: Client) -> int:
    """How many calls to the server it takes to list what waits."""
    service = client.workflow_service
    with mock.patch.object(service, "list_workflow_executions", wraps=service.list_workflow_executions) as calls:
        await Runs(client, "any").waiting()
    return calls.call_count
