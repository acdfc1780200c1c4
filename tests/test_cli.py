"""The command line, as the programs that people and scripts run, with what they print and how they leave."""

from __future__ import annotations

import asyncio
import re
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from uuid import uuid4

import pytest
from temporalio.client import Client
from typer.testing import CliRunner

from abeyance.cli import app
from abeyance.settings import Settings
from tests.command_line import Cli
from tests.conftest import Start
from tests.processes import address_of, environment, free_port, on_terminal, started
from tests.support import StartedRun, until

COMMANDS = ["start", "list", "pending", "show", "approve", "deny", "respond", "watch", "result", "cancel"]
COMMANDS += ["doctor", "say", "finish", "retry", "abort", "agents", "setup", "codec-server", "up", "demo"]


@pytest.fixture
def settings(workspace: Path) -> Settings:
    return Settings(task_queue=f"queue-{uuid4().hex[:8]}", workspace=workspace, heartbeat_timeout=30, shutdown_grace=1)


@pytest.fixture
def cli(client: Client, settings: Settings, tmp_path: Path) -> Cli:
    return Cli(environment(address_of(client), settings))


def name_run() -> str:
    return f"cli-{uuid4().hex[:8]}"


async def test_a_run_from_start_to_result(cli: Cli, settings: Settings, start_world: Start) -> None:
    """Start, look, decide, watch and read, each in JSON; nothing imports Strands."""
    run = name_run()
    async with start_world(task_queue=settings.task_queue) as world:
        started_ = await cli.json("start", "file-manager", "Delete a.txt; delete b.txt", "--id", run)
        assert started_ == {"run": run}
        await StartedRun(world.client.get_workflow_handle(run)).reaches("waiting", approvals=2)
        assert "is open already" in (await cli("start", "file-manager", "x", "--id", run, status=4)).stderr

        async def listed() -> bool:
            return any(item["run"] == run and item["state"] == "waiting" for item in await cli.json("list", "--open"))

        await until(listed, what="the list to show the run as waiting")
        waiting = [item for item in await cli.json("pending") if item["run"] == run]
        assert [(item["number"], item["tool"], item["input"]) for item in waiting] == [
            (1, "delete_files", {"paths": ["a.txt"]}),
            (2, "delete_files", {"paths": ["b.txt"]}),
        ]
        shown = await cli.json("show", run)
        assert (shown["state"], [approval["number"] for approval in shown["approvals"]]) == ("waiting", [1, 2])
        assert "approve " + run in (await cli("show", run)).stdout
        ending = asyncio.create_task(cli("result", run))

        which, unknown, *_ = await asyncio.gather(
            cli("approve", run, status=2), cli("approve", run, "7", status=4), cli("retry", run, status=4)
        )
        assert [f"{item['number']}@{item['digest'][:8]}" for item in shown["approvals"]] == re.findall(
            r"\d+@\w+", which.stderr
        )
        assert "no open approval 7" in unknown.stderr
        denied = await cli.json("deny", run, "1", "--by", "alice", "--comment", "still needed")
        assert (denied["via"], denied["decisions"][0]["by"]) == ("update", "alice")
        assert "already answered 'n' by alice" in (await cli("approve", run, "1", status=4)).stderr
        await cli("abort", run, status=4)

        answered = await cli.json("respond", run, "2", "y")
        assert answered["decisions"][0]["approval"] == 2
        result = await cli.json("result", run)
        assert f"{run} is waiting: it goes on when somebody answers it." in (await ending).stderr
        assert [(d["approval"], d["response"], d["comment"]) for d in result["decisions"] if not d["refused"]] == [
            (1, "n", "still needed"),
            (2, "y", None),
        ]
        assert world.files() == {"a.txt", "c.txt", "d.txt"}
        watched, late, pointless = await asyncio.gather(
            cli.json("watch", run), cli("approve", run, status=4), cli("cancel", run, status=4)
        )
        assert (watched["run"], watched["state"]) == (run, "completed")
        assert "has ended" in late.stderr
        assert "has ended already" in pointless.stderr


async def test_runs_that_end_badly(cli: Cli, settings: Settings, start_world: Start) -> None:
    """Parked, retried, aborted and cancelled runs, and the statuses with which the commands leave."""
    parked, cancelled = name_run(), name_run()
    async with start_world(task_queue=settings.task_queue) as world:
        # `start` itself refuses it where all workers have told which agents they have.
        run = await world.start("no-such-agent", "x", run=parked)
        await run.reaches("parked")

        async def listed() -> bool:
            return "Unknown agent" in str([item for item in await cli.json("pending") if item["run"] == parked])

        await until(listed, what="the parked run to be pending")
        assert await cli.json("retry", parked) == {"run": parked, "retry": "sent"}

        async def again() -> bool:
            status = await run.status()
            return status.state == "parked" and len(status.decisions) == 1

        await until(again, what="the run to be parked again")
        assert await cli.json("abort", parked) == {"run": parked, "abort": "sent"}
        result, watched = await asyncio.gather(cli("result", parked, status=5), cli("watch", parked, status=5))
        assert "Aborted: Unknown agent 'no-such-agent'" in result.stderr
        assert "Aborted" in watched.stderr

        await cli("start", "file-manager", "Delete a.txt", "--id", cancelled)
        await StartedRun(world.client.get_workflow_handle(cancelled)).reaches("waiting")
        assert await cli.json("cancel", cancelled) == {"run": cancelled, "cancel": "requested"}
        assert "was cancelled" in (await cli("result", cancelled, status=5)).stderr
        assert "a.txt" in world.files()


def in_process(env: Mapping[str, str], *arguments: str) -> tuple[int, str]:
    """The exit status of a command, and what it said on stderr, without a process of its own."""
    done = CliRunner().invoke(app, list(arguments), env=dict(env))
    return done.exit_code, done.stderr


@pytest.mark.parametrize("command", ["show", "approve", "deny", "watch", "result", "cancel", "retry", "abort"])
def test_a_run_that_is_not_there(command: str, cli: Cli) -> None:
    status, said = in_process(cli.bare, command, "nobody")
    assert status == 3
    assert "There is no run 'nobody'" in said


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["start", "file-manager"], "prompt"),
        (["start", "file-manager", "x", "--option", "threshold"], "NAME=VALUE"),
        (["start", "file-manager", " "], "'prompt'"),
        (["start", "file-manager", "x", "--limit", "turns=no"], "'turns'"),
        (["respond", "some-run"], "What is the response?"),
        (["respond", "some-run", "1", "null"], "null is no answer"),
        (["respond", "some-run", "1", "not", "now"], "quote one with spaces"),
        (["approve", "some-run", ""], "named by its number"),
        (["demo", "--answer", "maybe"], "--answer"),
        (["pending", "--older-than", "soon"], "--older-than: an age is"),
        (["no-such-command"], "No such command"),
    ],
)
def test_wrong_usage(arguments: list[str], said: str, cli: Cli) -> None:
    status, told = in_process(cli.bare, *arguments)
    assert status == 2
    assert said in told


async def test_without_a_server(cli: Cli) -> None:
    """One line says where nobody answered and how to start a server."""
    address = f"127.0.0.1:{free_port()}"
    said = (await cli("list", status=1, TEMPORAL_ADDRESS=address)).stderr
    assert address in said
    assert "starter.py up" in said
    assert "TEMPORAL_ADDRESS" in said


async def test_without_a_worker(cli: Cli, settings: Settings, start_world: Start) -> None:
    """The approval goes as a signal, says so, and is applied once when a worker comes."""
    run = name_run()
    async with start_world(task_queue=settings.task_queue) as world:
        await cli("start", "file-manager", "Delete a.txt", "--id", run)
        started_ = StartedRun(world.client.get_workflow_handle(run))
        await started_.reaches("waiting")
    assert "No worker answered" in (await cli("approve", run, "--by", "alice", ABEYANCE_WORKER_TIMEOUT="1")).stdout
    assert "a.txt" in world.files()
    async with start_world(task_queue=settings.task_queue) as world:
        status = await started_.reaches("completed")
        assert [(d.response, d.by) for d in status.decisions] == [("y", "alice")]
        assert status.refused_count == 0
        assert world.files() == {"b.txt", "c.txt", "d.txt"}


def test_settings_that_cannot_be_read(cli: Cli, tmp_path: Path) -> None:
    broken = tmp_path / "temporal.toml"
    broken.write_text("[profile")
    for name, value, said in (
        ("ABEYANCE_SHUTDOWN_GRACE", "soon", "ABEYANCE_SHUTDOWN_GRACE must be a number"),
        ("ABEYANCE_UI", "javascript:alert(1)", "ABEYANCE_UI is the address of a web page"),
        ("ABEYANCE_UI", "http://x/a)[b](c", "ABEYANCE_UI is the address of a web page"),
        ("ABEYANCE_TASKQUEUE", "x", "Unknown setting ABEYANCE_TASKQUEUE"),
        ("TEMPORAL_CONFIG_FILE", str(broken), "cannot be read"),
    ):
        status, told = in_process(cli.bare | {name: value}, "list")
        assert status == 1
        assert said in told


async def test_an_agents_words_cannot_rewrite_the_terminal(cli: Cli, settings: Settings, start_world: Start) -> None:
    """Escape sequences in what an agent asks about, and in what people answered, are not printed raw."""
    run, evil = name_run(), "\x1b[2Ja.txt\x1b]0;owned\x07\u202e"
    async with start_world(task_queue=settings.task_queue) as world:
        await world.start("file-manager", f'Delete "{evil}"', run=run)
        started_ = StartedRun(world.client.get_workflow_handle(run))
        await started_.reaches("waiting")
        await started_.handle.signal("approve", evil)
        await started_.refuses(1)
        for command in (["show", run], ["pending"], ["list"]):
            out = (await cli(*command)).stdout
            assert not {"\x1b", "\x07", "\u202e"} & set(out)
        assert "owned" in (await cli("show", run)).stdout


async def test_agents_are_listed(cli: Cli) -> None:
    """This command alone loads the agents; without a good module it says which one is bad."""
    cli.env = cli.bare
    names = {item["agent"] for item in await cli.json("agents")}
    assert {"file-manager", "smart-delete", "trusted-file-manager"} <= names
    assert "no_such_module" in (await cli("agents", status=1, ABEYANCE_AGENTS="no_such_module")).stderr


@pytest.mark.parametrize("command", COMMANDS)
def test_help(command: str) -> None:
    shown = CliRunner().invoke(app, [command, "--help"])
    assert shown.exit_code == 0
    assert "--json" in shown.output


def test_every_command_is_known() -> None:
    assert {command.name or command.callback.__name__ for command in app.registered_commands if command.callback} == {
        *COMMANDS
    }


async def test_respond_asks_on_a_terminal(
    cli: Cli, client: Client, settings: Settings, start_world: Start, tmp_path: Path
) -> None:
    """Without a response it shows what is asked, and takes what is typed."""
    async with start_world(task_queue=settings.task_queue) as world:
        run = await world.start("trusted-file-manager", "Delete a.txt")
        await run.reaches("waiting")
        command = [sys.executable, "starter.py", "respond", run.id, "--by", "bob"]
        with on_terminal(command, cli.env, tmp_path / "terminal.log") as terminal:
            shown = await terminal.says("Your answer")
            assert "delete_files" in shown
            assert "a.txt" in shown
            assert "t: trust" in shown
            terminal.type("t\n")
            assert await terminal.ends() == 0
        result = await run.result()
        assert [(d.response, d.by) for d in result.decisions] == [("t", "bob")]
        assert world.files() == {"b.txt", "c.txt", "d.txt"}


async def test_watch_is_interrupted(cli: Cli, settings: Settings, start_world: Start, tmp_path: Path) -> None:
    """Ctrl-C leaves with status 130 and without a traceback, and the run goes on waiting."""
    async with start_world(task_queue=settings.task_queue) as world:
        run = await world.start("file-manager", "Delete a.txt")
        await run.reaches("waiting")
        with started([sys.executable, "starter.py", "watch", run.id], cli.env, tmp_path / "watch.log") as watching:
            await watching.says("approve-delete")
            watching.send(signal.SIGINT)
            assert await watching.ends() == 130
            assert "Traceback" not in watching.output
        await run.reaches("waiting")


async def test_start_and_wait(cli: Cli, settings: Settings, start_world: Start) -> None:
    """With --wait the command follows the run, and leaves with its status."""
    async with start_world(task_queue=settings.task_queue) as world:
        done = await cli("start", "smart-delete", "Delete a.txt and b.txt", "--option", "threshold=3", "--wait")
        assert "Deleted a.txt, b.txt" in done.stdout
        assert world.files() == {"c.txt", "d.txt"}
