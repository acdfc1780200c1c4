"""What a run takes into its next execution in odd moments, and into its session after them."""

from __future__ import annotations

import asyncio
import os
import random
import uuid
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from temporalio.api.enums.v1 import ResetReapplyExcludeType
from temporalio.client import Client, WorkflowExecutionStatus, WorkflowFailureError

from abeyance import formats
from abeyance.contracts import RunRequest, RunResult
from abeyance.converter import codec, worker
from abeyance.errors import ConfigurationError, RefusedError
from abeyance.places import Place
from abeyance.runs import Runs
from abeyance.session_names import session_run_id
from abeyance.sessions import Sessions
from abeyance.settings import Settings
from activities.conversations import Conversations
from tests.conftest import Start
from tests.journal_agents import counted
from tests.sessions import snapshot
from tests.support import StartedRun, World, until
from tests.test_encryption import a_task_fails
from tests.test_growing import TASK_DONE, _reset, executions, impatient, listening, noted  # noqa: F401 - a fixture
from tests.test_room import connected
from tests.test_sessions_runs import begin, name, place, runs_of  # noqa: F401 - fixtures
from workflows import agent_run

RACES = int(os.environ.get("RACES", "10"))


async def grow(run: StartedRun) -> None:
    """Make the history so long that the run continues as new, and wait until it has."""
    client: Client = run.handle._client
    before = (await client.get_workflow_handle(run.id).describe()).run_id
    for _ in range(40):
        await client.get_workflow_handle(run.id).signal("approve", 77)

    async def moved() -> bool:
        return (await client.get_workflow_handle(run.id).describe()).run_id != before

    await until(moved, what="a new execution")


async def has_begun(run: StartedRun) -> bool:
    """Whether the execution's first workflow task was completed."""
    return any(event.event_type == TASK_DONE for event in (await run.handle.fetch_history()).events)


def latest(run: StartedRun) -> StartedRun:
    """The run in its latest execution."""
    return StartedRun(run.handle._client.get_workflow_handle(run.id, result_type=RunResult))


async def handed_on(client: Client, start_world: Start, *, begun: bool) -> tuple[World, StartedRun]:
    """A waiting run in an execution that was handed over, `begun` by its first task or not; no worker is left."""
    async with start_world(client) as world:
        run = await world.start("file-manager-like", "go")
        await run.reaches("waiting", approvals=1)
    while True:
        async with start_world(client, task_queue=world.settings.task_queue):
            await grow(run)
            run = latest(run)
            if begun:
                await until(partial(has_begun, run), what="the execution's first task")
        if await has_begun(run) is begun:
            return world, run


@pytest.mark.parametrize("begun", [True, False], ids=["begun", "not begun"])
async def test_what_a_newer_version_has_handed_on_waits_for_it(
    begun: bool,
    impatient: Client,  # noqa: F811
    start_world: Start,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An older worker decides nothing, no answer is lost, and what it left in the history can be replayed."""
    newer = formats.FORMAT + 1
    monkeypatch.setattr(formats, "FORMAT", newer)
    world, run = await handed_on(impatient, start_world, begun=begun)
    monkeypatch.setattr(formats, "FORMAT", newer - 1)
    await run.handle.signal("approve", 1)
    async with start_world(impatient, task_queue=world.settings.task_queue):
        words = await a_task_fails(run)
        assert (
            f"What the execution before has handed on was written by a newer version of Abeyance (format {newer}"
            in words
        )
        assert counted(world.workspace, run.id)["step 1"] == 0
    monkeypatch.setattr(formats, "FORMAT", newer)
    async with start_world(impatient, task_queue=world.settings.task_queue):
        assert (await run.result()).message == "Done."
        assert counted(world.workspace, run.id)["step 1"] == 1


@pytest.mark.parametrize("newer", [True, False], ids=["read by a newer one", "read by an older one"])
async def test_a_run_that_is_cancelled_before_its_past_is_known(
    newer: bool,
    impatient: Client,  # noqa: F811
    start_world: Start,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whichever worker ends it, one of the other version tells how it ended."""
    versions = (formats.FORMAT + 1, formats.FORMAT)
    monkeypatch.setattr(formats, "FORMAT", versions[0])
    world, run = await handed_on(impatient, start_world, begun=False)
    await run.handle.cancel()
    for version in versions if newer else versions[::-1]:
        monkeypatch.setattr(formats, "FORMAT", version)
        async with start_world(impatient, task_queue=world.settings.task_queue):
            with pytest.raises(WorkflowFailureError):
                await run.result()
            assert (await run.status()).state == "cancelled"
    assert not (await Runs(impatient, world.settings.task_queue).summary(run.id)).approvals


async def test_a_run_that_is_parked_in_its_prompts_turn(impatient: Client, start_world: Start) -> None:  # noqa: F811
    """The prompt is given again in the next execution, and it is known whose it was; this agent can do only one."""
    async with start_world(impatient) as world:
        run = await world.start("counted", "go")
        await run.reaches("waiting", approvals=1)
        await run.handle.signal("say", {"prompt": "more", "by": "bob"})
        await run.handle.signal("approve")
        parked = await run.reaches("parked")
        await grow(run)
        assert (await run.reaches("parked")).problem == parked.problem
        await run.handle.signal("retry")

        async def told() -> bool:
            notes = (await run.status()).turn_notes
            prompts = [(note.prompt, note.by) for note in notes if note.prompt]
            return prompts == [("go", None), ("more", "bob"), ("more", "bob")]

        await until(told, what="the prompt to be given again")


async def test_a_run_that_is_parked_at_its_session(
    impatient: Client,  # noqa: F811
    start_world: Start,
    place: Place,  # noqa: F811
    name: str,  # noqa: F811
) -> None:
    """It stays so in the new execution: neither does a prompt go first, nor is anything written unasked."""
    async with start_world(impatient, sessions=place) as world:
        run = latest(await begin(world, name, "ask one", "clerk"))
        await run.reaches("waiting", approvals=1)
        await Sessions(place).save(name, "clerk", snapshot("hello"), after=None, mark="somebody/1")
        await run.handle.signal("approve")
        await run.reaches("parked")
        await run.handle.signal("say", "note two")
        await grow(run)
        status = await run.refuses(40)
        assert (status.state, status.turn, len(status.prompts)) == ("parked", 2, 1)
        assert "was written by somebody/1" in (status.problem or "")
        await run.handle.signal("retry")
        await run.result()
        assert noted(world, run) == ["one", "two"]
        stored = await Sessions(place).load(name, "clerk")
        assert stored
        said = [m["content"][0]["text"] for m in stored.messages if m["role"] == "user" and "text" in m["content"][0]]
        assert said == ["ask one", "note two"]
        await executions(impatient, run)  # which are listed then
        saves = 0
        async for execution in impatient.list_workflows(f"WorkflowId = '{run.id}'"):
            history = await impatient.get_workflow_handle(run.id, run_id=execution.run_id).fetch_history()
            saves += sum(
                event.activity_task_scheduled_event_attributes.activity_type.name == "save_session"
                for event in history.events
            )
        assert saves == 3  # the one that found the conflict, the one that was asked for, and that of the second prompt


async def test_a_retry_writes_over_nothing_but_what_was_told(
    start_world: Start,
    place: Place,  # noqa: F811
    name: str,  # noqa: F811
) -> None:
    """A save that fails for another reason tells nobody of what others have written: that is told first."""
    async with start_world(sessions=place) as world:
        run = await begin(world, name, "ask one", "clerk")
        await run.reaches("waiting", approvals=1)
        await Sessions(place).save(name, "clerk", snapshot("hello"), after=None, mark="somebody/1")
        [file] = (place.directory or Path()).rglob("snapshot_latest.json")
        whole = file.read_bytes()
        file.write_bytes(whole[:50])
        await run.handle.signal("approve")
        assert "cannot be read" in ((await run.reaches("parked")).problem or "")
        file.write_bytes(whole)
        await run.handle.signal("retry")

        async def told() -> bool:
            status = await run.status()
            return status.state == "parked" and "was written by somebody/1" in (status.problem or "")

        await until(told, what="the conflict to be told")
        assert file.read_bytes() == whole
        await run.handle.signal("retry")
        await run.result()
        assert file.read_bytes() != whole


async def test_a_run_that_was_reset_does_not_take_its_former_self_for_its_own_write(
    start_world: Start,
    place: Place,  # noqa: F811
    name: str,  # noqa: F811
) -> None:
    async with start_world(sessions=place) as world:
        run = await begin(world, name, "note one", "careless-clerk", interactive=True)
        await listening(run, 1)
        point = [e for e in (await run.handle.fetch_history()).events if e.event_type == TASK_DONE][-1].event_id
        await run.handle.signal("say", "note two")
        await listening(run, 2)
        await run.handle.signal("finish")
        await run.result()
        request = _reset(world, run, point)
        request.workflow_execution.run_id = (await run.handle.describe()).run_id
        request.reset_reapply_exclude_types.append(ResetReapplyExcludeType.RESET_REAPPLY_EXCLUDE_TYPE_SIGNAL)
        await world.client.workflow_service.reset_workflow_execution(request)
        run = latest(run)
        await listening(run, 1)
        await run.handle.signal("say", "note other")
        await listening(run, 2)
        await run.handle.signal("finish")
        status = await run.reaches("parked")
        assert f"was written by {run.id}/" in (status.problem or "")
        await run.handle.signal("retry")
        await run.result()
        stored = await Sessions(place).load(name, "careless-clerk")
        assert stored
        assert "note other" in str(stored.messages)


@pytest.mark.long
async def test_a_run_that_is_reset_to_before_it_continued_as_new(impatient: Client, start_world: Start) -> None:  # noqa: F811
    async with start_world(impatient) as world:
        run = latest(await world.start("careless-clerk", "note 1", interactive=True))
        first = (await run.handle.describe()).run_id
        await listening(run, 1)
        point = [e for e in (await run.handle.fetch_history()).events if e.event_type == TASK_DONE][-1].event_id
        for n in range(2, 8):
            await run.handle.signal("say", f"note {n}")
            await listening(run, n)
        assert (await run.handle.describe()).run_id != first
        request = _reset(world, run, point)
        request.workflow_execution.run_id = first
        request.reset_reapply_exclude_types.append(ResetReapplyExcludeType.RESET_REAPPLY_EXCLUDE_TYPE_SIGNAL)
        await impatient.workflow_service.reset_workflow_execution(request)
        await listening(run, 1)
    async with start_world(impatient, task_queue=world.settings.task_queue) as world:
        for n in range(2, 8):
            await run.handle.signal("say", f"note again {n}")
            status = await listening(run, n)
        assert status.message == "Done, after 27 messages."
        await run.handle.signal("finish")
        await run.result()
        assert noted(world, run)[-6:] == [f"again {n}" for n in range(2, 8)]


@pytest.mark.long
async def test_what_is_carried_in_vain_confuses_nobody(impatient: Client, start_world: Start) -> None:  # noqa: F811
    """A run that has too much open to continue as new goes on, on a worker that has to read its history."""
    async with start_world(impatient) as world:
        run = await world.start("asks-much", "go", options={"calls": 140, "length": 15_000})
        await run.reaches("waiting", approvals=140)
        for _ in range(40):
            await run.handle.signal("approve", 777)
        await run.refuses(40)

        async def carried() -> bool:
            events = (await run.handle.fetch_history()).events
            kinds = {e.event_id: e.activity_task_scheduled_event_attributes.activity_type.name for e in events}
            done = [e.activity_task_completed_event_attributes.scheduled_event_id for e in events]
            return any(kinds.get(n) == "carry" for n in done)

        await until(carried, what="the conversation to be carried")
        assert (await run.handle.describe()).run_id == run.handle.first_execution_run_id
        await run.handle.signal("approve", 1)
        await run.reaches("waiting", approvals=139)
    async with start_world(impatient, task_queue=world.settings.task_queue):
        await run.handle.signal("approve", 2)
        status = await run.reaches("waiting", approvals=138)
        assert status.problem is None


@pytest.mark.long
async def test_a_long_prompt_is_not_carried_for_ever(impatient: Client, start_world: Start) -> None:  # noqa: F811
    async with start_world(impatient) as world:
        run = await world.start("clerk", "x" * 1_900_000, interactive=True)
        await listening(run, 1)
        for n in range(2, 9):
            await run.handle.signal("say", "note it")
            status = await listening(run, n)
        await run.handle.signal("finish")
        await run.result()
        assert status.prompt.startswith("xxx")
        assert len(await executions(impatient, run)) > 1


async def test_more_than_a_new_execution_could_read_is_not_handed_to_it(
    impatient: Client,  # noqa: F811
    tmp_path: Path,
    start_world: Start,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The run goes on as it is; the limit is 32 MB, and less here."""
    monkeypatch.setattr(codec, "LARGEST_OF_WORKFLOW", 3_000_000)
    monkeypatch.setattr(worker, "LARGEST_OF_WORKFLOW", 3_000_000)
    monkeypatch.setattr(agent_run, "LARGEST_STORED", 2_900_000)
    storage = Place(directory=tmp_path / "payloads")
    client = await connected(impatient, Settings(storage=storage), monkeypatch)
    async with start_world(client, storage=storage) as world:
        run = await world.start("clerk", "big 3000000", interactive=True)
        await listening(run, 1)
        for n in range(2, 6):
            await run.handle.signal("say", "note it")
            status = await listening(run, n)
        assert status.message == "Done, after 19 messages."
        await run.handle.signal("finish")
        await run.result()


async def test_a_run_that_a_schedule_repeats(client: Client, start_world: Start) -> None:
    """Its executions follow each other, and none hands anything to the next."""
    async with start_world() as world:
        run = f"cron-{uuid.uuid4().hex[:8]}"
        queue = world.settings.task_queue
        request = {"agent": "clerk", "prompt": "hello"}
        handle = await client.start_workflow("AgentRun", request, id=run, task_queue=queue, cron_schedule="@every 1s")

        async def twice() -> bool:
            found = [e.status async for e in client.list_workflows(f"WorkflowId = '{run}'")]
            return (
                found.count(WorkflowExecutionStatus.COMPLETED) + found.count(WorkflowExecutionStatus.CONTINUED_AS_NEW)
                > 1
            )

        await until(twice, what="two executions to end")
        await handle.terminate()


async def test_a_history_that_cannot_be_read_is_no_fault_of_the_answers(client: Client) -> None:
    with pytest.raises(ConfigurationError, match="cannot read the history of no-such-run"):
        await Conversations().find("x", client, "no-such-run", str(uuid.uuid4()))


class Blind(Runs):
    """A client that looked before the other's run was open."""

    async def _require_taker(self, run: str, request: RunRequest) -> None:
        pass


@pytest.mark.parametrize(
    "other", [{"agent": "held"}, {"options": {"a": 1}}, {"limits": {"turns": 1}}, {"interactive": True}]
)
async def test_two_clients_that_start_different_things_at_once(
    other: dict[str, Any],
    start_world: Start,
    place: Place,  # noqa: F811
    name: str,  # noqa: F811
) -> None:
    """The one that is second is refused; its prompt is not done as something else."""
    async with start_world(sessions=place) as world:
        run = await begin(world, name, "ask one", "clerk")
        await run.reaches("waiting", approvals=1)
        asked = RunRequest.parse({"agent": "clerk", "prompt": "note two", "session": name} | other)
        with pytest.raises(RefusedError):
            await Blind(world.client, world.settings.task_queue).start_in_session(asked)
        await run.handle.signal("approve")
        await run.result()
        assert noted(world, run) == ["one"]


async def test_different_agents_race_for_a_session(start_world: Start, place: Place, name: str) -> None:  # noqa: F811
    """Each prompt is done once or refused, whoever wins."""
    async with start_world(sessions=place) as world:
        runs = runs_of(world)
        done: list[str] = []

        async def ask(agent: str, prompt: str) -> None:
            try:
                await runs.start_in_session(RunRequest.parse({"agent": agent, "prompt": prompt, "session": name}))
            except RefusedError:
                return
            done.append(prompt)

        async def over() -> bool:
            return (await runs.summary(session_run_id(name))).state == "completed"

        for n in range(0, RACES, 2):
            await asyncio.gather(ask("clerk", f"note {n}"), ask("clerk-too", f"note {n + 1}"))
            if random.Random(n).random() < 0.5:
                await until(over, what="the run to end")
        await until(over, what="the run to end")
        path = session_run_id(name)
        assert sorted(
            f"note {key}" for key in noted(world, StartedRun(world.client.get_workflow_handle(path)))
        ) == sorted(done)
        assert len(done) >= RACES // 2


async def test_what_is_said_while_a_run_ends(start_world: Start) -> None:
    """A prompt is done once, or refused since the run has ended; never lost, never doubled."""
    async with start_world() as world:
        runs = runs_of(world)

        async def race(n: int, longest: float) -> bool:
            run = await world.start("clerk", "note first")
            await asyncio.sleep(random.Random(n).random() * longest)
            said = []
            for m in range(3):
                try:
                    await runs.say(run.id, f"note {m}")
                    said.append(str(m))
                except RefusedError as error:
                    assert "has ended" in str(error)
            await run.result()
            assert noted(world, run) == ["first", *said]
            return len(said) < 3

        longest, refused, raced = 0.4, 0, 0
        while raced < RACES or not refused:  # on a slow machine the runs end later
            late = await asyncio.gather(*(race(raced + k, longest) for k in range(10)))
            longest *= 1 if any(late) else 2
            refused += sum(late)
            raced += 10


async def test_a_conversation_that_is_said_to_while_it_continues_as_new(impatient: Client, start_world: Start) -> None:  # noqa: F811
    async with start_world(impatient) as world:
        run = latest(await world.start("clerk", "note first", interactive=True))
        runs = runs_of(world)
        taken: list[str] = []

        async def tell(key: str) -> None:
            try:
                await runs.say(run.id, f"note {key}")
            except RefusedError as error:
                assert "100 prompts wait" in str(error)
            else:
                taken.append(key)

        for n in range(RACES):
            await asyncio.gather(*(tell(f"{n}-{m}") for m in range(3)))
        await run.handle.signal("finish")
        await run.reaches("completed")
        assert sorted(noted(world, run)[1:]) == sorted(taken)
        assert len(await executions(impatient, run)) > 1


async def test_a_no_stays_a_no_in_the_next_execution(impatient: Client, start_world: Start) -> None:  # noqa: F811
    """A neighbour's trust is in the state by then, and what was shown travels along."""
    async with start_world(impatient) as world:
        run = latest(await world.start("hook-trust", "go"))
        await run.reaches("waiting", approvals=2)
        await grow(run)
        await run.handle.signal("respond", {"approval": 1, "response": "t"})
        await run.reaches("waiting", approvals=1)
        await grow(run)
        await run.handle.signal("deny", 2)
        await run.result()
        paid = noted(world, run)
        assert sorted(paid) == ["ada", "eve"]


async def test_what_is_asked_again_is_answered_in_the_next_execution(impatient: Client, start_world: Start) -> None:  # noqa: F811
    """With the conversation under the name that it has there, and what the turn had done."""
    async with start_world(impatient) as world:
        run = latest(await world.start("careless-batch", "go"))
        await run.reaches("waiting", approvals=3)
        answers = [(1, "yes"), (2, 5), (3, "yes")]
        await run.handle.signal("respond", [{"approval": number, "response": said} for number, said in answers])
        await run.reaches("waiting", approvals=1)
        await grow(run)
        assert [a.number for a in (await run.reaches("waiting", approvals=1)).approvals] == [2]
        await run.handle.signal("respond", {"approval": 2, "response": "yes"})
        await run.result()
        assert sorted(noted(world, run)) == ["ada", "bob", "eve"]


async def test_a_run_says_that_it_runs_although_it_listened_before(
    impatient: Client,  # noqa: F811
    start_world: Start,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A prompt that comes while it continues as new is done by a run that is not shown as listening."""
    gate, find = asyncio.Event(), Conversations.find

    async def slowly(*args: Any) -> Any:
        await gate.wait()
        return await find(*args)

    async with start_world(impatient) as world:
        run = latest(await world.start("clerk", "hello", interactive=True))
        gate.set()
        await listening(run, 1)
        gate.clear()
        monkeypatch.setattr(Conversations, "find", slowly)
        for _ in range(40):
            await run.handle.signal("approve", 77)

        async def carries() -> bool:
            return bool((await run.handle.describe()).raw_description.pending_activities)

        await until(carries, what="the conversation to be carried")
        (world.workspace / "hold").touch()
        await run.handle.signal("say", "slow")
        gate.set()

        async def at_work() -> bool:
            status = await run.status()
            return status.turn == 2 and status.turn_notes[-1].ended_at is None

        await until(at_work, what="the turn to begin")
        assert (await run.status()).state == "running"
        (world.workspace / "hold").unlink()
        assert (await listening(run, 2)).message == "You said 'slow', after 3 messages."
