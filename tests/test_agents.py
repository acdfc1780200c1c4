"""The three agents on real files, through every door that people use."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Awaitable, Callable

import pytest

from abeyance.devserver import temporal_binary
from tests import forks
from tests.conftest import Start
from tests.support import PATIENCE, ROOT, StartedRun, World

AGENTS = {
    # agent, what it is asked, which files an approval deletes
    "file-manager": ("Delete a.txt and b.txt", {"a.txt", "b.txt"}),
    "smart-delete": ("Delete a.txt, b.txt and c.txt", {"a.txt", "b.txt", "c.txt"}),
    "trusted-file-manager": ("Delete a.txt", {"a.txt"}),
}
ALL = {"a.txt", "b.txt", "c.txt", "d.txt"}


async def program(world: World, *command: str) -> str:
    """Run a program against the test's server; give its output, or fail with its errors."""
    env = os.environ | {
        "TEMPORAL_ADDRESS": world.client.service_client.config.target_host,
        "ABEYANCE_TASK_QUEUE": world.settings.task_queue,
    }
    done = await asyncio.to_thread(forks.run, command, env, ROOT, PATIENCE)
    assert done.returncode == 0, f"{command} gave {done.returncode}: {done.stderr}"
    return done.stdout


async def by_starter(world: World, agent: str, prompt: str) -> StartedRun:
    out = await program(world, sys.executable, "starter.py", "start", agent, prompt, "--json")
    return StartedRun(world.client.get_workflow_handle(json.loads(out)["run"], result_type=None))


async def by_temporal_cli(world: World, agent: str, prompt: str) -> StartedRun:
    run = f"cli-{agent}-{os.urandom(4).hex()}"
    await program(
        world, temporal_binary(), "workflow", "start", "--type", "AgentRun", "--task-queue", world.settings.task_queue,
        "--workflow-id", run, "--input", json.dumps({"agent": agent, "prompt": prompt}),
    )  # fmt: skip
    return StartedRun(world.client.get_workflow_handle(run))


async def answer_with_starter(world: World, run: str, response: str) -> None:
    verb = {"y": ["approve", run], "n": ["deny", run]}.get(response, ["respond", run, response])
    await program(world, sys.executable, "starter.py", *verb)


async def answer_with_signal(world: World, run: str, response: str) -> None:
    names = {"y": ["approve"], "n": ["deny"]}.get(response, ["respond", "--input", json.dumps(response)])
    await program(world, temporal_binary(), "workflow", "signal", "-w", run, "--name", *names)


async def answer_with_update(world: World, run: str, response: str) -> None:
    payload = json.dumps({"approval": 1, "response": response})
    await program(
        world, temporal_binary(), "workflow", "update", "execute", "-w", run, "--name", "decide", "--input", payload
    )


Door = Callable[[World, str, str], Awaitable[None]]
DOORS: dict[str, Door] = {
    "starter": answer_with_starter,
    "signal": answer_with_signal,
    "update": answer_with_update,
}


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("agent", AGENTS)
@pytest.mark.parametrize("response", ["y", "n"])
async def test_a_person_decides(agent: str, door: str, response: str, start_world: Start) -> None:
    """Started and answered from outside, each agent deletes what was approved and keeps what was denied."""
    prompt, concerned = AGENTS[agent]
    start = by_starter if response == "y" else by_temporal_cli
    async with start_world() as world:
        run = await start(world, agent, prompt)
        status = await run.reaches("waiting", approvals=1)
        assert status.approvals[0].tool == "delete_files"
        assert set(status.approvals[0].input["paths"]) == concerned
        assert world.files() == ALL
        await DOORS[door](world, run.id, response)
        result = StartedRun(world.client.get_workflow_handle(run.id))
        await result.result()
        assert world.files() == (ALL - concerned if response == "y" else ALL)
        decided = (await run.status()).decisions
        assert [decision.response for decision in decided] == [response]
        assert decided[0].via.startswith("update" if door == "starter" else door)


@pytest.mark.parametrize("door", DOORS)
async def test_trust_is_asked_for_once_in_a_run(door: str, start_world: Start) -> None:
    """After "t", a later batch of the same run is not asked about; both deletions really happen."""
    async with start_world() as world:
        run = await world.start("trusting-twice", "go")
        await run.reaches("waiting", approvals=1)
        await DOORS[door](world, run.id, "t")
        result = await run.result()
        assert [decision.response for decision in result.decisions] == ["t"]
        assert world.files() == ALL - {"a.txt", "b.txt"}


async def test_two_calls_in_one_message_are_two_approvals(world: World) -> None:
    """One is approved and one denied, and the file system shows exactly that."""
    run = await world.start("file-manager", "Delete a.txt; delete b.txt")
    status = await run.reaches("waiting", approvals=2)
    assert [(a.number, a.input) for a in status.approvals] == [(1, {"paths": ["a.txt"]}), (2, {"paths": ["b.txt"]})]
    await run.handle.signal("deny", 1)
    status = await run.reaches("waiting", approvals=1, turn=2)
    assert [approval.number for approval in status.approvals] == [2]
    assert world.files() == ALL
    await run.handle.signal("approve", 2)
    result = await run.result()
    assert world.files() == ALL - {"b.txt"}
    assert [(d.approval, d.response) for d in result.decisions] == [(1, "n"), (2, "y")]


async def test_the_threshold_of_smart_delete_is_an_option(start_world: Start) -> None:
    """Below the threshold nobody is asked; the option moves it."""
    async with start_world() as world:
        below = await world.start("smart-delete", "Delete a.txt and b.txt")
        assert (await below.result()).decisions == []
        assert world.files() == {"c.txt", "d.txt"}
        above = await world.start("smart-delete", "Delete c.txt", options={"threshold": 1})
        status = await above.reaches("waiting", approvals=1)
        assert status.approvals[0].reason["count"] == 1
        assert status.approvals[0].reason["paths"] == ["c.txt"]
        assert "message" in status.approvals[0].reason
        assert world.files() == {"c.txt", "d.txt"}


@pytest.mark.parametrize("answer", ["N", "No.", False, {"approve": False}, {"type": "reject"}])
async def test_a_no_cancels(answer: object, start_world: Start) -> None:
    """Whatever form it has, it cancels the call, and the model is told."""
    async with start_world() as world:
        run = await world.start("file-manager", "Delete a.txt")
        await run.reaches("waiting", approvals=1)
        await run.handle.signal("respond", {"approval": 1, "response": answer})
        result = await run.result()
        assert "a.txt" in world.files()
        assert "denied" in result.message


@pytest.mark.parametrize("answer", ["Y", "yes", {"approve": True}, "t", True])
async def test_a_plain_yes_permits(answer: object, start_world: Start) -> None:
    """Nothing else does: what is unclear is refused, decides nothing and leaves the question open."""
    async with start_world() as world:
        run = await world.start("file-manager", "Delete a.txt")
        before = await run.reaches("waiting", approvals=1)
        for count, unclear in enumerate(["", 0, "ok", "y but not all of them", ["y"], {"approve": "perhaps"}], 1):
            await run.handle.signal("respond", {"approval": 1, "response": unclear})
            status = await run.refuses(count)
            assert "takes a plain yes or no" in (status.refused[-1].refused or "")
            assert (status.approvals, status.decisions) == (before.approvals, [])
        assert "a.txt" in world.files()
        await run.handle.signal("respond", answer)
        await run.result()
        assert "a.txt" not in world.files()
