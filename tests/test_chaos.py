"""Workers killed with SIGKILL, everywhere: what was acknowledged is never done again, what was approved is done."""

from __future__ import annotations

from pathlib import Path

import pytest
from temporalio.client import Client

from tests.chaos.faults import FAULTS as ALL
from tests.chaos.scenarios import every_point, under_fire

LEFT_OUT = ("exits", "endings", "poison", "mixed", "resets")
"""Thrown by `make chaos` alone."""
FAULTS = tuple(fault for fault in ALL if fault not in LEFT_OUT)


@pytest.mark.timeout(900)
async def test_killed_at_every_point(client: Client, tmp_path: Path) -> None:
    """At each occurrence of each point of the journal, of a model call and of a tool, the worker dies once."""
    counts = await every_point(client, tmp_path)
    for point, counted in counts.items():
        print(f"{point}: {counted}")
        assert counted.violations == 0, counted.notes
    # The script has five model calls and nine tool calls; each point must really have been reached.
    assert counts["model answered"].kills >= 5
    assert counts["tool running"].kills >= 9
    # How many writes there are depends on how many marks share one, and on a busy machine more do. Each once-only call
    # (there are four) has one of its own before it starts, which nothing that comes later can share.
    assert counts["about to write"].kills >= 4
    assert counts["written"].kills >= 4
    assert sum(counted.doubts for counted in counts.values()) > 0


@pytest.mark.timeout(1_800)
async def test_killed_at_random(client: Client, tmp_path: Path) -> None:
    """Workers of three queues are killed again and again under runs with other faults.

    `make chaos` kills a thousand, with all faults.
    """
    counted = await under_fire(client, tmp_path, kills=60, faults=FAULTS, crews=3, at_once=8)
    print(counted.table())
    assert counted.violations == 0, counted.notes
    assert counted.kills >= 60
    assert counted.replayed > 0
