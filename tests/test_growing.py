"""Conversations that grow: prompts that follow, what a turn adds to the history, and runs that continue as new."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import random
import uuid
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from temporalio.api.enums.v1 import EventType
from temporalio.client import Client, WorkflowExecutionStatus, WorkflowUpdateFailedError
from temporalio.exceptions import ApplicationError, TemporalError

import worker
from abeyance.attributes import register
from abeyance.contracts import Approval, RunResult, RunStatus
from abeyance.converter import data_converter
from abeyance.places import Place
from abeyance.runs import Runs
from abeyance.session_names import session_run_id
from abeyance.settings import Settings
from activities.conversations import Conversations
from tests.conftest import Start
from tests.processes import DevServer, forget_dead_worker, worker_process
from tests.support import StartedRun, World, noise, short, until

pytestmark = pytest.mark.long

HISTORY = "limit.historyCount.suggestContinueAsNew"


def noted(world: World, run: StartedRun) -> list[str]:
    """What the agent "clerk" has noted, in order."""
    path = world.workspace / f"{run.id}.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    return [json.loads(line)["key"] for line in lines]


async def listening(run: StartedRun, turn: int) -> RunStatus:
    return await run.reaches("listening", turn=turn)


# Prompts that follow.


async def test_a_prompt_waits_for_its_turn_and_answers_nothing(world: World) -> None:
    """By signal and by update; whatever is open stays open, and the run ends when all are done."""
    run = await world.start("clerk", "ask one")
    await run.reaches("waiting", approvals=1)
    await run.handle.signal("say", "note two")
    assert await run.handle.execute_update("say", {"prompt": "ask three", "by": "bob"}) == 2
    status = await run.reaches("waiting", approvals=1, turn=1)
    assert [(prompt.text, prompt.by) for prompt in status.prompts] == [("note two", None), ("ask three", "bob")]
    assert noted(world, run) == []
    await run.handle.signal("approve")
    status = await run.reaches("waiting", approvals=1, turn=4)
    assert (status.approvals[0].number, status.approvals[0].input) == (2, {"text": "three"})
    assert noted(world, run) == ["one", "two"]
    await run.handle.signal("deny", 2)
    result = await run.result()
    assert noted(world, run) == ["one", "two"]
    assert [(note.number, note.prompt, note.by) for note in result.turn_notes] == [
        (1, "ask one", None), (2, None, None), (3, "note two", None), (4, "ask three", "bob"), (5, None, None),
    ]  # fmt: skip


SAID: list[tuple[list[Any], str]] = [
    ([], "say takes the next prompt"),
    ([""], "say takes the next prompt"),
    ([1], "say takes the next prompt"),
    ([{"prompt": " "}], "say takes the next prompt"),
    ([{"prompt": "x", "to": "me"}], "does not know the field 'to'"),
    (["x", "y"], "takes one JSON value or none, and 2 arrived"),
    (["x" * 100_001], "an answer may have 100000"),
    ([{"prompt": "x", "agent": "other"}], "This is a run of 'clerk', not of 'other'"),
]


async def test_what_is_no_prompt_is_refused_with_words(world: World) -> None:
    """By update at once, by signal in the record; nothing is queued, and the run goes on."""
    run = await world.start("clerk", "ask one")
    await run.reaches("waiting", approvals=1)
    for args, words in SAID:
        await run.handle.signal("say", args=args)
        with pytest.raises(WorkflowUpdateFailedError) as refused:
            await run.handle.execute_update("say", args=args)
        assert isinstance(refused.value.cause, ApplicationError)
        assert words in refused.value.cause.message
    status = await run.refuses(len(SAID))
    assert all(words in (decision.refused or "") for decision, (_, words) in zip(status.refused, SAID, strict=True))
    assert status.prompts == []
    await run.handle.signal("deny")
    await run.result()


async def test_a_hundred_prompts_may_wait_and_no_more(start_world: Start) -> None:
    async with start_world() as world:
        run = await world.start("clerk", "ask one")
        await run.reaches("waiting", approvals=1)
        for n in range(101):
            await run.handle.signal("say", f"note {n}")
        status = await run.refuses(1)
        assert "100 prompts wait for their turn already" in (status.refused[0].refused or "")
        for _ in range(3):
            await run.handle.signal("say", "x" * 90_000)
        await run.handle.signal("approve")
        await run.result()
        assert noted(world, run) == ["one", *map(str, range(100))]


async def test_the_same_key_counts_once(world: World) -> None:
    """As when an update seems lost, is sent as a signal, and arrives after all."""
    run = await world.start("clerk", "ask one")
    await run.reaches("waiting", approvals=1)
    said = {"prompt": "note two", "key": "k"}
    await run.handle.signal("say", said)
    assert await run.handle.execute_update("say", said) == 1
    await run.handle.signal("approve")
    await run.result()
    assert noted(world, run) == ["one", "two"]


async def test_an_interactive_run_listens_until_it_is_told_to_finish(world: World) -> None:
    run = await world.start("clerk", "hello", interactive=True)
    status = await listening(run, 1)
    assert status.message == "You said 'hello', after 1 messages."
    await run.handle.signal("say", "note one")
    await listening(run, 2)
    await run.handle.signal("say", "ask two")
    await run.reaches("waiting", approvals=1)
    await run.handle.signal("finish", {"by": "ann"})
    await run.handle.signal("approve", 1)
    result = await run.result()
    assert noted(world, run) == ["one", "two"]
    assert [(d.response, d.by) for d in result.decisions] == [("finish", "ann"), ("y", None)]


async def test_a_spent_budget_ends_a_run_whose_prompts_wait(world: World) -> None:
    """They are named in the result: nobody has taken them up."""
    run = await world.start("clerk", "ask one", limits={"turns": 1}, interactive=True)
    await run.reaches("waiting", approvals=1)
    await run.handle.signal("say", "note two")
    await run.handle.signal("approve")
    result = await run.result()
    assert (result.stop_reason, [prompt.text for prompt in result.prompts]) == ("limit_turns", ["note two"])
    assert noted(world, run) == ["one"]


# What a turn adds to the history.


async def test_a_turn_adds_what_is_new_and_not_all_that_was_said(start_world: Start) -> None:
    """However long the conversation is: the bytes of a turn are those of its own messages and a constant."""
    async with start_world() as world:
        run = await world.start("clerk", "x" + noise(200_000), interactive=True)
        await listening(run, 1)
        sizes = [(await run.handle.describe()).raw_description.workflow_execution_info.history_size_bytes]
        for turn in range(2, 12):
            await run.handle.signal("say", "note it")
            await listening(run, turn)
            sizes.append((await run.handle.describe()).raw_description.workflow_execution_info.history_size_bytes)
        assert sizes[0] > 150_000
        assert all(after - before < 15_000 for before, after in itertools.pairwise(sizes))
        status = await run.status()
        assert status.message == "Done, after 41 messages."


async def test_any_worker_reads_the_conversation_from_the_history(start_world: Start) -> None:
    """Each turn on a worker that has seen none of it."""
    async with start_world() as world:
        run = await world.start("clerk", "hello", interactive=True)
        await listening(run, 1)
    for turn in range(2, 6):
        await run.handle.signal("say", f"note {turn}")
        async with start_world(task_queue=world.settings.task_queue):
            status = await listening(run, turn)
    assert status.message == "Done, after 17 messages."
    assert noted(world, run) == ["2", "3", "4", "5"]


async def test_a_reset_takes_the_conversation_back(start_world: Start) -> None:
    """To where it stood at that point of the history, although this worker knows how it went on."""
    async with start_world() as world:
        run = await world.start("careless-clerk", "hello", interactive=True)
        for turn in (1, 2, 3):
            await listening(run, turn)
            points = [e for e in (await run.handle.fetch_history()).events if e.event_type == TASK_DONE]
            if turn == 2:
                point = points[-1].event_id
            await run.handle.signal("say", f"note {turn}")
        await listening(run, 4)
        await world.client.workflow_service.reset_workflow_execution(_reset(world, run, point))
        run = StartedRun(world.client.get_workflow_handle(run.id, result_type=RunResult))

        async def again() -> RunStatus | None:
            status = await run.status()
            return status if status.state == "listening" and status.turn == 4 else None

        # The server sends the signals that came after that point once more.
        status = await until(again, what="the run to have gone on from there")
        assert status.message == "Done, after 13 messages."
        assert noted(world, run) == ["1", "2", "3", "2", "3"]


TASK_DONE = EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED


def _reset(world: World, run: StartedRun, event: int) -> Any:
    from temporalio.api.common.v1 import WorkflowExecution
    from temporalio.api.workflowservice.v1 import ResetWorkflowExecutionRequest

    return ResetWorkflowExecutionRequest(
        namespace=world.client.namespace,
        workflow_execution=WorkflowExecution(workflow_id=run.id),
        reason="a test",
        workflow_task_finish_event_id=event,
        request_id=uuid.uuid4().hex,
    )


async def test_a_worker_keeps_only_what_turns_may_go_on_with(
    start_world: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not what a turn has gone on from, and nothing of a run that has ended."""
    conversations = Conversations()
    monkeypatch.setattr(worker, "Conversations", lambda: conversations)

    async def kept(count: int) -> None:
        async def look() -> bool:
            return len(conversations._kept) == count

        await until(look, what=f"{count} conversations to be kept, and not {list(conversations._kept)}")
        assert bool(conversations._bytes) == bool(count)

    async with start_world(sessions=Place(tmp_path / "sessions")) as world:
        run = await world.start("clerk", "ask one")
        for number, word in enumerate(("two", "three"), 1):
            await run.reaches("waiting", approvals=1)
            await kept(1)
            await run.handle.signal("say", f"ask {word}")
            await run.handle.signal("approve", number)
        await run.reaches("waiting", approvals=1)
        await kept(1)
        await run.handle.signal("deny", 3)
        await run.result()
        await kept(0)
        session = await world.start("clerk", "note one", session="s", run=session_run_id("s"))
        await session.result()
        await kept(0)
        talk = await world.start("clerk", "note one", interactive=True)
        await listening(talk, 1)
        await kept(1)
        await talk.handle.signal("say", "note two")
        await listening(talk, 2)
        await kept(1)


# Runs that continue as new.


@pytest.fixture
async def impatient(tmp_path: Path) -> AsyncIterator[Client]:
    """A client of a server that suggests to continue as new after 30 events."""
    async with DevServer(tmp_path, {HISTORY: 30}).up() as (client, _):
        assert (await register(client)).complete
        yield client


async def executions(client: Client, run: StartedRun) -> list[WorkflowExecutionStatus | None]:
    """How the executions of a run have ended, the first one first."""

    async def look() -> list[WorkflowExecutionStatus | None] | None:
        found = [e async for e in client.list_workflows(f"WorkflowId = '{run.id}'")]
        ended = [e.status for e in sorted(found, key=lambda e: e.start_time)]
        return ended if ended and ended[-1] != WorkflowExecutionStatus.RUNNING else None

    return await until(look, what="the executions to be listed")


@pytest.mark.parametrize("cache", [{}, {"max_cached_workflows": 0}], ids=["cached", "replayed"])
async def test_a_run_continues_as_new_with_all_that_it_has(
    cache: dict[str, int], impatient: Client, start_world: Start
) -> None:
    """Numbers, open approvals, queued prompts, decisions, refusals, usage, the conversation: nothing is lost."""
    async with start_world(impatient, **cache) as world:
        run = await world.start("clerk", "ask 0", interactive=True, limits={"turns": 1_000})
        first = await run.reaches("waiting", approvals=1)
        for _ in range(60):  # they alone make the history long
            await run.handle.signal("approve", 77)
        await run.refuses(60)
        status = await run.status()
        assert [a.number for a in status.approvals] == [1]
        assert status.approvals == first.approvals
        assert (await run.handle.describe()).run_id != run.handle.first_execution_run_id
        runs = Runs(impatient, world.settings.task_queue)

        async def in_the_inbox() -> bool:
            found = [item for item in await runs.waiting(agent="clerk", name="may-i") if item.run == run.id]
            return [approval["number"] for item in found for approval in item.approvals] == [1]

        async def listed_once() -> bool:
            return [summary.run async for summary in runs.listed()] == [run.id]

        # The server lists the end of one execution and the start of the next one at different moments.
        await until(in_the_inbox, what="the inbox to show the new execution")
        await until(listed_once, what="the list to have the run once")
        await run.handle.signal("say", "ask 1")
        await run.handle.signal("approve")
        for n in range(2, 20):
            await run.reaches("waiting", approvals=1)
            await run.handle.signal("say", f"ask {n}" if n < 19 else "hello")
            await run.handle.execute_update("decide", {"approval": n, "response": "y", "by": f"p{n}"})
        await run.handle.signal("finish")
        result = await run.result()
        assert noted(world, run) == [str(n) for n in range(19)]
        assert result.message == "You said 'hello', after 77 messages."
        applied = [d for d in result.decisions if d.refused is None and d.approval]
        assert [(d.approval, d.by) for d in applied] == [(1, None), *((n, f"p{n}") for n in range(2, 20))]
        assert sum(d.refused is not None for d in result.decisions) == 60
        assert [a.number for a in result.approvals] == list(range(1, 20))
        assert [note.prompt for note in result.turn_notes if note.prompt] == [*(f"ask {n}" for n in range(19)), "hello"]
        assert result.usage.model_calls == 39
        ends = await executions(impatient, run)
        assert len(ends) > 3
        assert set(ends[:-1]) == {WorkflowExecutionStatus.CONTINUED_AS_NEW}
        assert ends[-1] == WorkflowExecutionStatus.COMPLETED


async def test_an_answer_that_waits_and_a_parked_run_are_carried(impatient: Client, start_world: Start) -> None:
    async with start_world(impatient) as world:
        (world.workspace / "broken").touch()
        run = await world.start("fails-late", "go")
        await run.reaches("waiting", approvals=1)
        await run.handle.signal("approve")
        parked = await run.reaches("parked")
        for _ in range(60):
            await run.handle.signal("approve", 77)
        await run.refuses(60)
        assert (await run.reaches("parked")).problem == parked.problem
        (world.workspace / "broken").unlink()
        await run.handle.signal("retry")
        await run.result()
        assert len(await executions(impatient, run)) > 1


async def test_a_key_of_an_idempotent_call_outlives_continuing(impatient: Client, start_world: Start) -> None:
    """It names the first execution, however many follow."""
    async with start_world(impatient) as world:
        run = await world.start("clerk", "key 1", interactive=True)
        await listening(run, 1)
        for n in range(2, 12):
            await run.handle.signal("say", f"key {n}")
            await listening(run, n)
        await run.handle.signal("finish")
        await run.result()
        assert len(await executions(impatient, run)) > 1
        assert {key.partition("/")[0] for key in noted(world, run)} == {run.handle.first_execution_run_id}


@pytest.mark.timeout(1_800)
async def test_many_turns_with_approvals_and_workers_killed(tmp_path: Path, workspace: Path) -> None:
    """In every tenth an approval; each note is made once, in order, through many executions and workers.

    Every prompt takes two turns or one; the environment's TURNS says how many prompts there are.
    """
    settings = Settings(
        task_queue=f"queue-{uuid.uuid4().hex[:8]}", workspace=workspace, heartbeat_timeout=short(), shutdown_grace=1
    )
    turns = int(os.environ.get("TURNS", "40"))
    agents = "tests.session_agents"
    async with DevServer(tmp_path, {HISTORY: 100}).up() as (plain, _):
        client = Client(**plain.config() | {"data_converter": data_converter(settings)})
        world = World(client, settings)
        run = await world.start("clerk", "note 0", interactive=True)

        async def drive() -> None:
            for n in range(1, turns):
                await run.handle.signal("say", f"{'ask' if n % 10 == 0 else 'note'} {n}")
                await quiet(n)
            await run.handle.signal("finish")

        async def quiet(n: int) -> None:
            async def look() -> bool:
                with suppress(TemporalError):
                    await settle((await run.status()).approvals)
                return str(n) in noted(world, run)

            await until(look, what=f"note {n}")

        async def settle(approvals: list[Approval]) -> None:
            """What a person does: say yes, and for a call in doubt look whether it has taken effect."""
            for approval in approvals:
                response: Any = "y"
                if approval.name == "in-doubt":
                    done = approval.input["text"] in noted(world, run)
                    response = {"result": "it is noted"} if done else "retry"
                await run.handle.signal("respond", {"approval": approval.number, "response": response})

        driving = asyncio.create_task(drive())
        moments = random.Random(turns)
        number = 0
        while not driving.done():
            number += 1
            async with worker_process(client, settings, tmp_path / f"{number}.log", ABEYANCE_AGENTS=agents) as worker:
                while not driving.done() and len(noted(world, run)) < 9 * number:
                    await asyncio.wait({driving}, timeout=0.05)
                await asyncio.wait({driving}, timeout=moments.uniform(0, 0.2))
                if not driving.done():
                    worker.kill()
                    await forget_dead_worker(client, run.id)
        await driving
        async with worker_process(client, settings, tmp_path / "last.log", ABEYANCE_AGENTS=agents):

            async def ended() -> bool:
                # The last call may have been left in doubt, too.
                with suppress(TemporalError):
                    await settle((await run.status()).approvals)
                return (await run.handle.describe()).close_time is not None

            await until(ended, what="the run to end")
            result = await run.result()
        assert noted(world, run) == [str(n) for n in range(turns)]
        assert number > 2
        assert result.message.startswith("Done, after ")
        assert len(await executions(client, run)) > 3
