"""What is too large for Temporal: kept beside it where that is set up, and refused with words where it is not."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest
from temporalio.client import Client

from abeyance.attributes import register
from abeyance.connection import connect
from abeyance.contracts import RunRequest
from abeyance.errors import RequestError
from abeyance.places import Place
from abeyance.runs import Runs
from abeyance.sessions import Sessions
from abeyance.settings import Settings
from tests.conftest import Start
from tests.processes import DevServer, address_of
from tests.sessions import BUCKET, s3_env, s3_server  # noqa: F401 - fixtures
from tests.support import StartedRun, noise, tool_results
from tests.test_growing import HISTORY, executions, listening

SIZE = 5_000_000


@pytest.fixture(params=["directory", "s3"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    if request.param == "directory":
        return Place(directory=tmp_path / "payloads")
    request.getfixturevalue("s3_env")
    return Place(bucket=BUCKET, prefix="payloads")


async def connected(client: Client, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Client:
    monkeypatch.setenv("TEMPORAL_ADDRESS", address_of(client))
    return await connect(settings)


@pytest.mark.long
async def test_a_message_of_five_megabytes(
    storage: Place, tmp_path: Path, start_world: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It goes through turns on several workers, a new execution, and the session."""
    sessions = Place(directory=tmp_path / "sessions")
    async with DevServer(tmp_path, {HISTORY: 40}).up() as (plain, _):
        await register(plain)
        given = {"sessions": sessions, "storage": storage}
        client = await connected(plain, Settings(sessions=sessions, storage=storage), monkeypatch)
        async with start_world(client, **given) as world:
            started = await Runs(client, world.settings.task_queue).start_in_session(
                RunRequest.parse({"agent": "clerk", "prompt": f"big {SIZE}", "session": "s", "interactive": True})
            )
            run = StartedRun(client.get_workflow_handle(started.run))
            assert (await listening(run, 1)).message == "Done, after 3 messages."
        queue = world.settings.task_queue
        for turn in (2, 3, 4, 5, 6):
            async with start_world(client, task_queue=queue, **given):
                await run.handle.signal("say", f"note {turn}")
                status = await listening(run, turn)
        assert status.message == "Done, after 23 messages."
        async with start_world(client, task_queue=queue, **given):
            await run.handle.signal("finish")
            await run.handle.result()
        assert len(await executions(client, run)) > 1
        stored = await Sessions(sessions).load("s", "clerk")
        assert stored
        assert stored.size > SIZE
        history = await client.get_workflow_handle(run.id).fetch_history()
        assert max(event.ByteSize() for event in history.events) < 300_000


async def test_a_result_that_cannot_be_kept_is_refused_with_words(start_world: Start) -> None:
    """The model and the record are told, what the tool did stays, and the run goes on."""
    async with start_world() as world:
        run = await world.start("clerk", f"big {SIZE}", interactive=True)
        status = await listening(run, 1)
        assert status.message == "Done, after 3 messages."
        assert [ran.status for ran in status.turn_notes[0].work.ran] == ["error"]
        [told] = await tool_results(world.client, run)
        assert "Set ABEYANCE_STORAGE for all workers and clients" in told["content"][0]["text"]
        await run.handle.signal("say", "note it")
        await listening(run, 2)


async def test_a_conversation_that_cannot_be_handed_on_parks_the_run(start_world: Start) -> None:
    """It says which setting would mend it, and a person decides; nothing retries for ever."""
    async with start_world() as world:
        run = await world.start("clerk", "x " + noise(1_700_000))
        status = await run.reaches("parked")
        assert "Set ABEYANCE_STORAGE for all workers and clients" in (status.problem or "")
        await run.handle.signal("abort")


@pytest.mark.parametrize("size", [3_200_000, SIZE])
async def test_a_prompt_that_is_too_large_is_refused_where_it_is_typed(size: int, start_world: Start) -> None:
    async with start_world() as world:
        runs = Runs(world.client, world.settings.task_queue)
        name = f"too-large-{uuid.uuid4().hex[:8]}"
        for request in ({"prompt": noise(size)}, {"prompt": noise(size), "session": name}):
            with pytest.raises(RequestError, match="Set ABEYANCE_STORAGE"):
                asked = RunRequest.parse({"agent": "clerk"} | request)
                await (runs.start_in_session(asked) if "session" in request else runs.start(asked, name))


async def test_a_prompt_of_five_megabytes(
    storage: Place, client: Client, start_world: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    able = await connected(client, Settings(storage=storage), monkeypatch)
    async with start_world(able, storage=storage) as world:
        run = await world.start("clerk", "x" + noise(SIZE), interactive=True)
        await listening(run, 1)
        await run.handle.signal("say", "note it")
        assert (await listening(run, 2)).message == "Done, after 5 messages."
