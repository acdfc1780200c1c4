"""Commands that talk to a run: sessions, further prompts, and a conversation on a terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import pytest
from temporalio.client import Client

from abeyance.contracts import RunResult
from abeyance.places import Place
from abeyance.settings import Settings
from tests.command_line import Cli
from tests.conftest import Start
from tests.processes import Terminal, address_of, environment, on_terminal
from tests.support import StartedRun, World


@pytest.fixture
def settings(workspace: Path, tmp_path: Path) -> Settings:
    return Settings(
        task_queue=f"queue-{uuid4().hex[:8]}",
        workspace=workspace,
        sessions=Place(directory=tmp_path / "sessions"),
        heartbeat_timeout=30,
        shutdown_grace=1,
    )


@pytest.fixture
def cli(client: Client, settings: Settings, tmp_path: Path) -> Cli:
    sessions = {"ABEYANCE_SESSIONS": str(settings.sessions)}
    return Cli(environment(address_of(client), settings, **sessions))


@pytest.fixture
def name() -> str:
    return f"demo-{uuid4().hex[:8]}"


def found(world: World, run: str) -> StartedRun:
    return StartedRun(world.client.get_workflow_handle(run, result_type=RunResult))


@contextmanager
def typing_at(cli: Cli, tmp_path: Path, *arguments: str) -> Iterator[Terminal]:
    command = [sys.executable, "starter.py", *arguments]
    with on_terminal(command, cli.env, tmp_path / f"{uuid4().hex}.log") as terminal:
        yield terminal


async def test_a_session_from_start_to_forgetting(cli: Cli, settings: Settings, start_world: Start, name: str) -> None:
    """Trust is given, a later run asks nothing and tells why; what is forgotten is forgotten."""
    run = f"session-{name}"
    async with start_world(task_queue=settings.task_queue, sessions=settings.sessions) as world:
        said = (await cli("start", "trusted-file-manager", "Delete a.txt", "--session", name)).stdout
        assert said.startswith(f"Started {run}. ")
        await found(world, run).reaches("waiting", approvals=1)
        said = (await cli("start", "trusted-file-manager", "Delete b.txt", "--session", name)).stdout
        assert f"Session {name} is busy, so the prompt was queued into its open run {run} as number 1" in said
        assert "Delete b.txt (waits for its turn, number 1)" in (await cli("show", run)).stdout
        refused = await cli("start", "trusted-file-manager", "x", "--session", name, "--if-busy", "refuse", status=4)
        assert "is open already" in refused.stderr
        assert "leave out --if-busy" in refused.stderr
        assert "is busy" in (await cli("start", "file-manager", "x", "--session", name, status=4)).stderr
        await cli("respond", run, "t", "--by", "ann")
        await cli("result", run)
        assert not {"a.txt", "b.txt"} & world.files()
        shown = (await cli("show", run)).stdout
        assert f"session {name}: new" in shown
        assert f"session {name}: written" in shown
        queued = await cli.json("start", "trusted-file-manager", "Delete c.txt", "--session", name)
        assert queued == {"run": run, "queued": False, "place": None}
        await cli("result", run)
        shown = (await cli("show", run)).stdout
        assert 'remembers {"trusted-file-manager-trust": "t"}' in shown
        assert 'delete_files {"paths": ["c.txt"]}: success; not asked: a person has answered t before' in shown
        await cli("sessions", "forget", name)
        await cli("start", "trusted-file-manager", "Delete d.txt", "--session", name)
        await found(world, run).reaches("waiting", approvals=1)
        await cli("cancel", run)
        await cli("result", run, status=5)
        shown = (await cli("show", run)).stdout
        assert f"session {name}: left as it was" in shown
        assert "d.txt" in world.files()


async def test_what_does_not_go_together_is_wrong_usage(cli: Cli) -> None:
    for arguments, words in (
        (("--session", "s", "--id", "x"), "--id and --session exclude each other"),
        (("--if-busy", "refuse"), "--if-busy belongs to --session"),
        (("--session", "../s"), "must not hold /"),
    ):
        assert words in (await cli("start", "clerk", "x", *arguments, status=2)).stderr
    assert "--chat needs a terminal" in (await cli("watch", "x", "--chat", status=2)).stderr


async def test_say_and_finish(cli: Cli, settings: Settings, start_world: Start) -> None:
    """With and without a worker; what has ended takes no prompt."""
    run = f"say-{uuid4().hex[:8]}"
    async with start_world(task_queue=settings.task_queue) as world:
        await cli("start", "clerk", "ask one", "--interactive", "--id", run)
        await found(world, run).reaches("waiting", approvals=1)
        said = (await cli("say", run, "note two", "--by", "ann")).stdout
        assert said.strip() == f"{run} has taken it, as number 1 of the prompts that wait for their turn."
        assert await cli.json("say", run, "note three") == {"run": run, "place": 2, "via": "update"}
    assert (await cli.json("say", run, "note four", ABEYANCE_WORKER_TIMEOUT="1"))["via"] == "signal"
    async with start_world(task_queue=settings.task_queue) as world:
        await found(world, run).reaches("waiting", approvals=1)
        await cli("approve", run)
        await found(world, run).reaches("listening", turn=5)
        shown = (await cli("show", run)).stdout
        assert "said by ann: note two" in shown
        assert f"{run}" in (await cli("list", "--open")).stdout
        assert next(item for item in await cli.json("list") if item["run"] == run)["state"] == "listening"
        await cli("finish", run, "--by", "ann")
        await cli("result", run)
        assert "has ended" in (await cli("say", run, "note five", status=4)).stderr
        assert "There is no run" in (await cli("say", "nobody", "x", status=3)).stderr


async def test_a_conversation_on_a_terminal(cli: Cli, settings: Settings, start_world: Start, tmp_path: Path) -> None:
    """Prompts and answers are typed where they are asked for; Ctrl-D ends the run, Ctrl-C only the conversation."""
    run = f"chat-{uuid4().hex[:8]}"
    async with start_world(task_queue=settings.task_queue) as world:
        with typing_at(cli, tmp_path, "start", "clerk", "hello", "--interactive", "--id", run) as terminal:
            await terminal.says("You said 'hello', after 1 messages.")
            await terminal.says("You>")
            terminal.type("ask one\n")
            await terminal.says("may-i, asked")
            await terminal.says("Your answer")
            terminal.type("what?\n")
            assert "takes a plain yes or no" in await terminal.says("Your answer", times=2)
            terminal.type("y\n")
            await terminal.says("Done, after 5 messages.")
            terminal.type("\n")  # says nothing
            terminal.type("note two\n")
            await terminal.says("Done, after 9 messages.")
            terminal.interrupt()
            assert await terminal.ends() == 130
            assert f"Left. {run} goes on without you" in terminal.output
        assert (await found(world, run).status()).state == "listening"
        with typing_at(cli, tmp_path, "watch", run, "--chat") as terminal:
            await terminal.says("You>")
            terminal.type("\x04")
            await terminal.says("The conversation ends.")
            assert await terminal.ends() == 0
        result = await found(world, run).result()
        assert [note.prompt for note in result.turn_notes if note.prompt] == ["hello", "ask one", "note two"]
