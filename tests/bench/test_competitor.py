"""What needs the benchmark's own environments: the competitor beside us, and the plots. `make test-bench-all`."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import pytest

from bench.contestants import COMPETITOR
from bench.machine import machine
from tests.support import ROOT

pytestmark = pytest.mark.processes


@pytest.mark.parametrize("name", ["latency", "throughput", "history", "recovery", "startup"])
async def test_the_competitor_is_measured_beside_us(name: str, tmp_path: Path) -> None:
    """Every measurement that it takes part in names it, and draws its plots if it has some."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bench", "--quick", "--only", name, "--out", tmp_path),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    said, _ = await process.communicate()
    assert process.returncode == 0, said.decode()
    found = (tmp_path / f"{name}.json").read_text()
    assert COMPETITOR in found
    assert all(goal["verdict"] != "not measured" for goal in json.loads(found)["goals"])
    if name in ("latency", "history"):
        assert {path.name for path in tmp_path.iterdir()} >= {f"{name}.png", f"bench-{name}.svg"}


def test_both_run_the_same_strands_and_the_same_temporal_sdk() -> None:
    """Its environment differs from ours by what it asks for, and not by these."""
    facts = machine()
    assert {name: facts["competitor"][name] for name in ("strands-agents", "temporalio")} == {
        name: facts[name] for name in ("strands-agents", "temporalio")
    }
    assert facts["competitor"]["temporalio-strands-agents"]
