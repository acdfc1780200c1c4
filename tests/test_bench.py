"""The benchmark still runs and finds something; nothing is said about how fast anything is."""

from __future__ import annotations

import asyncio
import json
import math
import subprocess
import sys
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from bench.agents import SHAPES
from bench.inbox import PAIRS
from bench.journal import KINDS, VARIANTS
from tests.support import ROOT

pytestmark = pytest.mark.processes


async def test_the_quick_run_fills_every_row(tmp_path: Path) -> None:
    """`python -m bench --quick` writes every row; what was measured is positive."""
    out = tmp_path / "new" / "journal.json"
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "bench",
        "--quick",
        "--out",
        out,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    said, _ = await process.communicate()
    assert process.returncode == 0, said.decode()
    assert "kill -9" in said.decode()
    found = json.loads(out.read_text())
    assert all(
        found["machine"][name] for name in ("cpu", "cpus", "python", "temporalio", "strands-agents", "temporal CLI")
    )
    runs, costs, kills = found["journal"]["runs"], found["journal"]["costs"], found["recovery"]
    assert [(row["kind"], row["shape"], row["calls"]) for row in runs] == list(product(KINDS, SHAPES, (1, 8)))
    for row in runs:
        for name in VARIANTS:
            positive(row["invocation_ms"][name])
            positive(row["run_ms"][name])
    assert {row["kind"] for row in costs} == set(KINDS)
    assert len({(row["kind"], row["unit"]) for row in costs}) == 8
    for row in costs:
        # Slopes and differences of so short a run may come out negative on a busy machine.
        numbers = [row["journal_ms"], row["ratio_to_no_writes"], row["ratio_to_bare"], *row["ms"].values()]
        assert all(math.isfinite(value) for number in numbers for value in number.values())
    assert [row["heartbeat_timeout_s"] for row in kills] == [1.0]
    for row in kills:
        positive(row["seconds"])
        positive(row["multiple_of_timeout"])


async def test_the_inbox_is_measured(tmp_path: Path) -> None:
    """`python -m bench.inbox --quick` lists all that waits in every way, in one call, and says how they compare."""
    out = tmp_path / "inbox.json"
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bench.inbox", "--quick", "--out", out),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    said, _ = await process.communicate()
    assert process.returncode == 0, said.decode()
    assert "10 runs wait: all of them listed in 1 call" in said.decode()
    found = json.loads(out.read_text())
    assert (found["runs"], found["calls_to_list"]) == (10, 1)
    assert [(row["of"], row["to"]) for row in found["ratios"]] == list(PAIRS)
    for row in found["ratios"]:
        positive(row["ratio"])
        positive(found["seconds"][row["of"]])


def positive(spread: dict[str, Any]) -> None:
    """The least, the median and the greatest are there, in this order, and above 0."""
    assert 0 < spread["min"] <= spread["median"] <= spread["max"]
