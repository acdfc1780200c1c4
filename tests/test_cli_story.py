"""`show`: the story of a run, as it is printed and as JSON."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from uuid import uuid4

import pytest
from temporalio.client import Client

from abeyance.cli.story import tell
from abeyance.contracts import Approval, Decision, Prompt, Ran, RunStatus, TurnNote, Usage, Work
from abeyance.progress import Progress, RunningTool
from abeyance.settings import Settings
from tests.command_line import Cli
from tests.conftest import Start
from tests.processes import address_of, environment, on_terminal
from tests.support import until

WORKER, OTHER = "7@host", "8@host"


def at(clock: str, day: int = 2) -> str:
    return f"2026-01-{day:02}T{clock}+00:00"


def ran(tool: str, status: str = "success", number: int = 1, **more: object) -> Ran:
    given: dict[str, object] = {"worker": WORKER, "starts": 1, "input": f'{{"n": {number}}}'} | more
    return Ran(tool, f"use-{tool}-{number}", status, at("09:00:01"), **given)  # type: ignore[arg-type]


def status(**more: object) -> RunStatus:
    """A run that has asked twice, over two days, and has failed once in between."""
    turns = [
        TurnNote(
            1, 1, at("09:00:00"), [], at("09:00:03"), "interrupt", None, Usage(2, 10, 10, 600),
            Work(1, WORKER, None, [ran("look", number=n) for n in (1, 2, 3)] + [ran("save", "error")], 54),
        ),
        TurnNote(
            2, 5, at("09:03:00"), [1], at("09:03:02"), None, "AccessDenied: no", Usage(),
            Work(1, WORKER, None, [ran("pay", "in-doubt")], 1),
        ),
        TurnNote(
            2, 7, at("08:00:00", 3), [1], at("08:01:30", 3), "interrupt", None, Usage(1, 5, 5, 400),
            Work(3, OTHER, "attempt 2: throttled", [ran("pay", starts=2, worker=OTHER), ran("send", "denied")], 2),
        ),
    ]  # fmt: skip
    asked = [
        Approval(1, "id-1", "sure", {"why": "money"}, "pay", {"n": 1}, at("09:00:03"), order=2),
        Approval(2, "id-2", "really", "Shall I?", None, None, at("08:01:30", 3), order=8),
    ]
    decisions = [
        Decision("y", at("09:03:00"), "update decide", 1, "id-1", "sure", "ann", "fine", None, None, "pay", {}, 4),
        Decision("retry", at("08:00:00", 3), "signal retry", by="bob", order=6),
    ]
    refused = [Decision("maybe", at("09:01:00"), "signal respond", by="eve", refused="It is late.", order=3)]
    given: dict[str, object] = {
        "state": "waiting", "agent": "payer", "turn": 2, "approvals": asked[1:], "decisions": decisions,
        "refused": refused, "refused_count": 3, "usage": Usage(3, 15, 15, 1_000), "prompt": "Pay\nthem.",
        "started_at": at("09:00:00"), "closed": asked[:1], "turn_notes": turns,
    } | more  # fmt: skip
    return RunStatus(**given)  # type: ignore[arg-type]


def test_the_story_is_told_in_order(capsys: pytest.CaptureFixture[str]) -> None:
    """What happened in the same second is in the order in which it happened."""
    tell("run-1", status(), None)
    told = capsys.readouterr().out
    assert (
        told.split("  2. really, asked ")[0]
        == """\
run-1: payer is waiting, 2 turns, 1000 tokens
  2026-01-02, UTC
  09:00:00  started: Pay them.
  09:00:00  turn 1, 3 s, 600 tokens, on 7@host
            look, 3 calls: success
            save {"n": 1}: error
            and 50 calls more
  09:00:03  asked 1 (sure): pay {"n": 1}
  09:01:00  refused maybe by eve (signal respond): It is late.
  09:03:00  1 (pay) answered y by ann after 2 min (update decide): “fine”
  09:03:00  turn 2, 2 s, on 7@host
            pay {"n": 1}: in-doubt
            failed: AccessDenied: no
  2026-01-03, UTC
  08:00:00  retry by bob (signal retry)
  08:00:00  turn 2, 1 min, 400 tokens, attempt 3, on 8@host
            failed before: attempt 2: throttled
            pay {"n": 1}: success, started 2 times
            send {"n": 1}: denied, on 7@host
  08:01:30  asked 2 (really): Shall I?
  3 answers were refused in all; the latest 1 are told.
"""
    )
    assert "reason: Shall I?" in told
    assert "approve run-1 2" in told


def test_a_run_that_has_ended_says_how(capsys: pytest.CaptureFixture[str]) -> None:
    """With what nobody answered, and without what answers it."""
    ended = {"state": "cancelled", "ended_at": at("10:00:00", 4), "closed": status().closed + status().approvals}
    tell("run-1", status(approvals=[], message="Half done.", **ended), None)
    told = capsys.readouterr().out
    assert told.endswith(
        "  2026-01-04, UTC\n  10:00:00  cancelled; unanswered: 2\n"
        "  3 answers were refused in all; the latest 1 are told.\n  │ Half done.\n"
    )
    assert "reason" not in told


def test_a_run_that_listens_says_how_to_go_on(capsys: pytest.CaptureFixture[str]) -> None:
    """With what it has said last, and the prompts that were never taken up before the end of one that has ended."""
    tell("run-1", status(state="listening", approvals=[], message="All is paid."), None)
    *_, said, how = capsys.readouterr().out.splitlines()
    assert said == "  │ All is paid."
    assert "say run-1 PROMPT    # or let it end: finish" in how
    prompts = [Prompt("Pay more.", at("08:02:00", 3), "ann")]
    tell("run-1", status(state="cancelled", approvals=[], prompts=prompts, ended_at=at("08:03:00", 3)), None)
    told = capsys.readouterr().out
    assert told.index("said by ann: Pay more. (never taken up)") < told.index("08:03:00  cancelled")


def test_a_turn_at_work_says_what_it_does(capsys: pytest.CaptureFixture[str]) -> None:
    """A parked run's problem is told once."""
    progress = Progress("started", 4, OTHER, 2, "", [RunningTool("send", "use-9", at("09:00:00"), 1)], [ran("look")])
    turns = [*status().turn_notes, TurnNote(3, 9, at("09:00:00", 3), [2])]
    tell("run-1", status(state="running", approvals=[], turn=3, turn_notes=turns), progress)
    told = capsys.readouterr().out
    assert (
        '  09:00:00  turn 3\n            look {"n": 1}: success, on 7@host\n            now: attempt 4 started' in told
    )
    assert "send runs for" in told
    tell("run-1", status(state="parked", approvals=[], problem="AccessDenied: no", turn_notes=turns[:2]), None)
    told = capsys.readouterr().out
    assert told.count("AccessDenied") == 1
    assert "retry run-1" in told


@pytest.fixture
def settings(workspace: Path) -> Settings:
    return Settings(task_queue=f"queue-{uuid4().hex[:8]}", workspace=workspace, heartbeat_timeout=30, shutdown_grace=1)


@pytest.fixture
def cli(client: Client, settings: Settings, tmp_path: Path) -> Cli:
    return Cli(environment(address_of(client), settings))


async def test_show_tells_the_story_of_a_real_run(
    cli: Cli, settings: Settings, start_world: Start, tmp_path: Path
) -> None:
    """The same every time, complete as JSON, and not wider than a narrow terminal."""
    async with start_world(task_queue=settings.task_queue) as world:
        run = await world.start("file-manager", "Delete a.txt; delete b.txt")
        await run.reaches("waiting", approvals=2)
        await run.handle.signal("respond", "maybe")
        await run.refuses(1)
        await run.handle.signal("approve", {"approval": 1, "by": "ann", "comment": "fine"})
        await run.reaches("waiting", approvals=1)
        await run.handle.signal("deny", {"approval": 2, "by": "bob"})
        await run.result()
        told = (await cli("show", run.id)).stdout
        assert told == (await cli("show", run.id)).stdout
        parts = [
            "started: Delete a.txt; delete b.txt", 'inspect_files {"paths": ["a.txt", "b.txt"]}: success',
            "asked 1 (approve-delete)", "asked 2", "refused maybe", "1 (delete_files) answered y by ann", "“fine”",
            'delete_files {"paths": ["a.txt"]}: success', "2 (delete_files) answered n by bob",
            'delete_files {"paths": ["b.txt"]}: denied', "  completed",
        ]  # fmt: skip
        places = [told.index(part) for part in parts]
        assert places == sorted(places)
        shown = await cli.json("show", run.id)
        assert [approval["number"] for approval in shown["closed"]] == [1, 2]
        assert [note["work"]["ran"][0]["status"] for note in shown["turn_notes"]] == ["success", "success", "denied"]
        assert json.dumps(await cli.json("show", run.id)) == json.dumps(shown)
        command = [sys.executable, "starter.py", "show", run.id]
        with on_terminal(command, cli.env | {"COLUMNS": "60", "NO_COLOR": "1"}, tmp_path / "terminal.log") as terminal:
            assert await terminal.ends() == 0
            shown = terminal.output.replace("│ ", "")
            assert " ".join(shown.split()) == " ".join(told.replace("│ ", "").split())
            assert max(len(line) for line in terminal.output.splitlines()) <= 60


async def test_show_tells_what_a_turn_at_work_has_run(cli: Cli, settings: Settings, start_world: Start) -> None:
    """From its heartbeats, while the turn goes on."""
    async with start_world(task_queue=settings.task_queue) as world:
        hold = world.workspace / "hold-2"
        hold.touch()
        run = await world.start("holds-second", "go")

        async def told() -> bool:
            out = (await cli("show", run.id)).stdout
            return 'work {"n": 1}: success' in out and "work runs for" in out

        await until(told, what="the first call to be told while the second is at work")
        hold.unlink()
        await run.result()
