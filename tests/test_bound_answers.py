"""An answer counts for what its sender saw, and what is unclear decides nothing: through the doors that people use."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from temporalio.client import Client

from abeyance.contracts import RunStatus
from abeyance.settings import Settings
from tests.chaos.agents import effects_of
from tests.command_line import Cli
from tests.conftest import Start
from tests.processes import Terminal, address_of, environment, on_terminal
from tests.support import StartedRun, World


@pytest.fixture
def settings(workspace: Path) -> Settings:
    return Settings(task_queue=f"queue-{uuid4().hex[:8]}", workspace=workspace, heartbeat_timeout=30, shutdown_grace=1)


@pytest.fixture
def cli(client: Client, settings: Settings, tmp_path: Path) -> Cli:
    return Cli(environment(address_of(client), settings))


@contextmanager
def typing_at(cli: Cli, tmp_path: Path, *arguments: str) -> Iterator[Terminal]:
    command = [sys.executable, "starter.py", *arguments]
    with on_terminal(command, cli.env, tmp_path / f"{uuid4().hex}.log") as terminal:
        yield terminal


def done(world: World, run: StartedRun) -> list[str]:
    """What the run's tools have done, as "pay ada"."""
    return [f"{effect['what']} {effect['key']}" for effect in effects_of(world.workspace, run.id).read()]


async def two_questions(world: World) -> StartedRun:
    """A run that asks about "one" and, as soon as that is answered, about "two"."""
    run = await world.start("clerk", "ask one")
    await run.reaches("waiting", approvals=1)
    await run.handle.execute_update("say", "ask two")
    return run


async def asks_the_second(world: World, run: StartedRun, refused: int) -> RunStatus:
    """Wait until the second question is open, and see that nobody's answer has reached it."""
    await run.refuses(refused)
    status = await run.reaches("waiting", approvals=1, turn=3)
    assert [(a.number, a.input) for a in status.approvals] == [(2, {"text": "two"})]
    assert done(world, run) == ["noted one"]
    assert [d.approval for d in status.decisions] == [1]
    return status


@pytest.mark.parametrize("given", [[], ["may-i"], [{"by": "ann"}], [{"approval": 1}]], ids=["bare", "name", "by", "1"])
async def test_two_people_approve_at_once(given: list[Any], start_world: Start) -> None:
    """The second yes, whether it comes in the same moment or when the next question is open, is for the first one."""
    async with start_world() as world:
        run = await two_questions(world)
        await asyncio.gather(*(run.handle.signal("approve", args=given) for _ in range(2)))
        await asks_the_second(world, run, refused=1)
        await run.handle.signal("approve", args=given)
        status = await asks_the_second(world, run, refused=2)
        words = status.refused[-1].refused or ""
        assert "Open: 2 (may-i)" in words
        assert "already answered" in words or "Send the number" in words or "send the number" in words
        await run.handle.signal("deny", 2)
        await run.result()
        assert done(world, run) == ["noted one"]


async def test_two_people_approve_with_the_command_line(
    cli: Cli, settings: Settings, start_world: Start, tmp_path: Path
) -> None:
    """One looks and thinks, the other is faster: by then another question is open, and it stays open."""
    async with start_world(task_queue=settings.task_queue) as world:
        run = await two_questions(world)
        with typing_at(cli, tmp_path, "approve", run.id) as slow:
            assert '{"text": "one"}' in await slow.says("Answer y to it?")
            await cli("approve", run.id)
            second = await asks_the_second(world, run, refused=0)
            slow.type("y\n")
            assert await slow.ends() == 4
            assert "Approval 1 was already answered" in " ".join(slow.output.split())
        head = (second.approvals[0].digest or "")[:8]
        assert f'2@{head} for ask {{"text": "two"}}' in (await cli("approve", run.id, status=2)).stderr
        assert "already answered" in (await cli("approve", run.id, "1", status=4)).stderr
        assert "is not what you have seen" in (await cli("approve", run.id, "2@00000000", status=4)).stderr
        await asks_the_second(world, run, refused=0)
        await cli("deny", run.id, f"2@{head}")
        await run.result()
        assert done(world, run) == ["noted one"]


@pytest.mark.parametrize("door", ["signals", "starter"])
async def test_a_no_wins_while_no_worker_runs(door: str, cli: Cli, settings: Settings, start_world: Start) -> None:
    """Approved and then denied before anybody acted on it: nothing runs, and the record tells both."""
    async with start_world(task_queue=settings.task_queue) as world:
        run = await world.start("cancels-on-n", "go")
        await run.reaches("waiting", approvals=1)
    if door == "signals":
        await run.handle.signal("approve", {"by": "ann"})
        await run.handle.signal("deny", {"by": "ann"})
        await run.handle.signal("approve", {"by": "eve"})
    else:
        for verb, by in (("approve", "ann"), ("deny", "ann"), ("approve", "eve")):
            await cli(verb, run.id, "--by", by, ABEYANCE_WORKER_TIMEOUT="1")
    async with start_world(task_queue=settings.task_queue) as world:
        result = await run.result()
        assert done(world, run) == []
        applied = [d for d in result.decisions if not d.refused]
        assert [(d.response, d.by, bool(d.displaced)) for d in applied] == [("y", "ann", True), ("n", "ann", False)]
        assert [d.by for d in result.decisions if d.refused] == ["eve"]


@pytest.mark.parametrize("word", ["No.", "nope", " N ", "“no”", {"type": "reject"}, {"action": "deny"}, False])
async def test_a_no_in_any_form_is_a_no(word: Any, start_world: Start) -> None:
    """Also where the hook knows "n" alone."""
    async with start_world() as world:
        run = await world.start("cancels-on-n", "go")
        await run.reaches("waiting", approvals=1)
        await run.handle.signal("respond", word)
        await run.result()
        assert done(world, run) == []


async def test_what_is_unclear_runs_nothing(cli: Cli, settings: Settings, start_world: Start) -> None:
    """It is refused and the question stays open, whatever the hook would make of it; the number alone is no answer."""
    unclear: list[Any] = ["no, do not pay", ["n"], "ok", "what?", {"type": "edit"}, {"a": "n"}, 1, "1", 0, "", {}]
    async with start_world(task_queue=settings.task_queue) as world:
        run = await world.start("cancels-on-n", "go")
        before = await run.reaches("waiting", approvals=1)
        for count, word in enumerate(unclear, 1):
            await run.handle.signal("respond", {"response": word})
            status = await run.refuses(count)
            assert (status.approvals, status.decisions) == (before.approvals, []), word
        assert "no response" in (await cli("respond", run.id, "1", status=2)).stderr
        assert "broken JSON" in (await cli("respond", run.id, "1", '{"a":', status=2)).stderr
        assert "takes a plain yes or no" in (await cli("respond", run.id, "1", "no, do not pay", status=4)).stderr
        assert (await run.status()).approvals == before.approvals
        assert done(world, run) == []
        await run.handle.signal("deny", 1)
        await run.result()
        assert done(world, run) == []


@pytest.mark.parametrize("typed", ["no", "n"])
async def test_a_model_writes_no_menu(
    typed: str, cli: Cli, settings: Settings, start_world: Start, tmp_path: Path
) -> None:
    """An input that says what answers mean is shown as the data it is; who types a no denies."""
    async with start_world(task_queue=settings.task_queue) as world:
        run = await world.start("menu-of-the-model", "go")
        [approval] = (await run.reaches("waiting", approvals=1)).approvals
        assert approval.options == []
        with typing_at(cli, tmp_path, "respond", run.id, "--by", "ann") as terminal:
            said = await terminal.says("Your answer (y, n)")
            assert '"options": {"x": "yes", "y": "no"}' in " ".join(said.split())
            terminal.type("x\n")
            assert "takes a plain yes or no" in await terminal.says("Your answer", times=2)
            terminal.type(f"{typed}\n")
            assert await terminal.ends() == 0
        result = await run.result()
        assert [(d.response, d.denied) for d in result.decisions] == [(typed, True)]
        assert Counter(done(world, run)) == {}


async def test_what_was_typed_before_the_question_is_no_answer(
    cli: Cli, settings: Settings, start_world: Start, tmp_path: Path
) -> None:
    """It is thrown away; what is typed afterwards counts, and is asked again until it is clear."""
    async with start_world(task_queue=settings.task_queue) as world:
        run = await world.start("cancels-on-n", "go")
        await run.reaches("waiting", approvals=1)
        with typing_at(cli, tmp_path, "respond", run.id) as terminal:
            terminal.type("y\ny\n")
            await terminal.says("Your answer")
            for times, word in enumerate(("what?", "ok", '{"a":', ""), 2):
                terminal.type(f"{word}\n")
                await terminal.says("Your answer", times=times)
            assert (await run.status()).decisions == []
            terminal.type("no\n")
            assert await terminal.ends() == 0
        await run.result()
        assert done(world, run) == []
        assert [d.response for d in (await run.status()).decisions] == ["no"]
