"""Nobody sits at a worker's keyboard: what reads from it fails, and says how to ask a person."""

from __future__ import annotations

import sys
import uuid
from pathlib import Path

import pytest
from temporalio.client import Client

from abeyance.settings import Settings
from tests.processes import address_of, environment, on_terminal, worker_process
from tests.stdin_agents import ASK
from tests.support import ROOT, World, tool_results

pytestmark = pytest.mark.processes


async def test_what_reads_standard_input_fails_with_words(client: Client, workspace: Path, tmp_path: Path) -> None:
    settings = Settings(task_queue=f"queue-{uuid.uuid4().hex[:8]}", workspace=workspace)
    async with worker_process(client, settings, tmp_path / "log", ABEYANCE_AGENTS="tests.stdin_agents"):
        world = World(client, settings)
        run = await world.start("asks-the-keyboard", "go")
        await run.result()
        told = [one["content"][0]["text"] for one in await tool_results(client, run)]
        assert len(told) == len(ASK) + 1
        for how, text in zip(ASK, told, strict=False):
            assert "ToolContext.interrupt" in text, (how, text)
        assert told[-1] == "b''"
        asked = await world.start("asks-the-keyboard", "go", options={"hitl": True})
        assert "interrupt" in ((await asked.reaches("parked")).problem or "")


async def test_what_is_typed_on_a_workers_own_terminal_is_no_answer(
    client: Client, workspace: Path, tmp_path: Path
) -> None:
    """Neither `getpass`, which opens the terminal by itself, nor a child reads it."""
    settings = Settings(task_queue=f"queue-{uuid.uuid4().hex[:8]}", workspace=workspace)
    owns = "import fcntl, runpy, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0)"
    program = f"{owns}; runpy.run_path({str(ROOT / 'worker.py')!r}, run_name='__main__')"
    env = environment(address_of(client), settings, ABEYANCE_AGENTS="tests.stdin_agents")
    with on_terminal([sys.executable, "-c", program], env, tmp_path / "log") as worker:
        worker.type("yes\n" * 20 + "\x04")
        run = await World(client, settings).start("asks-the-keyboard", "go")
        await run.result()
    told = [one["content"][0]["text"] for one in await tool_results(client, run)]
    assert told.pop() == "b''"
    assert [text for text in told if "ToolContext.interrupt" not in text] == []
    assert len(told) == len(ASK)
