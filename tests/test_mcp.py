"""Agents whose tools come from a real MCP server, a process of its own that speaks over stdio."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from temporalio.client import Client, WorkflowFailureError

from abeyance.settings import Settings
from tests.chaos.agents import effects_of
from tests.chaos.workers import Nursery
from tests.conftest import Start
from tests.journal_agents import counted
from tests.processes import address_of, is_alive
from tests.support import StartedRun, World, tool_results, until
from tests.test_crash import seen

# Each MCP server costs a second of processor time to start: heartbeat timeouts leave room for several at once.
pytestmark = [pytest.mark.processes, pytest.mark.long]


@pytest.fixture
def queue(client: Client, workspace: Path) -> World:
    """A task queue without a worker."""
    return World(client, Settings(task_queue=f"queue-{uuid.uuid4().hex[:8]}", workspace=workspace))


@pytest.fixture
def nursery(client: Client, workspace: Path) -> Iterator[Nursery]:
    with Nursery(address_of(client), workspace, heartbeat=3.0, agents=["tests.mcp_agents"]) as workers:
        yield workers


def pids(world: World, run: StartedRun, what: str) -> list[int]:
    """The process ids of the run's MCP servers, or of the workers that built its agent, one per attempt."""
    return [int(line["key"]) for line in effects_of(world.workspace, run.id).read() if line["what"] == what]


def work(world: World, run: StartedRun) -> dict[str, int]:
    """How often each tool was started and finished."""
    effects = counted(world.workspace, run.id).items()
    return {what: count for what, count in effects if what.endswith(("start", "finish"))}


async def gone(pid: int) -> None:
    async def look() -> bool:
        return not is_alive(pid)

    await until(look, what=f"the MCP server {pid} to end")


async def killed_in_the_middle(queue: World, nursery: Nursery, *calls: dict[str, Any]) -> list[StartedRun]:
    """One run per call, whose worker was killed while MCP servers worked on all of them; another worker takes over."""
    hold = queue.workspace / "hold"
    hold.touch()
    doomed = nursery.fork(queue.settings.task_queue)
    runs = [await queue.start("mcp", "go", options=options) for options in calls]
    for run, options in zip(runs, calls, strict=True):
        if options.get("ask"):
            await run.reaches("waiting", approvals=1)
            await run.handle.signal("approve")
    for run, options in zip(runs, calls, strict=True):
        await seen(queue, run, f"{bare(options)} start")
        assert set(pids(queue, run, "worker")) == {doomed}
    servers = [pids(queue, run, "server")[-1] for run in runs]
    assert all(is_alive(server) for server in servers)
    nursery.kill(doomed)
    # With its worker a server's standard input is gone, so that it ends, and with it what it was about to do.
    for server in servers:
        await gone(server)
    hold.unlink()
    nursery.fork(queue.settings.task_queue)
    return runs


def bare(options: dict[str, Any]) -> str:
    """The name by which the server knows the tool."""
    return str(options["tool"]).removeprefix("far_")


async def no_servers_left(world: World, run: StartedRun) -> None:
    """Every MCP server that the run ever had has ended."""
    started = pids(world, run, "server")
    assert started
    assert len(set(started)) == len(started)
    for pid in started:
        await gone(pid)


@pytest.mark.parametrize("prefix", ["", "far"])
async def test_an_mcp_tool_in_a_run(prefix: str, start_world: Start) -> None:
    """Each turn has a server of its own, which has ended before the turn's result is told."""
    async with start_world(heartbeat_timeout=20) as world:
        tool = f"{prefix}_send" if prefix else "send"
        run = await world.start("mcp", "go", options={"tool": tool, "ask": True, "prefix": prefix or None})
        asked = (await run.reaches("waiting", approvals=1)).approvals[0]
        assert (asked.tool, asked.input) == (tool, {"n": 1})
        # While people think, no process waits with them.
        assert [is_alive(pid) for pid in pids(world, run, "server")] == [False]
        await run.handle.signal("approve")
        assert (await run.result()).message == "Done."
        assert [is_alive(pid) for pid in pids(world, run, "server")] == [False, False]
        assert work(world, run) == {"send start": 1, "send finish": 1}
        results = await tool_results(world.client, run)
        assert results[0]["status"] == "success"
        assert "send 1 done" in json.dumps(results[0]["content"])


async def test_tools_that_may_be_repeated_are(queue: World, nursery: Nursery) -> None:
    """What has `readOnlyHint` or `idempotentHint` runs again even though approved; what nobody approved does too."""
    calls: list[dict[str, Any]] = [
        {"tool": "look", "ask": True},
        {"tool": "put", "ask": True},
        {"tool": "far_put", "ask": True, "prefix": "far"},
        {"tool": "send"},
    ]
    runs = await killed_in_the_middle(queue, nursery, *calls)
    for run, options in zip(runs, calls, strict=True):
        tool, result = bare(options), await run.result()
        assert result.message == "Done."
        assert [decision.name for decision in result.decisions] == (["approve"] if options.get("ask") else [])
        assert work(queue, run) == {f"{tool} start": 2, f"{tool} finish": 1}
        await no_servers_left(queue, run)


async def test_an_approved_tool_without_a_hint_is_asked_about(queue: World, nursery: Nursery) -> None:
    """Without annotations, or with ones that promise nothing, a person decides what becomes of the call."""
    calls = [{"tool": "send", "ask": True}, {"tool": "pay", "ask": True}, {"tool": "send", "ask": True}]
    runs = await killed_in_the_middle(queue, nursery, *calls)
    responses = ["retry", "skip", {"result": "it went out"}]
    for run, options, response in zip(runs, calls, responses, strict=True):
        asked = (await run.reaches("waiting", approvals=1)).approvals[0]
        assert (asked.name, asked.tool, asked.reason["starts"]) == ("in-doubt", options["tool"], 1)
        assert work(queue, run) == {f"{options['tool']} start": 1}
        await run.handle.signal("respond", {"approval": asked.number, "response": response})
    for run in runs:
        assert (await run.result()).message == "Done."
        await no_servers_left(queue, run)
    assert [work(queue, run) for run in runs] == [
        {"send start": 2, "send finish": 1},
        {"pay start": 1},
        {"send start": 1},
    ]


async def test_a_cancelled_run_ends_its_server(start_world: Start, workspace: Path) -> None:
    """A run that is cancelled while the server works takes the server with it."""
    (workspace / "hold").touch()
    async with start_world(heartbeat_timeout=9) as world:
        run = await world.start("mcp", "go", options={"tool": "send"})
        await seen(world, run, "send start")
        await run.handle.cancel()
        with pytest.raises(WorkflowFailureError):
            await run.result()
        await no_servers_left(world, run)
        assert work(world, run) == {"send start": 1}


async def test_a_server_that_dies_is_a_tool_error(start_world: Start) -> None:
    """The model hears that the call failed, and the turn ends as it would have: nothing is parked or run again."""
    async with start_world(heartbeat_timeout=20) as world:
        run = await world.start("mcp", "go", options={"tool": "collapse"})
        result = await run.result()
        assert result.message == "Done."
        assert result.usage.model_calls == 2
        assert len(pids(world, run, "worker")) == 1
        assert (await tool_results(world.client, run))[0]["status"] == "error"
        await no_servers_left(world, run)


@pytest.mark.parametrize(
    ("how", "problem"),
    [
        ("session manager", "brings a session manager"),
        ("factory", "the licence server is down"),
        ("another server", "/no/such/program"),
    ],
)
async def test_a_refused_agent_leaves_no_server(how: str, problem: str, start_world: Start) -> None:
    """Whatever fails after a server has been started, the server has ended before anybody hears of the failure."""
    async with start_world(heartbeat_timeout=20) as world:
        run = await world.start("mcp-refused", "go", options={"how": how})
        assert problem in ((await run.reaches("parked")).problem or "")
        assert [is_alive(pid) for pid in pids(world, run, "server")] == [False]


async def test_a_cleanup_that_fails_costs_nothing(start_world: Start) -> None:
    """What a turn came to by then is neither lost nor made again."""
    async with start_world(heartbeat_timeout=20) as world:
        run = await world.start("sticky", "go")
        assert (await run.result()).message == "Done."
        assert len(pids(world, run, "worker")) == 1
