"""The demonstration and the embedded server, as a newcomer runs them: in a directory of their own."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from temporalio.client import Client

from abeyance.attributes import check
from tests.processes import DevServer, address_of, free_port, is_alive, on_terminal, started
from tests.support import PATIENCE, ROOT, until

pytestmark = pytest.mark.processes

STARTER = [sys.executable, str(ROOT / "starter.py")]
TOUCHED = ("january.txt", "february.txt")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """An empty directory to be in; its name needs quoting."""
    home = tmp_path / "a home"
    home.mkdir()
    return home


@pytest.fixture
def env() -> dict[str, str]:
    """An environment in which no server answers yet."""
    return os.environ | {"TEMPORAL_ADDRESS": f"127.0.0.1:{free_port()}", "ABEYANCE_SHUTDOWN_GRACE": "1"}


def left(home: Path) -> set[str]:
    """The files of the demonstration that are there."""
    return {path.name for path in (home / ".abeyance/workspace/demo").iterdir()}


async def all_gone(pids: set[int]) -> None:
    """Wait until none of the processes is there."""

    async def look() -> bool:
        return not any(is_alive(pid) for pid in pids)

    await until(look, what=f"the processes {pids} to be gone")


@pytest.mark.parametrize("answer", ["y", "n", "t"])
async def test_decided_beforehand(answer: str, home: Path, env: Mapping[str, str]) -> None:
    """The files are really gone, or really kept, and the decision is told; nobody else may read what it leaves."""
    (home / ".abeyance").mkdir(mode=0o755)
    (home / ".abeyance/temporal.log").touch(mode=0o644)
    done = await asyncio.to_thread(
        subprocess.run, [*STARTER, "demo", "--answer", answer, "--json"],
        cwd=home, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert [decision["response"] for decision in told["result"]["decisions"]] == [answer]
    assert left(home) == ({"march.txt", *TOUCHED} if answer == "n" else {"march.txt"})
    kept = [home / ".abeyance", *(path for path in (home / ".abeyance").iterdir() if path.is_file())]
    assert {"temporal.db", "temporal.log", "worker.log"} <= {path.name for path in kept}
    assert [path.name for path in kept if path.stat().st_mode & 0o077] == []


async def test_the_printed_command_decides(home: Path, env: Mapping[str, str], tmp_path: Path) -> None:
    """Without a terminal it prints commands; the `temporal` one works as it stands, from the same directory."""
    with started([*STARTER, "demo"], env, tmp_path / "demo.log", cwd=home) as demo:
        said = await demo.says("the Temporal UI:")
        assert left(home) == {"march.txt", *TOUCHED}
        (command,) = (line.strip() for line in said.splitlines() if "workflow signal" in line)
        done = await asyncio.to_thread(
            subprocess.run, command, shell=True, cwd=home, env=env, capture_output=True, text=True, timeout=PATIENCE,
            check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{command}: {done.stderr}"
        assert await demo.ends() == 0
        assert "gone" in demo.output
    assert left(home) == {"march.txt"}


@pytest.mark.long
async def test_ctrl_c_then_go_on_at_a_terminal(home: Path, env: Mapping[str, str], tmp_path: Path) -> None:
    """Ctrl-C ends everything that was started, and Ctrl-D decides nothing; the next one goes on with the same run.

    Neither what was typed before the question nor what is unclear is an answer.
    """
    with on_terminal([*STARTER, "demo"], env, tmp_path / "first.log", cwd=home) as demo:
        await demo.says("Your answer")
        children = demo.children()
        assert len(children) == 2
        demo.interrupt()
        assert await demo.ends() == 130
        assert "Traceback" not in demo.output
        await all_gone(children)
    assert left(home) == {"march.txt", *TOUCHED}
    with on_terminal([*STARTER, "demo"], env, tmp_path / "second.log", cwd=home) as demo:
        demo.type("y\n")  # before anything is asked
        said = await demo.says("Your answer")
        assert "going on with it" in said
        for times, typed in enumerate(("", "maybe later", "ok", '{"a":'), 2):
            demo.type(f"{typed}\n")
            await demo.says("Your answer", times=times)
        demo.type("\x04")
        assert await demo.ends() == 130
        assert "Nothing was decided" in demo.output
        assert "Decided:" not in demo.output
    assert left(home) == {"march.txt", *TOUCHED}
    with on_terminal([*STARTER, "demo"], env, tmp_path / "third.log", cwd=home) as demo:
        await demo.says("Your answer")
        demo.type("Yes.\n")
        assert await demo.ends() == 0
        assert "Yes. by" in demo.output
    assert left(home) == {"march.txt"}


async def test_up_uses_a_server_that_answers(client: Client, home: Path, env: dict[str, str], tmp_path: Path) -> None:
    """It starts a worker only; SIGTERM ends that, and the server stays."""
    env |= {"TEMPORAL_ADDRESS": address_of(client), "ABEYANCE_TASK_QUEUE": f"up-{os.getpid()}"}
    with started([*STARTER, "up", "--json"], env, tmp_path / "up.log", cwd=home) as up:
        said = await up.says('"task_queue"')
        told = json.loads(next(line for line in said.splitlines() if line.startswith("{")))
        assert (told["address"], told["ui"]) == (address_of(client), None)
        children = up.children()
        assert len(children) == 1
        up.send(signal.SIGTERM)
        assert await up.ends() == 130
        assert "Traceback" not in up.output
        await all_gone(children)
    assert await client.count_workflows() is not None


async def test_up_registers_search_attributes(home: Path, env: Mapping[str, str], tmp_path: Path) -> None:
    """Also on a server whose file is older than they are; nobody has to be told of anything then."""
    (home / ".abeyance").mkdir()
    older = DevServer(home / ".abeyance")
    async with older.up() as (client, _):
        assert (await check(client)).named("registered") == []
    with started([*STARTER, "up"], {**env, "TEMPORAL_ADDRESS": older.address}, tmp_path / "up.log", cwd=home) as up:
        said = await up.says("Ctrl-C stops")
        assert "search attribute" not in said
        assert (await check(await Client.connect(older.address))).complete


async def test_sigterm_ends_what_up_started(home: Path, env: Mapping[str, str], tmp_path: Path) -> None:
    """Server and worker end with it."""
    with started([*STARTER, "up"], env, tmp_path / "up.log", cwd=home) as up:
        await up.says("Ctrl-C stops")
        children = up.children()
        assert len(children) == 2
        up.send(signal.SIGTERM)
        assert await up.ends() == 130
        await all_gone(children)
