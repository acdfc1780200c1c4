"""The benchmark still runs and finds something; nothing is said about how fast anything is."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import math
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from abeyance.settings import Settings
from bench.__main__ import MEASUREMENTS
from bench.contestants import ABEYANCE, AGENTS, contest
from bench.harness import Bench, Goal, in_turns, percentile, ratios
from bench.listing import PAIRS
from tests.support import ROOT

pytestmark = pytest.mark.processes


@pytest.mark.parametrize("name", MEASUREMENTS)
async def test_a_quick_run_fills_every_row(name: str, tmp_path: Path) -> None:
    """Each measurement writes what it found without the competitor: whole spreads of finite numbers, and its goals."""
    out = tmp_path / "new"
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bench", "--quick", "--alone", "--only", name, "--out", out),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    said, _ = await process.communicate()
    assert process.returncode == 0, said.decode()
    found = json.loads((out / f"{name}.json").read_text())
    facts = ("cpu", "cores", "memory_gib", "python", "temporalio", "strands-agents", "temporal CLI")
    assert all(found["machine"][fact] for fact in facts)
    assert found["machine"]["load_average_at_start"] >= 0
    spreads = list(all_spreads(found))
    assert spreads or name in ("history", "memory")
    for spread in spreads:
        assert all(math.isfinite(value) for value in spread.values())
        assert spread["min"] <= spread["median"] <= spread["max"]
    assert all(goal["verdict"] for goal in found["goals"])
    ROWS[name](found)


def crowds(found: dict[str, Any]) -> None:
    assert all(row["runs_per_second"][ABEYANCE]["min"] > 0 for row in found["crowds"])
    assert all(row["server_cpu_seconds_per_run"][ABEYANCE]["max"] > 0 for row in found["crowds"])


def waiting(found: dict[str, Any]) -> None:
    assert [row["waiting"] for row in found["idle"]] == [10, 200]
    assert all(row["worker_mb"] > 0 for row in found["idle"])
    assert found["signal_to_done"]["p99"]["ratio"]["min"] > 0
    assert [(row["of"], row["to"]) for row in found["listing"]["ratios"]] == list(PAIRS)
    assert found["listing"]["calls_to_list"] == 1


def blocked(found: dict[str, Any]) -> None:
    assert [row["kind"] for row in found["rows"]] == ["sleep", "spin"]
    assert all(row["attempts"] >= 1 and row["short_runs_beside"] >= 1 for row in found["rows"])


def keeps(key: str, of: str, *values: Any) -> Any:
    def check(found: dict[str, Any]) -> None:
        assert [row[of] for row in found[key]] == list(values)

    return check


ROWS = {
    "latency": keeps("runs", "calls", 1, 4, 1, 4),
    "throughput": crowds,
    "history": keeps("runs", "calls", 1, 4, 16),
    "growth": keeps("rows", "messages", 10, 100),
    "waiting": waiting,
    "recovery": keeps("rows", "believed_seconds", 1.0),
    "startup": lambda found: found["above_list"],
    "memory": keeps("rows", "turns", 100, 200, 300),
    "blocking": blocked,
    "journal": lambda found: found["costs"][7],
}


def all_spreads(found: Any) -> Iterator[dict[str, float]]:
    """Every median with its least and greatest value, however deep it stands."""
    values = found.values() if isinstance(found, dict) else found if isinstance(found, list) else ()
    if isinstance(found, dict) and set(found) == {"median", "min", "max"}:
        yield found
    for value in values:
        yield from all_spreads(value)


async def test_our_worker_is_measured_as_it_is_by_default(tmp_path: Path) -> None:
    """The program is `worker.py`, and its settings are the defaults, but for task queue, agents and address."""
    async with contest(Bench(quick=True, alone=True, directory=tmp_path), (ABEYANCE,)) as contestants:
        contestant = contestants[ABEYANCE]
        process = Path("/proc") / str(contestant.workers[0].pid)
        command = (process / "cmdline").read_bytes().decode().strip("\0").split("\0")
        pairs = (process / "environ").read_bytes().decode().strip("\0").split("\0")
        environment = {name: value for name, _, value in (pair.partition("=") for pair in pairs)}
    assert command == [sys.executable, str(ROOT / "worker.py")]
    given = Settings.from_env(environment)
    assert given == dataclasses.replace(Settings(), task_queue=contestant.queue, agents=(AGENTS,))
    assert {name for name in environment if name.startswith("TEMPORAL_")} == {"TEMPORAL_ADDRESS"}


async def test_ways_take_turns() -> None:
    """Every repetition goes every way, and each begins with another one."""
    gone: list[str] = []

    async def go(name: str) -> int:
        gone.append(name)
        return len(gone)

    found = await in_turns({"a": lambda: go("a"), "b": lambda: go("b")}, 3, lambda _: None)
    assert gone == ["a", "b", "b", "a", "a", "b"]
    assert found == {"a": [1, 4, 5], "b": [2, 3, 6]}


def test_numbers_are_put_together_within_each_repetition() -> None:
    """A ratio is taken of two values of one repetition; a percentile is one of the values."""
    assert ratios([2, 9, 4], [1, 3, 4]) == {"median": 2, "min": 1, "max": 3}
    assert [percentile(range(1, 101), percent) for percent in (50, 99, 100)] == [50, 99, 100]
    assert percentile([7], 99) == 7


@pytest.mark.parametrize(
    ("goal", "verdict"),
    [
        (Goal("x", 1.0, 1.0), "met"),
        (Goal("x", 3.0, 1.5), "missed by 2.00x"),
        (Goal("x", 3.0, 3.0, "at least"), "met"),
        (Goal("x", 2.0, 3.0, "at least"), "missed by 1.50x"),
        (Goal("x", None, 3.0), "not measured"),
    ],
)
def test_a_goal_says_whether_it_is_met(goal: Goal, verdict: str) -> None:
    """Met, missed by how much, or not measured."""
    assert goal.verdict == verdict
    assert goal.to_json()["verdict"] == verdict


def test_an_unknown_measurement_is_named() -> None:
    """What is not known is said, with what is."""
    done = subprocess.run(
        [sys.executable, "-m", "bench", "--only", "latency,speed"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert "no measurement 'speed'" in done.stderr and "latency" in done.stderr
