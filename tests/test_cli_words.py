"""What holds for every command: help, errors as JSON, prompts from elsewhere, hints that a shell takes, colours."""

from __future__ import annotations

import asyncio
import json
import re
import shlex
import subprocess
import sys
import uuid
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from temporalio.client import Client
from typer.main import get_command

from abeyance.cli import app
from abeyance.cli.examples import EXAMPLES
from abeyance.cli.layout import SECTIONS
from abeyance.settings import Settings
from tests.command_line import Cli
from tests.conftest import Start
from tests.processes import address_of, environment, free_port, on_terminal
from tests.support import ROOT, World, until

COMMANDS = sorted(
    {name for names in SECTIONS.values() for name in names} - {"sessions"}
    | {f"sessions {name}" for name in ("list", "show", "forget")}
)


@pytest.fixture
def settings(workspace: Path) -> Settings:
    return Settings(task_queue=f"queue-{uuid.uuid4().hex[:8]}", workspace=workspace, heartbeat_timeout=5)


@pytest.fixture
def cli(client: Client, settings: Settings) -> Cli:
    return Cli(environment(address_of(client), settings))


async def test_help_and_version(cli: Cli) -> None:
    """Each command stands in one section, with its first sentence whole; -h does what --help does."""
    told = (await cli("-h")).stdout
    assert told == (await cli("--help")).stdout
    assert told.count("...") == 1  # of the usage
    assert "Others:" not in told
    for title, names in SECTIONS.items():
        assert f"{title}:" in told
        assert all(f"\n  {name} " in told for name in names)
    assert (await cli("approve", "-h")).stdout.startswith("Usage: ")
    assert "temporalio" in (await cli("--version")).stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_shows_examples(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """They can be typed as they stand, fit the screen, and the command takes them."""
    monkeypatch.setattr(sys, "argv", [str(ROOT / "starter.py")])
    words = command.split()
    assert get_command(app).main([*words, "-h"], standalone_mode=False) == 0
    told = capsys.readouterr().out
    typed = re.findall(r"^  \S*python starter\.py (.+)\n      \w.+\.$", told.partition("Examples:\n")[2], re.MULTILINE)
    assert typed == [example for example, _ in EXAMPLES[command]]
    assert max(map(len, told.splitlines())) < 80
    for example in typed:
        given = shlex.split(example.partition(" < ")[0])
        assert given[: len(words)] == words
        taken: Any = get_command(app)
        for name in words:
            taken = taken.commands[name]
        assert taken.make_context(command, given[len(words) :])


async def test_a_shell_completes_commands_and_runs(cli: Cli, client: Client, settings: Settings) -> None:
    """The installed program does, and knows the runs that begin as typed; without a server it offers none."""

    async def completed(words: str, **env: str) -> list[str]:
        asked = {"_ABEYANCE_COMPLETE": "complete_bash", "COMP_WORDS": f"abeyance {words}"}
        given = cli.env | asked | {"COMP_CWORD": str(len(words.split(" ")))} | env
        program = [str(Path(sys.executable).parent / "abeyance")]
        done = await asyncio.to_thread(subprocess.run, program, env=given, capture_output=True, text=True, check=True)
        assert done.stderr == ""
        return list(done.stdout.split())

    assert sorted(await completed("re")) == ["respond", "result", "retry"]
    assert await completed("approve --c") == ["--comment"]
    name = f"complete-{uuid.uuid4().hex[:8]}"
    odd = [f"{name}{more}" for more in ("$(x)", " b", ";b", "*", "\\$(x)", "`x`", ":b", "'", "<b")]
    runs = [await World(client, settings).start("file-manager", "go", run=run) for run in (name, *odd)]

    async def known() -> bool:
        return {run.id async for run in client.list_workflows()} >= {name, *odd}

    await until(known, what="the list of runs to have them")
    assert await completed(f"show {name[:-2]}") == [name]  # a shell might run what is in the others
    assert await completed(f"show {name}-more") == []
    assert await completed(f"show {name[:-2]}", TEMPORAL_ADDRESS=f"127.0.0.1:{free_port()}") == []
    for run in runs:
        await run.handle.terminate()


async def test_the_installed_program_finds_agents_where_it_is_called(cli: Cli, tmp_path: Path) -> None:
    """And calls itself by its own name."""
    (tmp_path / "our_agents.py").write_text(
        "from strands import Agent\nfrom abeyance import agent\n\n"
        "@agent('of-this-folder', description='Ours')\ndef ours(context):\n    return Agent()\n"
    )
    env = cli.bare | {"ABEYANCE_AGENTS": "our_agents", "PYTHONPATH": ""}

    async def called(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [str(Path(sys.executable).parent / "abeyance"), *arguments]
        return await asyncio.to_thread(
            subprocess.run, command, env=env, cwd=tmp_path, capture_output=True, text=True, check=False
        )

    assert "of-this-folder" in (await called("agents")).stdout
    refused = await called("show", "no-such-run")
    assert (refused.returncode, refused.stderr[:10]) == (3, "abeyance: ")
    assert (await called("-h")).stdout.startswith("Usage: abeyance ")
    env["TEMPORAL_ADDRESS"] = f"127.0.0.1:{free_port()}"
    assert "abeyance up`" in (await called("list")).stderr


async def test_errors_are_json_where_the_output_is(cli: Cli) -> None:
    for arguments, status in (
        (("strat",), 2),
        (("start", "file-manager"), 2),
        (("show", "no-such-run"), 3),
        (("start", "file-manager", "@/no/such/file"), 2),
    ):
        done = await cli(*arguments, "--json", status=status)
        [line] = done.stderr.splitlines()
        assert json.loads(line)["status"] == status
        assert len(json.loads(line)["error"]) > 10
        assert done.stdout == ""


async def test_prompts_come_from_elsewhere(
    cli: Cli, client: Client, settings: Settings, start_world: Start, tmp_path: Path
) -> None:
    """From stdin, and from a file; the hint that follows can be typed as it stands, whatever the run's id."""
    (tmp_path / "prompt.txt").write_text("Inspect b.txt\n")
    async with start_world(task_queue=settings.task_queue):
        for prompt, given, meant in (("-", "Inspect a.txt\n", "a.txt"), (f"@{tmp_path}/prompt.txt", "", "b.txt")):
            run = f"it's {uuid.uuid4().hex[:8]}"
            told = (await cli("start", "file-manager", prompt, "--id", run, given=given)).stdout
            words = f"show 'it'\"'\"'s {run.partition(' ')[2]}'"
            assert words in told
            assert (await cli.json("show", run))["prompt"] == f"Inspect {meant}"
            await client.get_workflow_handle(run).result()


async def test_a_state_has_a_colour_on_a_terminal_alone(
    cli: Cli, settings: Settings, start_world: Start, tmp_path: Path
) -> None:
    async with start_world(task_queue=settings.task_queue) as world:
        run = await world.start("file-manager", "Delete a.txt")
        await run.reaches("waiting", approvals=1)
        command = [sys.executable, "starter.py", "show", run.id]
        for number, (env, shown) in enumerate(
            (({"TERM": "xterm"}, "\x1b[33mwaiting\x1b[0m"), ({"TERM": "xterm", "NO_COLOR": "1"}, " is waiting,"))
        ):
            with on_terminal(command, cli.env | env, tmp_path / f"{number}.log") as terminal:
                assert await terminal.ends() == 0
                assert shown in terminal.output
        assert "\x1b" not in (await cli("show", run.id)).stdout
        await run.handle.terminate()


async def test_a_run_has_started_when_it_was_started(client: Client, settings: Settings, start_world: Start) -> None:
    """However late a worker takes it up."""
    run = await World(client, settings).start("file-manager", "Inspect a.txt")
    await asyncio.sleep(2)  # what it says would be later by that
    async with start_world(task_queue=settings.task_queue):
        await run.result()
        status = await run.status()
    described = (await run.handle.describe()).start_time
    assert datetime.fromisoformat(status.started_at) == described.replace(microsecond=0)
