"""What the documents say is run."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Awaitable
from pathlib import Path

import pytest

from abeyance.contracts import RunResult
from abeyance.devserver import temporal_binary
from abeyance.places import Place
from abeyance.sessions import Sessions
from abeyance.settings import Settings
from tests import forks
from tests.conftest import Start
from tests.processes import address_of, environment, started
from tests.sessions import snapshot
from tests.support import PATIENCE, ROOT, StartedRun, until

README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```(\w*)\n(.*?)```", README, re.DOTALL)


def commands(start: str) -> list[str]:
    """The README's shell commands that begin with `start`, without their comments."""
    joined = "\n".join(text.replace("\\\n", " ") for kind, text in BLOCKS if kind == "sh")
    return [line.partition("  #")[0].strip() for line in joined.splitlines() if line.startswith(start)]


async def run(command: str, env: dict[str, str]) -> str:
    """Run a command of the README with this Python and the `temporal` that is installed beside it."""
    words = shlex.split(command)
    words[0] = {"python": sys.executable, "temporal": temporal_binary()}[words[0]]
    done = await asyncio.to_thread(forks.run, words, os.environ | env, ROOT, PATIENCE)
    assert done.returncode == 0, f"{command}: {done.stderr}"
    return str(done.stdout)


async def test_the_readmes_commands_run(start_world: Start) -> None:
    """Started, listed and shown as it says; answered with the signal, the update and the command line."""
    async with start_world(task_queue="abeyance") as world:
        (world.workspace / "demo").mkdir()
        (world.workspace / "demo/march.txt").touch()
        env = {"TEMPORAL_ADDRESS": address_of(world.client)}
        by_starter, by_cli = commands("python starter.py start")[0], commands("temporal workflow start")[0]

        def go(command: str) -> Awaitable[str]:
            return run(command, env)

        def found(name: str) -> StartedRun:
            return StartedRun(world.client.get_workflow_handle(name, result_type=RunResult))

        await go(by_starter)
        await go(by_cli)
        first = found("clean-up")
        second = found("clean-up-2")
        await first.reaches("waiting", approvals=1)
        await second.reaches("waiting", approvals=1)
        for command in commands("python starter.py pending") + commands("python starter.py show clean-up"):
            assert "clean-up" in await go(command)
        for command in commands("python starter.py setup"):
            assert "registered" in await go(command)
        for command in commands("temporal workflow list"):

            async def listed(command: str = command) -> bool:
                return {"clean-up", "clean-up-2"} <= set((await go(command)).split())

            await until(listed, what=f"both runs to be found by {command}")
        update = commands("temporal workflow update execute")[0].replace("RUN", "clean-up-2")
        await go(update)
        await second.result()
        table = [line for line in README.splitlines() if line.startswith(("| `starter.py`", "| `temporal`"))]
        cells = [re.findall(r"`([^`]+)`", line) for line in table]
        assert cells[0][1] == "python starter.py approve RUN 2"
        await go(cells[0][2].replace("RUN 2", "clean-up 1"))
        assert "denied" in str((await first.result()).message)
        await go(by_starter)
        third = found("clean-up")
        await third.reaches("waiting", approvals=1)
        await go(cells[1][1].replace("RUN", "clean-up").replace("--input 2", "--input 1"))
        await third.result()
        await go(by_starter)
        fourth = found("clean-up")
        await fourth.reaches("waiting", approvals=1)
        assert "y by " in await go(commands("python starter.py approve")[0])
        await fourth.result()
        for command in commands("python starter.py watch"):
            if "--chat" not in command:  # which needs a terminal
                await go(command)


async def test_the_readmes_sessions_and_prompts_run(start_world: Start, tmp_path: Path) -> None:
    """The session remembers the trust; prompts are taken from the command line and as the signal that is shown."""
    async with start_world(task_queue="abeyance", sessions=Place(tmp_path / "sessions")) as world:
        (world.workspace / "demo").mkdir()
        for month in ("march", "april"):
            (world.workspace / f"demo/{month}.txt").touch()
        env = {"TEMPORAL_ADDRESS": address_of(world.client)}
        session = StartedRun(world.client.get_workflow_handle("session-ann", result_type=RunResult))
        first, second = (line for line in commands("python starter.py start") if "--session ann" in line)
        await run(first, env)
        await session.reaches("waiting", approvals=1)
        await run(next(line for line in commands("python starter.py respond") if "session-ann" in line), env)
        await session.result()
        await run(second, env)
        result = await session.result()
        assert (result.approvals, world.files() & {"demo/march.txt", "demo/april.txt"}) == ([], set())
        assert "not asked: " in await run(commands("python starter.py show session-ann")[0], env)
        (world.workspace / "demo/april.txt").touch()
        said = await run(next(line for line in commands("python starter.py start") if "--interactive" in line), env)
        name = re.findall(r"Started (\S+)\.", said)[0]
        talk = StartedRun(world.client.get_workflow_handle(name, result_type=RunResult))
        await talk.reaches("listening", turn=1)
        [by_starter], [by_cli] = (
            commands("python starter.py say"),
            commands("temporal workflow signal -w RUN --name say"),
        )
        await run(by_starter.replace("RUN", name), env)
        await talk.reaches("waiting", approvals=1, turn=2)
        await run(by_cli.replace("RUN", name), env)
        await talk.handle.signal("approve", 1)
        await talk.reaches("waiting", approvals=1, turn=4)
        await run(commands("python starter.py finish")[0].replace("RUN", name), env)
        await talk.handle.signal("deny", 2)
        await talk.result()


async def test_the_readmes_story_is_told(start_world: Start) -> None:
    """What it shows of `show` is what is printed, but for times, workers and the numbers of tokens."""
    [block] = [text for kind, text in BLOCKS if not kind and "answered y by anna" in text]
    async with start_world() as world:
        (world.workspace / "demo").mkdir()
        (world.workspace / "demo/march.txt").touch()
        started = await world.start("file-manager", "Delete demo/march.txt", by="anna")
        await started.reaches("waiting", approvals=1)
        answer = {"approval": 1, "response": "y", "by": "anna", "comment": "fine"}
        await started.handle.execute_update("decide", answer)
        await started.result()
        told = await run(f"python starter.py show {started.id}", {"TEMPORAL_ADDRESS": address_of(world.client)})

    def bare(text: str) -> list[str]:
        told = r"\d+ (?:s|min|tokens)|(?:on|from) \S+@[\w.-]+(?:, code-\w+)?|[\d:-]{8,10}(?=,| )"
        return re.sub(told, "…", text).splitlines()

    assert bare(told.replace(started.id, "clean-up")) == bare(block)


async def test_the_readmes_agent_runs(tmp_path: Path, start_world: Start) -> None:
    """The snippet, saved as it says, is registered and asks before it greets."""
    [snippet] = [text for kind, text in BLOCKS if kind == "python" and "agents/greeter.py" in text]
    (tmp_path / "readme_greeter.py").write_text(snippet)
    env = os.environ | {"PYTHONPATH": str(tmp_path), "ABEYANCE_AGENTS": "readme_greeter"}
    out = subprocess.run(
        [sys.executable, "starter.py", "agents", "--json"],
        cwd=ROOT,
        env=env,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert [known["agent"] for known in json.loads(out)] == ["greeter"]
    namespace: dict[str, object] = {"__name__": "readme_greeter"}
    exec(compile(snippet, "README.md", "exec"), namespace)
    async with start_world() as world:
        started = await world.start("greeter", "Greet 'Ann'")
        status = await started.reaches("waiting", approvals=1)
        assert (status.approvals[0].tool, status.approvals[0].input) == ("greet", {"name": "Ann"})
        await started.handle.signal("approve")
        assert "Hello Ann!" in (await started.result()).message


async def test_the_readmes_program_opens_a_session(tmp_path: Path) -> None:
    """What is kept here is what an ordinary Strands program prints; the commands beside it run."""
    [snippet] = [text for kind, text in BLOCKS if kind == "python" and "SnapshotSessionManager" in text]
    kept = Sessions(Place(tmp_path / ".abeyance" / "sessions"))
    trusted = snapshot("Delete a.txt", **{"trusted-file-manager-trust": "t"})
    await kept.save("ann", "trusted-file-manager", trusted, after=None, mark="session-ann/1")
    done = subprocess.run(
        [sys.executable, "-c", snippet], cwd=tmp_path, env=os.environ, capture_output=True, text=True, check=True
    )
    assert "Delete a.txt" in done.stdout
    assert "'trusted-file-manager-trust': 't'" in done.stdout
    shown, value, all_of_it = commands("python starter.py sessions")[1:]
    env = {"ABEYANCE_SESSIONS": str(tmp_path / ".abeyance" / "sessions"), "TEMPORAL_ADDRESS": "127.0.0.1:1"}
    for command, said in ((shown, "trusted-file-manager-trust: t"), (f"{value} --offline", "Forgot trusted-file-mana")):
        assert said in await run(command, env)
    assert "Forgot session ann" in await run(f"{all_of_it} --offline", env)
    assert await run(commands("python starter.py sessions")[0], env)


async def test_the_readmes_keys_and_codec_server_work(start_world: Start, tmp_path: Path) -> None:
    """The key that it makes encrypts a run, which the `temporal` CLI shows through the codec server that it starts."""
    [make], [serve] = commands("export ABEYANCE_KEYS"), commands("python starter.py codec-server")
    [show] = [command for command in commands("temporal workflow show") if "--codec-endpoint" in command]
    keys = subprocess.run(
        ["/bin/sh", "-c", f'{make}; printf %s "$ABEYANCE_KEYS"'], capture_output=True, text=True, check=True
    ).stdout
    async with start_world(keys=keys) as world:
        run_ = await world.start("file-manager", "Inspect zanzibar.txt")
        await run_.result()
        address = address_of(world.client)
        words = [sys.executable, *shlex.split(serve)[1:], "--port", "0"]
        with started(words, environment(address, ABEYANCE_KEYS=keys), tmp_path / "log", cwd=ROOT) as server:
            told = await server.says("The Temporal UI:")
            token = re.findall(r"Its token, until it ends: (\S+)", told)[0]
            endpoint = re.findall(r"up at (http://127.0.0.1:\d+)", told)[0]
            filled = show.replace("RUN", run_.id).replace("TOKEN", token).replace("http://127.0.0.1:8081", endpoint)
            assert "zanzibar" in await run(filled, {"TEMPORAL_ADDRESS": address})
            bare = filled.partition("--codec-endpoint")[0]
            assert "zanzibar" not in await run(bare, {"TEMPORAL_ADDRESS": address})


@pytest.mark.parametrize("name", ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md"])
def test_paths_in_the_documents_exist(name: str) -> None:
    """Files and folders that are named are there."""
    named = re.findall(r"`((?:[a-z_.]+/)*[\w.]+(?:\.py|\.md|\.yml|\.toml)|(?:[a-z_.]+/)+)`", (ROOT / name).read_text())
    made_at_run_time = (".abeyance/",)
    missing = [
        path
        for path in named
        if not path.startswith(made_at_run_time)
        and not any((base / path).exists() for base in (ROOT, ROOT / "abeyance", ROOT / "agents", ROOT / "activities"))
    ]
    assert missing == []


def test_the_readme_lists_every_setting() -> None:
    """Each public setting of `Settings` is in the README's table, with its default."""
    documented = set(re.findall(r"\| `(ABEYANCE_\w+)`", README))
    public = set(re.findall(r"`(ABEYANCE_(?!TEST)\w+)`", Settings.__doc__ or ""))
    assert documented == public
    defaults = Settings.from_env({})
    for value in (f"`{defaults.heartbeat_timeout:g}`", f"`{defaults.shutdown_grace:g}`", f"`{defaults.workspace}`"):
        assert value in README
