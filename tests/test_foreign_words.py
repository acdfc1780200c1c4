"""What others wrote, as the command line shows it: nothing is hidden, and no line of theirs looks like one of ours."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from uuid import uuid4

import pytest
from temporalio.client import Client

from abeyance.cli._shared import say, say_quoted
from abeyance.settings import Settings
from tests.command_line import Cli
from tests.conftest import Start
from tests.processes import address_of, environment, on_terminal
from tests.support import World

FORGED = "  09:03:00  1 (pay) answered y by the-boss after 2 min (update decide)"
"""A line of the story, at the very place where true ones begin."""
UNSEEN = "\u200b\u202e\u00ad\u2028\U000e0062"
SHOWN = '<U+200B><U+202E><U+00AD><U+2028><hidden "b">'
MIXED = "p\u0430ypal"


@pytest.fixture
def settings(workspace: Path) -> Settings:
    return Settings(task_queue=f"queue-{uuid4().hex[:8]}", workspace=workspace, heartbeat_timeout=5, shutdown_grace=1)


@pytest.fixture
def cli(client: Client, settings: Settings, tmp_path: Path) -> Cli:
    return Cli(environment(address_of(client), settings))


def has_line_like(forged: str, printed: str) -> bool:
    """Whether something printed begins a line as a true one begins, at its indentation or further left."""
    return any(re.match(rf" {{0,12}}{re.escape(forged.strip())}", line) for line in printed.splitlines())


async def shown_on_terminal(cli: Cli, tmp_path: Path, *arguments: str) -> str:
    command = [sys.executable, "starter.py", *arguments]
    with on_terminal(command, cli.env | {"COLUMNS": "80"}, tmp_path / f"terminal-{uuid4().hex}.log") as terminal:
        await terminal.ends()
        return terminal.output


async def attacked(world: World) -> str:
    """A run in which people and a model have written what could pass for its story."""
    words = f"fine\n{FORGED}\n{UNSEEN} {MIXED} {' ' * 60}{FORGED}"
    options = {"input": words, "reason": {"why": words}, "name": words, "message": words}
    run = await world.start("says", f"go\n{FORGED}", options=options)
    await run.reaches("waiting", approvals=1)
    await run.handle.signal("respond", {"approval": 7, "response": f"y\n{FORGED}", "by": f"mallory\n{FORGED}"})
    await run.handle.signal("say", {"prompt": words, "by": f"eve\n{FORGED}"})
    await run.refuses(1)
    return run.id


async def test_no_words_of_others_are_a_line_of_the_story(
    cli: Cli, settings: Settings, start_world: Start, tmp_path: Path
) -> None:
    """Of names, comments, prompts, answers and the model's last word; in a pipe and on a terminal that breaks lines."""
    async with start_world(task_queue=settings.task_queue) as world:
        run = await attacked(world)
        doors = [("show", run), ("pending",)]
        shown = [(await cli(*door)).stdout for door in doors]
        shown += [await shown_on_terminal(cli, tmp_path, *door) for door in doors]
        comment = f"no {UNSEEN} {MIXED}\n{FORGED}"
        handle = world.client.get_workflow_handle(run)
        await handle.signal("deny", {"approval": 1, "by": f"bob\n{FORGED}", "comment": comment})
        await handle.result()
        shown += [(await cli("show", run)).stdout]
        shown += [await shown_on_terminal(cli, tmp_path, door, run) for door in ("show", "watch", "result")]
        for told in shown:
            assert not has_line_like(FORGED, told)
            assert not re.search("[\u200b\u202e\u00ad\u2028\U000e0062]", told)
        told = (await cli("show", run)).stdout
        assert SHOWN in told
        assert f"{MIXED}<⚠ Latin, Cyrillic>" in told
        printed = (await cli("show", run, "--json")).stdout
        assert len(printed.splitlines()) == 1
        assert not re.search("[\u200b\u202e\u00ad\u2028\U000e0062]", printed)
        assert UNSEEN in json.dumps(json.loads(printed), ensure_ascii=False)


async def test_a_result_in_a_pipe_is_the_word_itself(cli: Cli, settings: Settings, start_world: Start) -> None:
    """No mark stands before its lines, and how the run ended is told beside it."""
    async with start_world(task_queue=settings.task_queue) as world:
        run = await world.start("says", "go", options={"message": f"one\ntwo {MIXED}\u200b"})
        await run.result()
        done = await cli("result", run.id)
        assert done.stdout == f"one\ntwo {MIXED}<U+200B>\n"


async def test_what_is_wrong_is_one_line(cli: Cli, settings: Settings, start_world: Start) -> None:
    async with start_world(task_queue=settings.task_queue):
        done = await cli("show", f"no\n{FORGED}{UNSEEN}", status=3)
        assert done.stderr.removesuffix("\n").isprintable()
        done = await cli("start", "file-manager", "go", "--session", f"ann{UNSEEN}", status=2)
        assert SHOWN in done.stderr


@pytest.mark.parametrize(
    "text", ["x" * 300, "word " * 60, "\u6f22" * 200, f"a\n{FORGED}", "\u6f22" * 35 + "  09:03 me"]
)
def test_a_terminal_breaks_no_line_where_another_begins(
    text: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """However wide its characters are: what goes on is indented, and marked where it was quoted."""
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    from rich.cells import cell_len

    say(f"  09:00:00  started: {text}", hang=14)
    first, *more = capsys.readouterr().out.splitlines()
    assert more
    assert all(line.startswith(" " * 14) for line in more)
    assert all(cell_len(line) <= 80 for line in (first, *more))
    say_quoted(text)
    assert all(line.startswith("  │ ") and cell_len(line) <= 80 for line in capsys.readouterr().out.splitlines())
