"""Sessions across runs: what an agent remembers, on other workers and after crashes, on files and on S3."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import signal
import uuid
from pathlib import Path
from typing import Any

import pytest
from strands import Agent
from strands.agent.conversation_manager import (
    ConversationManager,
    NullConversationManager,
    SlidingWindowConversationManager,
)
from strands.session import SnapshotSessionManager
from strands.storage import LocalFileStorage
from temporalio.client import WorkflowFailureError

from abeyance.contracts import RunRequest, RunResult
from abeyance.errors import RefusedError
from abeyance.places import Place
from abeyance.runs import Runs, Started
from abeyance.session_names import session_run_id
from abeyance.sessions import Sessions
from abeyance.settings import Settings
from tests.conftest import Start
from tests.processes import DevServer, worker_process
from tests.session_agents import Clerk
from tests.sessions import BUCKET, s3_env, s3_server  # noqa: F401 - fixtures
from tests.support import StartedRun, World, short, until


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(directory=tmp_path / "sessions")


@pytest.fixture
def name() -> str:
    return f"demo-{uuid.uuid4().hex[:8]}"


def runs_of(world: World) -> Runs:
    return Runs(world.client, world.settings.task_queue)


async def begin(
    world: World, session: str, prompt: str, agent: str = "trusted-file-manager", **more: Any
) -> StartedRun:
    """Start a run of a session as `starter.py start --session` does, and see that it was started and not queued."""
    request = RunRequest.parse({"agent": agent, "prompt": prompt, "session": session} | more)
    started = await runs_of(world).start_in_session(request, "ann")
    assert started == Started(session_run_id(session))
    handle = world.client.get_workflow_handle(started.run, result_type=RunResult)
    run_id = (await handle.describe()).run_id
    return StartedRun(world.client.get_workflow_handle(started.run, run_id=run_id, result_type=RunResult))


async def test_the_story_of_the_tutorial(start_world: Start, place: Place, name: str) -> None:
    """Trust is granted once; a later run on another worker asks nothing and says why; forgotten, it asks again."""
    async with start_world(sessions=place) as world:
        for n in (1, 2, 3, 4):
            (world.workspace / f"file{n}.txt").write_text("x")
        run = await begin(world, name, "Delete file1.txt")
        await run.reaches("waiting", approvals=1)
        await run.handle.signal("respond", {"approval": 1, "response": "t", "by": "ann"})
        first, first_execution = await run.result(), (await run.handle.describe()).run_id
        assert "file1.txt" not in world.files()
        assert first.session and (first.session.found, first.session.written) == (0, True)
    async with start_world(sessions=place, task_queue=world.settings.task_queue) as world:
        run = await begin(world, name, "Delete file2.txt and file3.txt")
        second = await run.result()
        assert not {"file2.txt", "file3.txt"} & world.files()
        assert second.approvals == []
        told = [ran for note in second.turn_notes for ran in note.work.ran if ran.tool == "delete_files"]
        [why] = [ran.why for ran in told]
        assert why.startswith(
            "not asked: a person has answered t before, to trust always; trusted-file-manager-trust was"
        )
        assert f"in turn 2 of run {run.id} ({first_execution}), after the answer t to 1 delete_files" in why
        assert '{"paths": ["file1.txt"]} by ann' in why
        assert second.session
        assert second.session.remembers == {"trusted-file-manager-trust": "t"}
        assert second.session.found > 2
        assert await Sessions(place).forget_state(name, "trusted-file-manager", "trusted-file-manager-trust")
        run = await begin(world, name, "Delete file4.txt")
        await run.reaches("waiting", approvals=1)
        await run.handle.signal("deny")
        await run.result()
        assert "file4.txt" in world.files()


async def test_a_prompt_for_a_busy_session_is_queued_or_refused(start_world: Start, place: Place, name: str) -> None:
    """It becomes the open run's next turn, and answers nothing; what a run cannot take is refused."""
    async with start_world(sessions=place) as world:
        run = await begin(world, name, "Delete a.txt")
        await run.reaches("waiting", approvals=1)
        runs = runs_of(world)
        request = RunRequest.parse({"agent": "trusted-file-manager", "prompt": "Delete b.txt", "session": name})
        assert await runs.start_in_session(request, "bob") == Started(run.id, queued=True, place=1)
        with pytest.raises(RefusedError, match="is open already"):
            await runs.start(request, session_run_id(name))
        for more, words in (
            ({"agent": "file-manager"}, "with the agent 'trusted-file-manager', and this is for 'file-manager'"),
            ({"options": {"a": 1}}, "options, limits and --interactive can only be given to a new one"),
        ):
            with pytest.raises(RefusedError, match=words):
                other = {"agent": "trusted-file-manager", "prompt": "x", "session": name} | more
                await runs.start_in_session(RunRequest.parse(other), "bob")
        status = await run.status()
        assert [(prompt.text, prompt.by) for prompt in status.prompts] == [("Delete b.txt", "bob")]
        assert len(status.approvals) == 1
        await run.handle.signal("deny")
        await run.reaches("waiting", approvals=1, turn=3)
        await run.handle.signal("approve", 2)
        result = await run.result()
        assert {"a.txt", "b.txt"} & world.files() == {"a.txt"}
        assert [(note.prompt, note.by) for note in result.turn_notes if note.prompt] == [
            ("Delete a.txt", None), ("Delete b.txt", "bob"),
        ]  # fmt: skip


async def test_a_run_of_a_session_has_its_id(start_world: Start, place: Place, name: str) -> None:
    """Whoever starts it by hand: so there can never be two."""
    async with start_world(sessions=place) as world:
        run = await world.start("file-manager", "go", session=name)
        with pytest.raises(WorkflowFailureError) as failed:
            await run.result()
        assert f"has the workflow id 'session-{name}'" in str(failed.value.cause)
        run = await world.start("trusted-file-manager", "Look at a.txt", session=name, run=session_run_id(name))
        await run.result()
        assert (await Sessions(place).load(name, "trusted-file-manager")) is not None


@pytest.mark.parametrize("how", ["abort", "cancel"])
async def test_a_run_that_fails_leaves_its_session_as_it_was(
    how: str, start_world: Start, place: Place, name: str
) -> None:
    async with start_world(sessions=place) as world:
        run = await begin(world, name, "go", "counted", options={"acts": 1})
        await run.reaches("waiting", approvals=1)
        before = await Sessions(place).load(name, "counted")
        if how == "cancel":
            await run.handle.cancel()
        else:
            await run.handle.terminate()
        with pytest.raises(WorkflowFailureError):
            await run.result()
        assert await Sessions(place).load(name, "counted") == before


@pytest.mark.long
async def test_two_starts_at_once(start_world: Start, place: Place, name: str) -> None:
    """Both prompts are done once each, in one run or in two, and the session has all of them; STARTS times."""
    times = int(os.environ.get("STARTS", "30"))
    async with start_world(sessions=place) as world:
        runs = runs_of(world)

        async def ask(n: int) -> Started:
            request = RunRequest.parse({"agent": "clerk", "prompt": f"note n{n}", "session": name})
            return await runs.start_in_session(request, "ann")

        async def over() -> bool:
            return (await runs.summary(session_run_id(name))).state == "completed"

        queued = 0
        for n in range(0, 2 * times, 2):
            both = await asyncio.gather(ask(n), ask(n + 1))
            queued += sum(started.queued for started in both)
            if n % 10 == 8:
                await until(over, what="the open run to end")
        await until(over, what="the last run to end")
        stored = await Sessions(place).load(name, "clerk")
        assert stored
        said = [m["content"][0]["text"] for m in stored.messages if m["role"] == "user" and "text" in m["content"][0]]
        assert sorted(said) == sorted(f"note n{n}" for n in range(2 * times))
        assert queued > times / 3


@pytest.mark.parametrize("point", ["about to save", "saved"])
async def test_worker_and_server_die_around_the_write(
    point: str, tmp_path: Path, workspace: Path, place: Place, name: str
) -> None:
    """Before the session's write, and between the write and its acknowledgement: it is written once."""
    settings = Settings(task_queue=f"queue-{name}", workspace=workspace, heartbeat_timeout=short(), shutdown_grace=1)
    env = {"ABEYANCE_AGENTS": "tests.session_agents", "ABEYANCE_SESSIONS": str(place)}
    request = RunRequest.parse({"agent": "clerk", "prompt": "note one", "session": name})
    server = DevServer(tmp_path)
    async with server.up() as (client, process):
        fault = {"ABEYANCE_TEST_FAULT": f"{point}:1"}
        async with worker_process(client, settings, tmp_path / "first.log", **env, **fault) as worker:
            started = await Runs(client, settings.task_queue).start_in_session(request)
            assert await worker.ends() == -signal.SIGKILL
        process.kill()
    stored = await Sessions(place).load(name, "clerk")
    assert (stored is None) == (point == "about to save")
    async with server.up() as (client, _), worker_process(client, settings, tmp_path / "second.log", **env):
        result = await Runs(client, settings.task_queue).result(started.run)
        assert result.session
        assert result.session.written
    again = await Sessions(place).load(name, "clerk")
    assert again
    assert [message["content"][0].get("text") for message in again.messages[::3]] == [
        "note one", "Done, after 3 messages.",
    ]  # fmt: skip
    assert stored is None or again == stored
    assert (workspace / f"{started.run}.jsonl").read_text().count("noted") == 1


@pytest.mark.usefixtures("s3_env")
async def test_a_session_on_s3(start_world: Start, name: str) -> None:
    """Trust is remembered there as it is in files, by another worker."""
    place = Place(bucket=BUCKET, prefix="agents")
    async with start_world(sessions=place) as world:
        run = await begin(world, name, "Delete a.txt")
        await run.reaches("waiting", approvals=1)
        await run.handle.signal("respond", "t")
        await run.result()
    async with start_world(sessions=place, task_queue=world.settings.task_queue) as world:
        run = await begin(world, name, "Delete b.txt and c.txt")
        result = await run.result()
    assert (result.approvals, world.files()) == ([], {"d.txt"})
    assert result.session
    assert result.session.remembers == {"trusted-file-manager-trust": "t"}


async def test_a_session_that_was_changed_meanwhile_parks_the_run(start_world: Start, place: Place, name: str) -> None:
    """A person says whether what it remembers is written over what is there now."""
    async with start_world(sessions=place) as world:
        run = await begin(world, name, "ask one", "clerk")
        await run.reaches("waiting", approvals=1)
        whole = {"messages": [], "state": {"other": 1}, "conversation_manager_state": {}, "interrupt_state": {}}
        other = {"scope": "agent", "schema_version": "1.0", "created_at": "2026-01-01", "data": whole, "app_data": {}}
        await Sessions(place).save(name, "clerk", other, after=None, mark="somebody/1")
        await run.handle.signal("approve")
        status = await run.reaches("parked")
        assert "was written by somebody/1" in (status.problem or "")
        stored = await Sessions(place).load(name, "clerk")
        assert stored
        assert stored.state == {"other": 1}
        await run.handle.signal("retry")
        await run.result()
        stored = await Sessions(place).load(name, "clerk")
        assert stored
        assert (stored.state, len(stored.messages)) == ({}, 4)


async def test_a_damaged_session_parks_the_run_before_anything_is_done(
    start_world: Start, place: Place, name: str
) -> None:
    async with start_world(sessions=place) as world:
        await (await begin(world, name, "note one", "clerk")).result()
        [file] = (tmp for tmp in (place.directory or Path()).rglob("snapshot_latest.json"))
        whole = file.read_bytes()
        file.write_bytes(whole[: len(whole) // 2])
        run = await begin(world, name, "note two", "clerk")
        status = await run.reaches("parked")
        assert str(file) in (status.problem or "")
        assert status.turn == 0
        file.write_bytes(whole)
        await run.handle.signal("retry")
        result = await run.result()
        assert result.message == "Done, after 7 messages."


async def test_a_spent_budget_leaves_a_session_that_goes_on(start_world: Start, place: Place, name: str) -> None:
    """The conversation ends with a word of the agent, so that the next prompt follows on it."""
    async with start_world(sessions=place) as world:
        result = await (await begin(world, name, "note one", "clerk", limits={"turns": 1})).result()
        assert result.stop_reason == "limit_turns"
        stored = await Sessions(place).load(name, "clerk")
        assert stored
        assert [message["role"] for message in stored.messages] == ["user", "assistant", "user", "assistant"]
        result = await (await begin(world, name, "note two", "clerk")).result()
        assert result.message == "Done, after 7 messages."


async def test_strands_programs_and_runs_share_a_session(start_world: Start, place: Place, name: str) -> None:
    """What an ordinary program's agent was told, a run knows; and the program knows what the run did."""

    conversations: type[ConversationManager] = NullConversationManager

    def program() -> Agent:
        manager = SnapshotSessionManager(name, storage=LocalFileStorage(str(place.directory)))
        return Agent(
            model=Clerk(),
            agent_id="clerk",
            session_manager=manager,
            conversation_manager=conversations(),
            callback_handler=None,
        )

    agent = program()
    agent.state.set("seen", 1)
    await agent.invoke_async("hello")
    async with start_world(sessions=place) as world:
        run = await begin(world, name, "note one", "clerk")
        assert "values that no run has written as they stand: seen" in str((await run.reaches("parked")).problem)
        await run.handle.signal("retry")
        result = await run.result()
        assert result.message == "Done, after 5 messages."
        assert result.session
        assert (result.session.found, result.session.remembers) == (2, {"seen": 1})
    agent = program()
    assert str(await agent.invoke_async("bye")).strip() == "You said 'bye', after 7 messages."
    conversations, name = SlidingWindowConversationManager, f"{name}-2"
    await program().invoke_async("hello")
    async with start_world(sessions=place) as world:
        run = await begin(world, name, "note one", "clerk")
        status = await run.reaches("parked")
    assert "managed by SlidingWindowConversationManager, and the agent has a NullConv" in (status.problem or "")


@pytest.mark.parametrize("conflict", [False, True], ids=["written", "conflict"])
async def test_a_cancel_that_comes_during_the_write(
    conflict: bool, start_world: Start, place: Place, name: str
) -> None:
    """The session may be written already, so the run ends as it would have, and says so; else it is cancelled."""
    async with start_world(sessions=place) as world:
        await (await begin(world, name, "note one", "clerk")).result()
        run = await begin(world, name, "ask two", "clerk")
        await run.reaches("waiting", approvals=1)
        [lock] = (place.directory or Path()).glob("*lock")
        with lock.open() as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            await run.handle.signal("approve")

            async def saving() -> bool:
                pending = (await run.handle.describe()).raw_description.pending_activities
                return any(activity.activity_type.name == "save_session" for activity in pending)

            await until(saving, what="the session to be written")
            await run.handle.cancel()

            async def heard() -> bool:
                events = (await run.handle.fetch_history()).events
                return any(e.HasField("workflow_execution_cancel_requested_event_attributes") for e in events[:-1])

            await until(heard, what="the cancellation to have come")
            if conflict:
                [file] = (place.directory or Path()).rglob("snapshot_latest.json")
                changed = json.loads(file.read_text())
                changed["data"]["state"] = {"other": 1}
                file.write_text(json.dumps(changed))
        if conflict:
            with pytest.raises(WorkflowFailureError):
                await run.result()
            assert (await run.status()).state == "cancelled"
            stored = await Sessions(place).load(name, "clerk")
            assert stored
            assert stored.state == {"other": 1}
            return
        result = await run.result()
        assert result.session
        assert result.session.written
        stored = await Sessions(place).load(name, "clerk")
        assert stored
        assert len(stored.messages) == 8
