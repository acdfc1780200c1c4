"""All of a question is shown somewhere, whatever its length, and only who has looked there can say yes."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from temporalio.api.sdk.v1 import WorkflowMetadata
from temporalio.client import Client

from abeyance.contracts import Approval
from abeyance.digests import digest_of
from abeyance.runs import Runs
from abeyance.settings import Settings
from abeyance.whole_questions import Record
from tests.command_line import Cli
from tests.conftest import Start
from tests.processes import address_of, environment, on_terminal
from tests.support import StartedRun, World, a_key, with_converter

PATHS = [f"/data/scratch/{n}" for n in range(1_801)]
PATHS[900] = "/data/production"
"""What a person has to see before they say yes to the rest."""


@pytest.fixture
def settings(workspace: Path) -> Settings:
    return Settings(task_queue=f"queue-{uuid4().hex[:8]}", workspace=workspace, heartbeat_timeout=5, shutdown_grace=1)


@pytest.fixture
def cli(client: Client, settings: Settings, tmp_path: Path) -> Cli:
    return Cli(environment(address_of(client), settings))


async def asking(world: World, given: Any, **options: Any) -> StartedRun:
    run = await world.start("says", "go", options={"input": given, "name": "may-i"} | options)
    await run.reaches("waiting", approvals=1)
    return run


def digest_in(text: str) -> str:
    found = re.search(r"digest: ([0-9a-f]{64})", text)
    assert found, text
    return found[1]


async def test_a_long_call_is_answered_with_the_digest_that_stands_where_all_of_it_is(
    cli: Cli, settings: Settings, start_world: Start
) -> None:
    """Nothing that shows a part offers a yes or tells the digest; a no needs none."""
    async with start_world(task_queue=settings.task_queue) as world:
        run = await asking(world, PATHS)
        full = (await cli("show", run.id, "--full")).stdout
        digest = digest_in(full)
        assert all(path in full for path in PATHS)
        listed = [line for line in (await cli("pending")).stdout.splitlines() if run.id in line or "--full" in line]
        metadata = await run.handle.query("__temporal_workflow_metadata", result_type=WorkflowMetadata)
        memo = await (await run.handle.describe()).memo()
        for told in ((await cli("show", run.id)).stdout, "\n".join(listed), metadata.current_details):
            assert "approve" not in told
            assert "production" not in told
            assert re.search(r"\(\+\d+ (characters|items)\)|\d+ characters are left out", told)
            assert "--full" in told
            assert digest[:8] not in told
        assert digest[:8] not in f"{memo} {await run.status()}"
        for refused in ({"approval": 1}, {"approval": 1, "digest": "0" * 8}, 1, None):
            await run.handle.signal("approve", *([] if refused is None else [refused]))
        status = await run.refuses(4)
        assert all(digest[:8] not in str(decision.refused) for decision in status.refused)
        assert not (world.workspace / "acted").exists()
        assert "--full" in (await cli("approve", run.id, "1", status=4)).stderr
        await cli("approve", run.id, f"1@{digest[:8]}")
        await run.result()
        assert (world.workspace / "acted").exists()
        denied = await asking(world, PATHS)
        await cli("deny", denied.id, "1")
        [decision] = (await denied.result()).decisions
        assert decision.response == "n"


@pytest.mark.parametrize("where", ["rewritten", "reason"])
async def test_what_stands_in_no_message_is_shown_too(
    where: str, cli: Cli, settings: Settings, start_world: Start
) -> None:
    """A call that a hook has changed, and a reason."""
    more: dict[str, Any] = {"rewritten": PATHS} if where == "rewritten" else {"reason": {"paths": PATHS}}
    async with start_world(task_queue=settings.task_queue) as world:
        run = await asking(world, ["short"], **more)
        [approval] = (await cli.json("show", run.id))["approvals"]
        assert approval["left_out"] == 0
        shown = approval["input"]["arguments"] if where == "rewritten" else approval["reason"]["paths"]
        assert shown == PATHS
        await cli("approve", run.id, f"1@{approval['digest'][:8]}")
        await run.result()


async def test_it_is_shown_without_a_worker_and_with_keys(
    cli: Cli, settings: Settings, start_world: Start, workspace: Path, client: Client
) -> None:
    """From the history, which is encrypted here; and where there is no worker, from nothing else."""
    keys = a_key("k")
    async with start_world(task_queue=settings.task_queue, keys=keys) as world:
        run = await asking(world, PATHS)
    cli.env |= {"ABEYANCE_KEYS": keys, "ABEYANCE_WORKER_TIMEOUT": "1"}
    told = (await cli("show", run.id, "--full")).stdout
    assert "/data/production" in told
    digest_in(told)
    assert "/data/production" not in (await cli("show", run.id)).stdout
    [approval] = (await cli.json("show", run.id))["approvals"]
    assert approval["input"]["arguments"] == PATHS


async def test_what_there_is_no_room_for_can_be_denied_only(cli: Cli, settings: Settings, start_world: Start) -> None:
    """It is said, and no digest is told."""
    async with start_world(task_queue=settings.task_queue) as world:
        run = await asking(world, ["short"], noise=600_000)
        told = (await cli("show", run.id, "--full")).stdout
        assert "digest:" not in told
        assert "approve" not in told
        assert re.search(r"not all of it: \d+ characters are left out", told)
        [approval] = (await cli.json("show", run.id))["approvals"]
        assert approval["left_out"] > 500_000
        assert approval["digest"] is None
        await cli("deny", run.id, "1")
        await run.result()


async def test_what_was_asked_before_is_shown_whole(cli: Cli, settings: Settings, start_world: Start) -> None:
    """After its end, too: of an answered call the story keeps the beginning, and the history all."""
    async with start_world(task_queue=settings.task_queue) as world:
        run = await asking(world, PATHS[800:1_000])
        await run.handle.signal("deny", 1)
        await run.result()
        assert "/data/production" not in (await cli("show", run.id)).stdout
        assert "/data/production" in (await cli("show", run.id, "--full")).stdout
        [approval] = (await cli.json("show", run.id, "--full"))["closed"]
        assert approval["input"]["arguments"] == PATHS[800:1_000]


async def test_a_person_on_a_terminal_sees_all_before_they_are_asked(
    cli: Cli, settings: Settings, start_world: Start, tmp_path: Path
) -> None:
    async with start_world(task_queue=settings.task_queue) as world:
        run = await asking(world, PATHS)
        command = [sys.executable, "starter.py", "respond", run.id]
        with on_terminal(command, cli.env, tmp_path / "terminal.log") as terminal:
            said = await terminal.says("Your answer")
            assert '"/data/production"' in "".join(said.split())
            terminal.type("y\n")
            assert await terminal.ends() == 0
        await run.result()
        assert (world.workspace / "acted").exists()


async def test_it_is_told_by_the_history_alone(settings: Settings, start_world: Start) -> None:
    """A call that is not what its digest says is not taken for it."""
    async with start_world(task_queue=settings.task_queue) as world:
        run = await asking(world, PATHS)
        runs = Runs(with_converter(world.client, world.settings), settings.task_queue)
        [approval] = (await run.status()).approvals
        [whole] = await runs.in_full(run.id, [approval])
        assert whole.input == {"arguments": PATHS}
        other = Approval(1, "v1:nobody:knows", "x", None, "act", {}, approval.asked_at, left_out=5)
        assert await runs.in_full(run.id, [other]) == [other]


@pytest.mark.parametrize(("said", "whole"), [(1, True), (2, False)])
def test_what_is_not_what_its_digest_says_is_not_shown_for_it(said: int, whole: bool) -> None:
    """However it came into the history."""
    question = {"id": "q", "tool": "act", "tool_use_id": "use", "left_out": 5, "calls": [{"id": "use", "tool": "act"}]}
    use = {"toolUseId": "use", "name": "act", "input": said}
    record = Record()
    record.take({"questions": [question | {"digest": digest_of({"tool": "act", "input": 1})}]})
    record.take({"delta": {"messages": [[0, 3], {"content": [{"toolUse": use}]}]}})
    approval = Approval(1, "q", "x", None, "act", "cut", "2026-01-01", left_out=5)
    found = record.whole(approval)
    assert (found.input, found.left_out) == ((1, 0) if whole else ("cut", 5))
