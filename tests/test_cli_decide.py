"""Deciding from the command line: by command, and by being asked on a terminal, also a narrow one."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from temporalio.client import Client

from abeyance.cli.questions import Option, chosen, options_of
from abeyance.contracts import Approval
from abeyance.options import offered
from abeyance.runs import Runs
from abeyance.settings import Settings
from tests.chaos.workers import Nursery
from tests.command_line import Cli
from tests.conftest import Start
from tests.processes import Terminal, address_of, environment, on_terminal
from tests.support import World, short, until

AT = "2026-01-02T03:04:05+00:00"


@pytest.fixture
def settings(workspace: Path) -> Settings:
    return Settings(task_queue=f"queue-{uuid4().hex[:8]}", workspace=workspace, heartbeat_timeout=30, shutdown_grace=1)


@pytest.fixture
def cli(client: Client, settings: Settings, tmp_path: Path) -> Cli:
    return Cli(environment(address_of(client), settings))


@contextmanager
def typing_at(cli: Cli, tmp_path: Path, *arguments: str, **env: str) -> Iterator[Terminal]:
    """A command on a terminal of 60 columns, as a telephone shows it."""
    command = [sys.executable, "starter.py", *arguments]
    with on_terminal(command, cli.env | {"COLUMNS": "60"} | env, tmp_path / f"{uuid4().hex}.log") as terminal:
        yield terminal


def wide(output: str) -> list[str]:
    """The lines that a terminal of 60 columns would break somewhere; commands are to be left whole."""
    return [line for line in output.splitlines() if len(line) > 60 and "starter.py" not in line]


async def test_a_decision_is_confirmed_with_what_was_decided(
    cli: Cli, settings: Settings, start_world: Start, tmp_path: Path
) -> None:
    """Several in one command, each on one line, with the tool and its input, who decided, and how it got there."""
    async with start_world(task_queue=settings.task_queue) as world:
        run = await world.start("file-manager", "Delete a.txt; delete b.txt")
        await run.reaches("waiting", approvals=2)
        said = (await cli("approve", run.id, "1", "2", "--by", "ann", "--comment", "fine")).stdout.splitlines()
        assert len(said) == 3
        for line, number, file in zip(said, (1, 2), ("a.txt", "b.txt"), strict=False):
            assert line.startswith(f'{run.id}: {number} delete_files {{"paths": ["{file}"]}}: y by ann, ')
            assert line.endswith("“fine”")
        assert said[-1] == "The run has taken them (update)."
        await run.result()
        assert world.files() == {"c.txt", "d.txt"}
        other = await world.start("file-manager", "Delete c.txt")
        await other.reaches("waiting", approvals=1)
        with typing_at(cli, tmp_path, "deny", other.id, "--by", "bob") as terminal:
            assert 'delete_files {"paths": ["c.txt"]}' in await terminal.says("Answer n to it?")
            terminal.type("sure\n")
            assert "Type y or n." in await terminal.says("Answer n to it?", times=2)
            terminal.type("y\n")
            assert await terminal.ends() == 0
            assert "n by bob" in " ".join(terminal.output.split())
            assert not wide(terminal.output)


async def test_somebody_else_was_faster(cli: Cli, settings: Settings, start_world: Start) -> None:
    """The refusal says who decided what and where the run stands, while it is open and when it has ended."""
    async with start_world(task_queue=settings.task_queue) as world:
        run = await world.start("file-manager", "Delete a.txt; delete b.txt")
        await run.reaches("waiting", approvals=2)
        first, second = ((approval.digest or "")[:8] for approval in (await run.status()).approvals)
        unclear = " ".join((await cli("approve", run.id, status=2)).stderr.split())
        assert f'1@{first} for delete_files {{"paths": ["a.txt"]}}; 2@{second} for delete_files' in unclear
        await cli("deny", run.id, "1", "--by", "ann")
        await run.reaches("waiting", approvals=1, turn=2)
        late = (await cli("approve", run.id, "1", "2", status=4)).stderr
        assert "Nothing was applied." in late
        assert "Approval 1 was already answered 'n' by ann" in late
        assert "Open: 2 (approve-delete). The run is waiting." in late
        assert [approval.number for approval in (await run.status()).approvals] == [2]
        await cli("respond", run.id, "2", "n", "--by", "bob")
        await run.result()
        for arguments, told in (
            (["2"], '2 delete_files {"paths": ["b.txt"]}: n by bob'),
            ([], "n by bob"),
            (["1"], '1 delete_files {"paths": ["a.txt"]}: n by ann'),
        ):
            late = (await cli("approve", run.id, *arguments, status=4)).stderr
            assert "has ended" in late
            assert "The run is completed." in late
            assert told in late
        assert world.files() == {"a.txt", "b.txt", "c.txt", "d.txt"}


async def test_one_response_for_several(cli: Cli, settings: Settings, start_world: Start) -> None:
    async with start_world(task_queue=settings.task_queue) as world:
        run = await world.start("file-manager", "Delete a.txt; delete b.txt")
        await run.reaches("waiting", approvals=2)
        answered = await cli.json("respond", run.id, "#1", "2", "no")
        assert [(d["approval"], d["response"], d["tool"]) for d in answered["decisions"]] == [
            (1, "no", "delete_files"), (2, "no", "delete_files"),
        ]  # fmt: skip
        await run.result()


async def test_without_a_worker_it_says_what_was_sent(
    cli: Cli, settings: Settings, start_world: Start, tmp_path: Path
) -> None:
    """By command, on a terminal that asks, and when the person does not wait for the end of it."""
    async with start_world(task_queue=settings.task_queue) as world:
        run = await world.start("file-manager", "Delete a.txt; delete b.txt; delete c.txt")
        await run.reaches("waiting", approvals=3)
    said = (await cli("approve", run.id, "1", "--by", "ann", ABEYANCE_WORKER_TIMEOUT="1")).stdout
    assert f'{run.id}: sent y to 1 delete_files {{"paths": ["a.txt"]}} by ann' in said
    assert "No worker answered, so it waits as a signal" in said
    with typing_at(cli, tmp_path, "respond", run.id, ABEYANCE_WORKER_TIMEOUT="1") as terminal:
        assert "what was last recorded" in await terminal.says("Which one")
        terminal.type("2\n")
        await terminal.says("Your answer")
        terminal.type("n\n")
        assert await terminal.ends() == 0
        assert "sent n to 2 delete_files" in terminal.output
    with typing_at(cli, tmp_path, "approve", run.id, "3") as terminal:
        await terminal.says("has not answered yet")
        terminal.send(signal.SIGINT)
        assert await terminal.ends() == 130
        assert "Whether it was answered shows in" in terminal.output
        assert "Traceback" not in terminal.output
    async with start_world(task_queue=settings.task_queue) as world:

        async def taken() -> bool:
            return {d.approval for d in (await run.status()).decisions} >= {1, 2}

        await until(taken, what="the answers to be applied")
        assert {"b.txt"} <= world.files()


async def asked(world: World, offer: Any) -> str:
    run = await world.start("offers", "go", options={"offer": offer})
    await run.reaches("waiting", approvals=1)
    return run.id


@pytest.mark.parametrize(
    ("offer", "shown", "typed", "answer"),
    [
        ({"y": "yes", "n": "no", "t": "trust"}, ["y: yes", "n: no", "t: trust"], "t", "t"),
        ({"y": "yes", "n": "no", "t": "trust"}, ["y: yes"], "Trust", "Trust"),
        ({"y": "yes", "l": "later, perhaps"}, ["y: yes"], "Later, perhaps", "l"),
        (["small", "rather large"], ["1: small", "2: rather large"], "2", "rather large"),
        (["small", "rather large"], ["1: small"], "SMALL", "small"),
        ([10, 2], ["10", "2"], "2", 2),
        ({"y": "yes", "n": "no"}, ["y: yes"], "no", "no"),
        ("nothing", [], "as you like", "as you like"),
    ],
)
async def test_respond_offers_what_the_reason_names(
    offer: Any, shown: list[str], typed: str, answer: Any, cli: Cli, settings: Settings, start_world: Start,
    tmp_path: Path,
) -> None:  # fmt: skip
    """What is asked is shown in full on a narrow terminal, and an option can be chosen by its key or its words."""
    async with start_world(task_queue=settings.task_queue) as world:
        run = await asked(world, offer)
        with typing_at(cli, tmp_path, "respond", run, "--by", "bob") as terminal:
            said = await terminal.says("Your answer")
            assert "line one" in said and "line two" in said
            assert said.count("z") == 3_000
            assert not wide(said)
            assert [line.strip() for line in said.splitlines() if line.strip() in shown] == shown
            terminal.type(f"{typed}\n")
            assert await terminal.ends() == 0
        await world.client.get_workflow_handle(run).result()
        assert json.loads((world.workspace / "answer").read_text()) == answer


async def test_several_are_open_and_one_is_picked(
    cli: Cli, settings: Settings, start_world: Start, tmp_path: Path
) -> None:
    """They are listed shortly, one is picked, and only that one is shown in full; null is asked again."""
    async with start_world(task_queue=settings.task_queue) as world:
        run = await world.start("file-manager", "Delete a.txt; delete b.txt")
        await run.reaches("waiting", approvals=2)
        with typing_at(cli, tmp_path, "respond", run.id) as terminal:
            said = await terminal.says("Which one (1, 2)")
            assert "a.txt" in said and "b.txt" in said and "call:" not in said
            terminal.type("7\n")
            assert "Type its number." in await terminal.says("Which one", times=2)
            terminal.type("#2\n")
            said = await terminal.says("Your answer")
            assert said.count("call:") == 1
            assert "reason:" not in said  # it says nothing that the call does not say
            terminal.type("null\n")
            assert "null is no answer" in await terminal.says("Your answer", times=2)
            terminal.type("y\n")
            assert await terminal.ends() == 0
        status = await run.reaches("waiting", approvals=1)
        assert [(d.approval, d.response) for d in status.decisions] == [(2, "y")]


async def test_somebody_answers_while_a_person_thinks(
    cli: Cli, settings: Settings, start_world: Start, tmp_path: Path
) -> None:
    """What is typed then is refused, and the one who was faster is named; with Ctrl-C or Ctrl-D nothing is sent."""
    async with start_world(task_queue=settings.task_queue) as world:
        run = await world.start("file-manager", "Delete a.txt")
        await run.reaches("waiting", approvals=1)
        with typing_at(cli, tmp_path, "respond", run.id) as terminal:
            await terminal.says("Your answer")
            terminal.type("\x04")
            assert await terminal.ends() == 130
            assert f"Nothing was answered; {run.id} goes on waiting." in terminal.output
        with typing_at(cli, tmp_path, "respond", run.id) as terminal:
            await terminal.says("Your answer")
            terminal.interrupt()
            assert await terminal.ends() == 130
            assert f"Nothing was answered; {run.id} goes on waiting." in terminal.output
            assert "Traceback" not in terminal.output
        assert (await run.status()).decisions == []
        with typing_at(cli, tmp_path, "respond", run.id) as terminal:
            await terminal.says("Your answer")
            await run.handle.signal("deny", {"by": "ann"})
            await run.result()
            terminal.type("y\n")
            assert await terminal.ends() == 4
            assert "n by ann" in terminal.output
        with typing_at(cli, tmp_path, "respond", run.id) as terminal:
            assert await terminal.ends() == 4
            assert "Nothing is open" in terminal.output
        assert "a.txt" in world.files()


@pytest.mark.processes
@pytest.mark.parametrize("answers", [True, False], ids=["a worker answers", "none does"])
async def test_a_call_in_doubt_is_settled_on_a_terminal(
    answers: bool, client: Client, cli: Cli, settings: Settings, tmp_path: Path
) -> None:
    """`result` asks what came of the call, so that nobody has to type JSON."""
    world = World(client, settings)
    (settings.workspace / "die-1").touch()
    with Nursery(address_of(client), settings.workspace, heartbeat=short()) as nursery:
        doomed = nursery.fork(settings.task_queue)
        run = await world.start("payer", "go")

        async def dead() -> bool:
            return nursery.has_died(doomed)

        await until(dead, what="the worker to die")
        second = nursery.fork(settings.task_queue)
        await run.reaches("waiting", approvals=1)

        async def recorded() -> bool:
            return bool((await Runs(client, settings.task_queue).summary(run.id)).approvals)

        # A query may be answered before its workflow task is: what a dead worker leaves is what the server has.
        await until(recorded, what="the question to be in the memo")
        if not answers:
            nursery.kill(second)
        with typing_at(
            cli, tmp_path, "respond", run.id, **({} if answers else {"ABEYANCE_WORKER_TIMEOUT": "1"})
        ) as terminal:
            said = await terminal.says("Your answer (retry, skip, result)")
            assert "retry: run it again" in said
            terminal.type("result\n")
            await terminal.says("What came of the call")
            terminal.type("it went through\n")
            assert await terminal.ends() == 0
            assert ("No worker answered" in terminal.output) != answers
        nursery.fork(settings.task_queue)
        assert [d.response for d in (await run.result()).decisions] == [{"result": "it went through"}]


def approval(reason: Any, choices: list[str] | None = None) -> Approval:
    return Approval(1, "id", "ask", reason, None, None, AT, choices=choices, options=offered(reason, []))


@pytest.mark.parametrize(
    ("reason", "choices", "options"),
    [
        (None, None, []),
        ("options", None, []),
        ({"options": {}}, None, []),
        ({"options": "y or n"}, None, []),
        ({"options": {"n": "no", "a": "always", "y": "yes"}}, None, [("y", "y"), ("n", "n"), ("a", "a")]),
        ({"options": ["a", "b", None]}, None, [("1", "a"), ("2", "b")]),
        ({"options": ["5", "7"]}, None, [("5", "5"), ("7", "7")]),
        ({"options": [True, {"a": 1}]}, None, [("true", True), ('{"a": 1}', {"a": 1})]),
        ({"options": {"retry": "again"}}, ["retry", "skip"], [("retry", "retry"), ("skip", "skip")]),
    ],
)
def test_the_options_of_a_question(reason: Any, choices: list[str] | None, options: list[tuple[str, Any]]) -> None:
    assert [(option.typed, option.response) for option in options_of(approval(reason, choices))] == options


@pytest.mark.parametrize(
    ("typed", "response"),
    [
        ("y", "y"), (" Y ", "y"), ("trust", "trust"), ("1", "1"), ("true", True), ("same", "same"), ("2", 2),
        ('"y"', "y"), ("[1]", [1]), ("no thanks", "no thanks"),
    ],
)  # fmt: skip
def test_what_is_typed_means_an_option_where_it_can_mean_only_that(typed: str, response: Any) -> None:
    """Keys come before JSON; a meaning that two options share picks neither."""
    options = [Option("y", "y", "yes"), Option("t", "t", "trust"), Option("1", "1"), Option("a", "a", "same")]
    assert chosen([*options, Option("b", "b", "same")], typed) == response
