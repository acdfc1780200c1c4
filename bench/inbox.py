"""`python -m bench.inbox`: how long the inbox takes when thousands of runs wait, beside `temporal workflow list`."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

from rich.console import Console
from rich.table import Table
from temporalio.client import Client
from temporalio.testing import WorkflowEnvironment

from abeyance.attributes import register
from abeyance.contracts import RunRequest
from abeyance.devserver import temporal_binary
from abeyance.registry import load_agents
from abeyance.runs import OPEN_RUNS, Runs
from abeyance.settings import Settings
from bench.__main__ import machine
from bench.journal import spread
from tests.processes import address_of, environment
from tests.support import ROOT, until
from worker import build_worker

RESULTS = Path(__file__).resolve().parent / "results" / "inbox.json"
WAITING = f"{OPEN_RUNS} AND AbeyanceOpen > 0"
STARTS_AT_ONCE = 20
PATIENCE = 900.0

PENDING, LIST = "starter.py pending", "temporal workflow list"
WAITING_RUNS, BARE_LIST = "Runs.waiting", "Client.list_workflows"
PAIRS = ((PENDING, LIST), (f"{PENDING} --json", f"{LIST} -o json"), (WAITING_RUNS, BARE_LIST))
"""What is measured, each beside what the server itself needs for the same runs; the last pair without a program."""


@dataclass(frozen=True)
class Plan:
    """How many runs wait, and how often everything is repeated."""

    runs: int = 2_000
    repetitions: int = 10


async def run(plan: Plan, say: Callable[[str], None]) -> dict[str, Any]:
    """Measure on a server of our own, in memory; gives everything that was found, as JSON."""
    load = os.getloadavg()[0]
    server = await WorkflowEnvironment.start_local(
        dev_server_existing_path=temporal_binary(), dev_server_log_level="never"
    )
    async with server:
        await register(server.client)
        with tempfile.TemporaryDirectory() as directory:
            await _fill(server.client, Path(directory), plan.runs, say)
        found = await _measure(server.client, plan, say)
    return {"machine": machine() | {"load_before": round(load, 2)}, "runs": plan.runs} | found


async def _fill(client: Client, workspace: Path, count: int, say: Callable[[str], None]) -> None:
    """Have so many runs wait for a person. The worker is gone again when they do."""
    settings = Settings(task_queue=f"bench-{uuid.uuid4().hex[:8]}", workspace=workspace, heartbeat_timeout=60)
    runs, gate = Runs(client, settings.task_queue), asyncio.Semaphore(STARTS_AT_ONCE)

    async def start(number: int) -> None:
        prompt = f"Delete reports/2026-{number:04}/january.txt and reports/2026-{number:04}/february.txt"
        async with gate:
            await runs.start(RunRequest.parse({"agent": "file-manager", "prompt": prompt}))

    async def all_wait() -> bool:
        waiting = (await client.count_workflows(WAITING)).count
        say(f"{waiting} of {count} runs wait")
        return waiting == count

    async with build_worker(client, settings, load_agents(["agents"])):
        await asyncio.gather(*(start(number) for number in range(count)))
        await until(all_wait, what=f"{count} runs to wait", patience=PATIENCE)


async def _measure(client: Client, plan: Plan, say: Callable[[str], None]) -> dict[str, Any]:
    """Measure every way once per repetition, one right after the other, each time beginning with another one."""
    ways = _ways(client, plan.runs)
    samples: dict[str, list[float]] = {name: [] for name in ways}
    names = list(ways)
    for repetition in range(plan.repetitions):
        say(f"repetition {repetition + 1} of {plan.repetitions}")
        first = repetition % len(names)
        for name in names[first:] + names[:first]:
            begin = time.perf_counter()
            await ways[name]()
            samples[name].append(time.perf_counter() - begin)
    return {
        "repetitions": plan.repetitions,
        "calls_to_list": await _calls(client),
        "seconds": {name: spread(taken) for name, taken in samples.items()},
        "ratios": [
            {"of": ours, "to": theirs, "ratio": spread([a / b for a, b in zip(samples[ours], samples[theirs])])}  # noqa: B905
            for ours, theirs in PAIRS
        ],
    }


def _ways(client: Client, count: int) -> Mapping[str, Callable[[], Awaitable[None]]]:
    """Each way of listing all that waits; it fails if it lists anything less."""
    starter, temporal = [sys.executable, "starter.py", "pending"], [temporal_binary(), "workflow", "list"]
    temporal += ["--address", address_of(client), "--query", WAITING]

    async def lines(command: list[str]) -> None:
        printed = await _printed(client, command)
        assert printed.count("\n") >= count, f"{command} printed only: {printed[:500]}"

    async def items(command: list[str]) -> None:
        assert len(json.loads(await _printed(client, command))) == count

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


async def _printed(client: Client, command: list[str]) -> str:
    done = await asyncio.to_thread(
        subprocess.run, command, cwd=ROOT, env=environment(address_of(client)), capture_output=True, check=True
    )
    return str(done.stdout.decode())


async def _calls(client: Client) -> int:
    """How many calls to the server it takes to list what waits."""
    service = client.workflow_service
    with mock.patch.object(service, "list_workflow_executions", wraps=service.list_workflow_executions) as calls:
        await Runs(client, "any").waiting()
    return calls.call_count


def show(found: dict[str, Any], console: Console) -> None:
    """Print the table: ratios last, since only they mean something on another machine."""
    facts = ", ".join(f"{name} {value}" for name, value in found["machine"].items())
    console.print(f"{facts}; median of {found['repetitions']} repetitions, least and greatest in brackets\n")
    table = Table(title=f"{found['runs']} runs wait: all of them listed in {found['calls_to_list']} calls")
    for name in ("", "s", "beside", "s", "ratio"):
        table.add_column(name, justify="right" if name in ("s", "ratio") else "left")
    for row in found["ratios"]:
        ours, theirs = (found["seconds"][row[name]] for name in ("of", "to"))
        ratio = row["ratio"]
        table.add_row(
            row["of"],
            f"{ours['median']:.2f}",
            row["to"],
            f"{theirs['median']:.2f}",
            f"{ratio['median']:.2f}x ({ratio['min']:.2f}-{ratio['max']:.2f})",
        )
    console.print(table)


def main() -> int:
    """Run the benchmark as a program; returns its exit status."""
    parser = argparse.ArgumentParser(prog="python -m bench.inbox", description=__doc__)
    parser.add_argument("--runs", type=int, default=Plan.runs, help="how many runs wait")
    parser.add_argument("--quick", action="store_true", help="a smoke run with few of them; its numbers mean little")
    parser.add_argument("--out", type=Path, default=RESULTS, help="where the JSON goes")
    options = parser.parse_args()
    console = Console(width=None if sys.stdout.isatty() else 140)
    plan = Plan(runs=10, repetitions=2) if options.quick else Plan(runs=options.runs)
    with console.status("starting runs") as status:
        found = asyncio.run(run(plan, status.update))
    show(found, console)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(found, indent=2) + "\n")
    console.print(f"\nWritten to {options.out}.", soft_wrap=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
