"""The inbox, as `starter.py pending` prints it."""

from __future__ import annotations

import asyncio
import json
import re
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from abeyance.cli._shared import duration, table
from abeyance.cli.inbox import items_of
from abeyance.settings import Settings
from abeyance.summaries import RunSummary
from tests import forks
from tests.conftest import Start
from tests.processes import address_of, environment, on_terminal
from tests.support import PATIENCE, ROOT, StartedRun, World, until


async def pending(world: World, *arguments: str) -> str:
    """What `starter.py pending` prints."""
    command = [sys.executable, "starter.py", "pending", *arguments]
    env = environment(address_of(world.client), world.settings)
    done = await asyncio.to_thread(forks.run, command, env, ROOT, PATIENCE)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


async def items(world: World, *arguments: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(await pending(world, *arguments, "--json"))
    return found


async def test_the_inbox_holds_what_waits_and_nothing_else(start_world: Start) -> None:
    """Several approvals of one run, one of another agent, a parked run; filtered by agent, name and age."""
    async with start_world() as world:
        mark = uuid4().hex[:8]
        two, one, parked, ended = (f"inbox-{mark}-{number}" for number in range(4))
        broken = f"no-such-agent-{mark}"
        files = await world.start("file-manager", "Delete a.txt; delete b.txt", run=two)
        careless = await world.start("careless", "go", run=one)
        await world.start(broken, "go", run=parked)
        done = await world.start("file-manager", "Delete c.txt", run=ended)
        await files.reaches("waiting", approvals=2)
        await careless.reaches("waiting")
        await done.reaches("waiting")
        await done.handle.signal("approve")
        await done.result()
        await StartedRun(world.client.get_workflow_handle(parked)).reaches("parked")

        def ours(found: list[dict[str, Any]]) -> list[tuple[str, int | None]]:
            return sorted((item["run"], item.get("number")) for item in found if mark in item["run"])

        async def all_there() -> bool:
            return ours(await items(world)) == [(two, 1), (two, 2), (one, 1), (parked, None)]

        await until(all_there, what="the inbox to hold all of them")
        found = await items(world)
        assert [item["since"] for item in found] == sorted(item["since"] for item in found)
        [held] = [item for item in found if item["run"] == parked]
        assert (held["agent"], held["state"]) == (broken, "parked")
        assert "Unknown agent" in held["problem"]
        [asked] = [item for item in found if item["run"] == one]
        assert asked.items() >= {"agent": "careless", "state": "waiting", "name": "careless", "tool": "touch"}.items()
        assert asked["reason"] == "say yes"
        assert asked["since"] == asked["asked_at"]

        assert ours(await items(world, "--agent", "careless")) == [(one, 1)]
        assert ours(await items(world, "--agent", broken)) == [(parked, None)]
        assert ours(await items(world, "--name", "approve-delete")) == [(two, 1), (two, 2)]
        assert ours(await items(world, "--name", "careless", "--agent", "file-manager")) == []
        assert ours(await items(world, "--older-than", "1h")) == []
        text = await pending(world)
        assert re.search(rf'{two} +file-manager +2\S* +approve-delete: delete_files {{"paths": \["b.txt"\]}}', text)
        assert "parked: Unknown agent" in text
        assert "retry RUN, or ends with: abort RUN" in text
        assert "Nothing of that kind" in await pending(world, "--name", "no such name")
        for run in (two, one, parked):
            await world.client.get_workflow_handle(run).terminate()


def test_the_oldest_comes_first() -> None:
    def at(hour: int) -> str:
        return f"2026-01-01T{hour:02}:00:00+00:00"

    runs = [
        RunSummary("late", "a", "waiting", at(1), [{"number": 1, "asked_at": at(7)}]),
        RunSummary("both", "a", "parked", at(1), [{"number": 2, "asked_at": at(8)}], "broken", at(3)),
        RunSummary("early", "a", "waiting", at(6), [{"number": 3, "asked_at": at(6)}]),
    ]
    assert [(item["run"], item["since"]) for item in items_of(runs)] == [
        ("both", at(3)),
        ("early", at(6)),
        ("late", at(7)),
        ("both", at(8)),
    ]


@pytest.mark.parametrize(
    ("typed", "seconds"), [("90s", 90), ("30min", 1_800), ("30m", 1_800), ("2h", 7_200), (" 3 d ", 259_200), ("0s", 0)]
)
def test_ages(typed: str, seconds: int) -> None:
    assert duration(typed) == timedelta(seconds=seconds)


@pytest.mark.parametrize("typed", ["", "h", "2", "-2h", "1.5h", "2 weeks", "2H", "99999999999d"])
def test_what_is_no_age_is_refused(typed: str) -> None:
    with pytest.raises(ValueError, match="an age is a number and s, min, h or d"):
        duration(typed)


def test_a_row_is_a_line_where_no_terminal_is(capsys: pytest.CaptureFixture[str]) -> None:
    table(("run", "what"), [("a\nb", "x" * 500), ("日本", "y")])
    head, rule, first, second = capsys.readouterr().out.splitlines()
    assert (head, first, second) == ("run   what", f"a b   {'x' * 500}", "日本  y")
    assert set(rule) == {"─", " "}


async def test_a_table_fits_its_terminal(tmp_path: Path, workspace: Path) -> None:
    command = [sys.executable, "starter.py", "agents"]
    env = environment("127.0.0.1:1", Settings(workspace=workspace)) | {"COLUMNS": "60"}
    with on_terminal(command, env, tmp_path / "terminal.log") as terminal:
        assert await terminal.ends() == 0
        lines = [line for line in terminal.output.splitlines() if not line.startswith("starter: ")]
    assert max(map(len, lines)) <= 60
    assert "Inspects and deletes files" in " ".join(" ".join(lines).split())
