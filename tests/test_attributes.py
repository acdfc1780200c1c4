"""Search attributes: found by the server's own queries where they are registered, and never missed where not."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration
from hypothesis import given
from hypothesis import strategies as st
from temporalio import activity
from temporalio.api.enums.v1 import EventType, IndexedValueType
from temporalio.api.operatorservice.v1 import (
    AddSearchAttributesRequest,
    ListSearchAttributesRequest,
    RemoveSearchAttributesRequest,
)
from temporalio.api.workflowservice.v1 import RegisterNamespaceRequest
from temporalio.client import Client
from temporalio.service import RPCError
from temporalio.worker import Worker

from abeyance import attributes
from abeyance.attributes import APPROVALS, LOST, MORE, TYPES, Lookup, check, query, register, values, word
from abeyance.contracts import TURN_ACTIVITY, Question, RunRequest, TurnInput, TurnResult, Work
from abeyance.conversation_ids import next_id
from abeyance.devserver import temporal_binary
from abeyance.formats import FORMAT
from abeyance.runs import Runs
from abeyance.settings import Settings
from tests import forks
from tests.conftest import Start
from tests.processes import address_of, environment, time_skipping, worker_process
from tests.support import PATIENCE, ROOT, StartedRun, World, until
from workflows.agent_run import AgentRun

Namespace = Callable[..., Awaitable[Client]]
UPSERTED = EventType.EVENT_TYPE_UPSERT_WORKFLOW_SEARCH_ATTRIBUTES
FAILED = EventType.EVENT_TYPE_WORKFLOW_TASK_FAILED


@pytest.fixture
def namespace(client: Client) -> Namespace:
    """Makes a new namespace, with nothing registered but what is given: `await namespace(AbeyanceOpen="TEXT")`."""

    async def make(**types: str) -> Client:
        name = f"attributes-{uuid.uuid4().hex[:8]}"
        await client.workflow_service.register_namespace(
            RegisterNamespaceRequest(namespace=name, workflow_execution_retention_period=Duration(seconds=86_400))
        )
        made = await Client.connect(address_of(client), namespace=name)

        async def known() -> bool:
            try:
                await made.count_workflows()
                if types:
                    await add(made, **types)
            except RPCError:
                return False
            return True

        await until(known, what="the namespace to be known")
        return made

    return make


async def add(client: Client, **types: str) -> None:
    numbers = {name: IndexedValueType.Value(f"INDEXED_VALUE_TYPE_{type_}") for name, type_ in types.items()}
    await client.operator_service.add_search_attributes(
        AddSearchAttributesRequest(namespace=client.namespace, search_attributes=numbers)
    )


async def remove(client: Client, *names: str) -> None:
    await client.operator_service.remove_search_attributes(
        RemoveSearchAttributesRequest(namespace=client.namespace, search_attributes=names)
    )


async def found(client: Client, condition: str) -> set[str]:
    """The ids of the runs that `temporal workflow list` finds."""
    command = [temporal_binary(), "workflow", "list", "--address", address_of(client), "-n", client.namespace]
    done = await asyncio.to_thread(
        subprocess.run,
        [*command, "--query", condition, "-o", "json"],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return {listed["execution"]["workflowId"] for listed in json.loads(done.stdout)}


async def is_found(run: StartedRun, client: Client, condition: str) -> None:
    """Wait until the run is found, and only it."""
    condition = f"WorkflowId = '{run.id}' AND {condition}"

    async def look() -> bool:
        return await found(client, condition) == {run.id}

    await until(look, what=f"the run to be found by {condition}")


async def events(run: StartedRun, kind: EventType.ValueType) -> int:
    history = await run.handle.fetch_history()
    return sum(event.event_type == kind for event in history.events)


def runs_of(world: World) -> Runs:
    return Runs(world.client, world.settings.task_queue)


async def begin(world: World, agent: str, prompt: str = "go") -> StartedRun:
    """Start a run as `starter.py` does."""
    run = await runs_of(world).start(RunRequest.parse({"agent": agent, "prompt": prompt}))
    return StartedRun(world.client.get_workflow_handle(run))


async def test_the_server_finds_runs_by_what_they_wait_for(world: World) -> None:
    """By agent, state, number and name of open approvals, from the first question to the end."""
    run = await begin(world, "file-manager", "Delete a.txt; delete b.txt")
    await run.reaches("waiting", approvals=2)
    await is_found(run, world.client, "AbeyanceState = 'waiting' AND AbeyanceOpen = 2")
    await is_found(run, world.client, "AbeyanceAgent = 'file-manager' AND AbeyanceApprovals = 'approve-delete'")
    assert await found(world.client, f"WorkflowId = '{run.id}' AND AbeyanceAgent = 'smart-delete'") == set()
    await run.handle.signal("approve", 1)
    await is_found(run, world.client, "AbeyanceOpen = 1")
    await run.handle.signal("deny", 2)
    await run.handle.result()
    await is_found(run, world.client, "AbeyanceState = 'completed' AND AbeyanceOpen = 0 AND AbeyanceApprovals IS NULL")
    assert await events(run, FAILED) == 0


async def test_a_run_that_is_cancelled_no_longer_waits(world: World) -> None:
    run = await begin(world, "file-manager", "Delete a.txt")
    await run.reaches("waiting")
    await is_found(run, world.client, "AbeyanceState = 'waiting'")
    await run.handle.cancel()
    await is_found(run, world.client, "AbeyanceState = 'cancelled' AND AbeyanceOpen = 0")


async def test_a_run_has_its_attributes_before_any_worker_takes_it(client: Client) -> None:
    run = await begin(World(client, Settings(task_queue=f"nobody-{uuid.uuid4().hex[:8]}")), "file-manager")
    await is_found(run, client, "AbeyanceState = 'running' AND AbeyanceAgent = 'file-manager' AND AbeyanceOpen = 0")
    await run.handle.terminate()


async def test_a_run_that_was_started_by_hand_gets_them_after_its_first_turn(world: World) -> None:
    run = await world.start("file-manager", "Delete a.txt")
    await run.reaches("waiting")
    await is_found(run, world.client, "AbeyanceState = 'waiting' AND AbeyanceApprovals = 'approve-delete'")


async def test_a_run_is_parked_in_its_first_turn(world: World) -> None:
    """No turn has said that the attributes are registered; the run's start has, where it was ours."""
    ours = await begin(world, "no-such-agent")
    by_hand = await world.start("no-such-agent", "go")
    for run in (ours, by_hand):
        await run.reaches("parked")
    await is_found(ours, world.client, "AbeyanceState = 'parked' AND AbeyanceAgent = 'no-such-agent'")

    async def both() -> bool:
        parked = {run.run: run.parked_at for run in await runs_of(world).waiting(agent="no-such-agent")}
        return bool(parked.get(ours.id) and parked.get(by_hand.id))

    await until(both, what="both runs to be in the inbox, with the time since when they are")
    for run in (ours, by_hand):
        await run.handle.signal("abort")
    await is_found(ours, world.client, "AbeyanceState = 'failed'")


async def test_without_attributes_runs_work_and_set_none(namespace: Namespace, start_world: Start) -> None:
    client = await namespace()
    async with start_world(client) as world:
        run = await begin(world, "file-manager", "Delete a.txt")
        await run.reaches("waiting")

        async def listed() -> bool:
            return [r.run for r in await runs_of(world).waiting(name="approve-delete")] == [run.id]

        await until(listed, what="the run to be in the inbox")
        await run.handle.signal("approve")
        await run.handle.result()
    assert "a.txt" not in world.files()
    assert (await events(run, UPSERTED), await events(run, FAILED)) == (0, 0)


@pytest.mark.parametrize("name", sorted(TYPES))
async def test_one_of_another_type_is_enough_to_set_none(name: str, namespace: Namespace, start_world: Start) -> None:
    client = await namespace(**{name: "BOOL"})
    standing = await register(client)
    assert [(wrong.name, wrong.found) for wrong in standing.named("wrong type")] == [(name, "Bool")]
    assert not standing.complete
    assert f"{name} of the namespace {client.namespace!r} has the type Bool, not {TYPES[name]}" in standing.words()
    async with start_world(client) as world:
        run = await begin(world, "file-manager", "Delete a.txt")
        await run.reaches("waiting")
        await run.handle.signal("approve")
        await run.handle.result()
    assert (await events(run, UPSERTED), await events(run, FAILED)) == (0, 0)


async def test_they_are_registered_once(namespace: Namespace) -> None:
    client = await namespace(AbeyanceOpen="INT")
    lacking = await check(client)
    assert {a.name for a in lacking.named("missing")} == {*TYPES} - {"AbeyanceOpen"}
    assert LOST in lacking.words()
    assert [a.state for a in (await register(client)).attributes] == ["added", "added", "registered", "added"]
    again = await register(client)
    assert ([a.state for a in again.attributes], again.words()) == (["registered"] * 4, "")
    listed = await client.operator_service.list_search_attributes(
        ListSearchAttributesRequest(namespace=client.namespace)
    )
    assert set(listed.custom_attributes) == {*TYPES}


async def test_the_server_has_no_room_for_them(namespace: Namespace) -> None:
    client = await namespace(A="KEYWORD_LIST", B="KEYWORD_LIST", C="KEYWORD_LIST")
    standing = await register(client)
    assert not standing.complete
    assert "could not be added" in standing.words()
    assert "cannot have more than 3 search attribute of type KeywordList" in standing.words()


async def test_a_server_that_knows_no_operators(start_world: Start) -> None:
    """The time-skipping server refuses the look-up; runs work, and the commands are for whoever may."""
    async with await time_skipping() as server:
        standing = await register(server.client)
        assert "does not let this client" in standing.words()
        assert await Lookup(server.client).registered(5) is None
        assert standing.commands()[-1] == (
            "tcld namespace search-attributes add --namespace default --search-attribute AbeyanceAgent=Keyword "
            "--search-attribute AbeyanceState=Keyword --search-attribute AbeyanceOpen=Int "
            "--search-attribute AbeyanceApprovals=KeywordList"
        )
        async with start_world(server.client) as world:
            run = await begin(world, "file-manager", "Delete a.txt")
            await run.reaches("waiting")
            await run.handle.signal("approve")
            await run.handle.result()
        assert "a.txt" not in world.files()


async def test_the_commands_that_are_shown_do_it(namespace: Namespace) -> None:
    """What an operator is told to type on a server of his own, for attributes that are missing or of another type."""
    client = await namespace(AbeyanceOpen="TEXT")
    for command in (await register(client)).commands() + (await check(await namespace())).commands():
        if command.startswith("temporal") and client.namespace in command:
            words = [temporal_binary(), *command.split()[1:], "--address", address_of(client)]
            words += ["--yes"] if "remove" in words else []
            done = await asyncio.to_thread(subprocess.run, words, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr
    assert (await check(client)).complete


async def test_the_server_is_asked_once_a_minute(namespace: Namespace, monkeypatch: pytest.MonkeyPatch) -> None:
    client = await namespace()
    lookup = Lookup(client)
    assert await lookup.registered(5) is False
    await register(client)
    assert await lookup.registered(5) is False
    monkeypatch.setattr(attributes, "REFRESH_SECONDS", 0.0)
    lookup = Lookup(client)
    assert await lookup.registered(5) is True
    await remove(client, "AbeyanceOpen")
    assert await lookup.registered(5) is False


async def test_removed_after_they_were_looked_up(namespace: Namespace) -> None:
    """A client that believes them registered still starts its run, and still finds what waits."""
    client = await namespace()
    await register(client)
    runs = Runs(client, f"nobody-{uuid.uuid4().hex[:8]}")
    assert await runs.attributes.registered()
    await remove(client, "AbeyanceOpen")
    run = await runs.start(RunRequest.parse({"agent": "file-manager", "prompt": "go"}))
    assert await runs.waiting() == []
    await client.get_workflow_handle(run).terminate()


async def test_removed_while_a_run_waits(namespace: Namespace, start_world: Start) -> None:
    """The run is held up, and goes on when `setup` has put them back."""
    client = await namespace()
    await register(client)
    async with start_world(client) as world:
        run = await begin(world, "file-manager", "Delete a.txt")
        await run.reaches("waiting")
        await remove(client, "AbeyanceState")
        await run.handle.signal("approve")

        async def held_up() -> bool:
            return await events(run, FAILED) > 0

        await until(held_up, what="the run to be held up")
        assert "a.txt" in world.files()
        assert (await register(client)).complete
        await run.result()
        assert "a.txt" not in world.files()


@pytest.mark.parametrize(("second", "upserts"), [(None, 3), (True, 3), (False, 2)])
async def test_only_history_decides(client: Client, second: bool | None, upserts: int) -> None:
    """A turn whose worker could not look leaves it at what is known; one that saw them missing ends it."""
    said = iter([True, second])

    @activity.defn(name=TURN_ACTIVITY)
    async def turn(given: TurnInput) -> TurnResult:
        asked = [Question("q", "ask")] if given.number == 1 else []
        delta: dict[str, Any] = {"messages": []}
        known = next_id(given.conversation, delta)
        more: dict[str, Any] = {"work": Work(1, "worker"), "format": FORMAT, "attributes": next(said)}
        return TurnResult("interrupt" if asked else "end_turn", "", known, delta, questions=asked, **more)

    queue = f"queue-{uuid.uuid4().hex[:8]}"
    async with Worker(client, task_queue=queue, workflows=[AgentRun], activities=[turn]):
        run = await World(client, Settings(task_queue=queue)).start("any", "go")
        await run.reaches("waiting")
        await run.handle.signal("approve")
        await run.result()
    # Waiting, running, and completed, which is not set if the second turn saw them missing.
    assert await events(run, UPSERTED) == upserts


async def test_the_worker_says_once_what_is_lost(namespace: Namespace, workspace: Path, tmp_path: Path) -> None:
    client = await namespace()
    settings = Settings(task_queue=f"queue-{uuid.uuid4().hex[:8]}", workspace=workspace)
    env = {"TEMPORAL_NAMESPACE": client.namespace}
    async with worker_process(client, settings, tmp_path / "worker.log", **env) as worker:
        assert worker.output.count(LOST) == 1
        assert "starter.py setup" in worker.output
        run = await begin(World(client, settings), "file-manager", "Delete a.txt")
        await run.reaches("waiting")
        assert worker.output.count(LOST) == 1


async def starter(client: Client, *arguments: str, status: int = 0) -> subprocess.CompletedProcess[str]:
    env = environment(address_of(client), TEMPORAL_NAMESPACE=client.namespace)
    done = await asyncio.to_thread(forks.run, [sys.executable, "starter.py", *arguments], env, ROOT, PATIENCE)
    assert done.returncode == status, done.stderr
    return done


async def test_setup(namespace: Namespace) -> None:
    """It says what was added and what was there, and leaves with 1 and one line where something is wrong."""
    client = await namespace()
    hint = (await starter(client, "pending")).stderr
    assert len(hint.splitlines()) == 1
    assert "setup" in hint
    told = json.loads((await starter(client, "setup", "--json")).stdout)
    assert ({a["state"] for a in told["attributes"]}, told["complete"], told["commands"]) == ({"added"}, True, [])
    shown = await starter(client, "setup")
    assert shown.stdout.count("registered") == len(TYPES)
    assert (await starter(client, "pending")).stderr == ""
    wrong = await namespace(AbeyanceOpen="TEXT")
    refused = await starter(wrong, "setup", status=1)
    assert len(refused.stderr.splitlines()) == 1
    assert "AbeyanceOpen" in refused.stderr
    assert f"temporal operator search-attribute remove --namespace {wrong.namespace}" in refused.stdout
    told = json.loads((await starter(wrong, "setup", "--json", status=1)).stdout)
    assert [(a["name"], a["found"]) for a in told["attributes"] if a["state"] == "wrong type"] == [
        ("AbeyanceOpen", "Text")
    ]


@given(st.text(), st.lists(st.text() | st.text(min_size=90, max_size=300), max_size=40))
def test_no_value_is_too_large_for_the_server(agent: str, names: list[str]) -> None:
    """It takes 2,048 bytes of JSON, and ends a run that sets more."""
    for value in values(agent, "waiting", names).values():
        assert len(json.dumps(value)) <= 2_048


def test_names_that_do_not_fit_are_found_all_the_same() -> None:
    kept = values("a", "waiting", [f"{number}-{'x' * 90}" for number in range(40)])[APPROVALS]
    assert 10 < len(kept) < 40
    assert kept[-1] == MORE
    assert values("a", "waiting", ["twice", "twice"])[APPROVALS] == ["twice"]
    assert MORE in query(name="39-x")


def test_words_are_harmless() -> None:
    assert word(" a\n b\t\x00\x1b[2J\ud800'\"\\c") == "a b <U+0000><U+001B>[2J<U+D800>___c"
    assert len(word("x" * 1_000)) == 100


@given(st.text())
def test_no_filter_ends_the_quotes_that_it_stands_in(text: str) -> None:
    assert query(text, text).count("'") == query("a", "b").count("'")


async def test_what_people_filter_by_is_taken_literally(world: World) -> None:
    """Whatever is typed, it neither breaks the server's query nor widens it."""
    run = await begin(world, "file-manager", "Delete a.txt")
    await run.reaches("waiting")
    await is_found(run, world.client, query("file-manager", "approve-delete"))

    async def finds(condition: str) -> bool:
        condition = f"WorkflowId = '{run.id}' AND {condition}"
        return [listed.id async for listed in world.client.list_workflows(condition)] == [run.id]

    assert await finds(query())
    for odd in ("", "'", "\\", '"', "' OR AbeyanceOpen > 0 OR AbeyanceAgent = '", "%", "*", "\x00", "file-", "delete"):
        assert not await finds(query(odd)), odd
        assert not await finds(query(name=odd)), odd
    await run.handle.signal("deny")


async def test_an_odd_agent_is_found(client: Client, start_world: Start) -> None:
    agent, run = 'it\'s \\ a "test"', StartedRun(client.get_workflow_handle(f"odd-{uuid.uuid4().hex[:8]}"))
    async with start_world() as world:
        await runs_of(world).start(RunRequest.parse({"agent": agent, "prompt": "go"}), run.id)
        await is_found(run, client, f"AbeyanceState = 'parked' AND {query(agent)}")
        assert [waiting.run for waiting in await runs_of(world).waiting(agent=agent)] == [run.id]
        await run.handle.signal("abort")
        await is_found(run, client, "AbeyanceState = 'failed'")
