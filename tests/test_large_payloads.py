"""Payloads too large for Temporal, with a storage for them, with one that is lost, and without any."""

from __future__ import annotations

import uuid
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from temporalio import activity, workflow
from temporalio.api.common.v1 import Payload
from temporalio.client import Client, WorkflowFailureError, WorkflowUpdateFailedError
from temporalio.common import RawValue, RetryPolicy
from temporalio.exceptions import ApplicationError
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from abeyance.contracts import WORKFLOW_TYPE
from abeyance.converter.storage import DIRECTORY, S3
from abeyance.converter.worker import reading_anything
from abeyance.errors import StorageError
from abeyance.places import Place
from abeyance.settings import Settings
from tests.conftest import Start
from tests.processes import forget_dead_worker
from tests.storages import forged, keys_in
from tests.support import StartedRun, a_key, until, with_converter
from tests.test_encryption import a_task_fails, sending_raw, task_failures

LARGE = 5_000_000


@workflow.defn
class Carries:
    """Has an activity carry something large there and back."""

    @workflow.run
    async def run(self, given: str) -> Any:
        return await workflow.execute_activity(
            "carry",
            given,
            start_to_close_timeout=timedelta(minutes=1),
            heartbeat_timeout=timedelta(seconds=20),
            retry_policy=RetryPolicy(initial_interval=timedelta(milliseconds=10)),
            summary="short",
        )


@activity.defn
async def carry(given: str) -> Any:
    """Like a turn: its heartbeats, its failure and its result go through the handle."""
    info = activity.info()
    handle = activity.client().get_async_activity_handle(task_token=info.task_token)
    if info.attempt == 1:
        await handle.heartbeat("h" * LARGE)
        await handle.fail(ApplicationError("again", "d" * LARGE), last_heartbeat_details=["l" * LARGE])
    elif info.attempt == 2:
        await handle.heartbeat([given, info.heartbeat_details[0]])
        raise ApplicationError("and again", "d" * LARGE)
    else:
        await handle.complete([*info.heartbeat_details[0], "r" * LARGE])
    activity.raise_complete_async()


@pytest.mark.parametrize("keys", ["", a_key("a")], ids=["plain", "encrypted"])
async def test_five_megabytes_go_everywhere(keys: str, place: Place, client: Client) -> None:
    """As the input of a workflow and an activity, as heartbeats, failures and results."""
    connected = with_converter(client, Settings(keys=keys, storage=place, compression=False))
    queue = f"carry-{uuid.uuid4().hex[:8]}"
    async with Worker(
        reading_anything(connected),
        task_queue=queue,
        workflows=[Carries],
        activities=[carry],
        workflow_runner=UnsandboxedWorkflowRunner(),
        max_cached_workflows=0,
    ):
        handle = await connected.start_workflow(Carries.run, "g" * LARGE, id=queue, task_queue=queue)
        given, last, result = await handle.result()
    assert (given, last, result) == ("g" * LARGE, "l" * LARGE, "r" * LARGE)
    assert (await handle.fetch_history()).to_json_dict()
    assert sum(event.ByteSize() for event in (await handle.fetch_history()).events) < 20_000
    if keys:
        for key in keys_in(place):
            data = Path(key).read_bytes() if place.directory else b""
            assert b"g" * 100 not in data


async def waiting_run(start_world: Start, place: Place) -> tuple[Settings, StartedRun]:
    """A run that waits for a person, whose worker is gone, with its input and its turn's result in the storage."""
    async with start_world(storage=place, compression=False) as world:
        run = await world.start("asks-much", "go" + "x" * 400_000, options={"calls": 1, "length": 10})
        await run.reaches("waiting", approvals=1)
    await forget_dead_worker(world.client, run.id)
    return world.settings, run


@pytest.mark.parametrize("what", ["the run's input", "a turn's result"])
async def test_a_stored_payload_that_is_missing_holds_the_run_up(what: str, start_world: Start, tmp_path: Path) -> None:
    """Its tasks fail with words, and when the payload is back it goes on."""
    place = Place(tmp_path / "storage")
    settings, run = await waiting_run(start_world, place)
    stored = {Path(key): Path(key).read_bytes() for key in keys_in(place)}
    is_result = {path: b'"stop_reason"' in data for path, data in stored.items()}
    is_input = {path: b'"run_id"' not in data and not is_result[path] for path, data in stored.items()}
    gone = [path for path in stored if (is_input if what == "the run's input" else is_result)[path]]
    assert 0 < len(gone) < len(stored)
    for path in gone:
        path.unlink()
    await run.handle.signal("approve")
    async with start_world(storage=place, task_queue=settings.task_queue):
        assert f"is not in {place.directory} (ABEYANCE_STORAGE)" in await a_task_fails(run)
    for path in gone:
        path.write_bytes(stored[path])
    async with start_world(storage=place, task_queue=settings.task_queue):
        assert (await run.result()).stop_reason == "end_turn"


async def test_a_worker_without_the_storage_harms_nothing(start_world: Start, place: Place, client: Client) -> None:
    settings, run = await waiting_run(start_world, place)
    await run.handle.signal("approve")
    async with start_world(task_queue=settings.task_queue) as lacking:
        assert "and ABEYANCE_STORAGE is not set here" in await a_task_fails(run)
        assert "ABEYANCE_STORAGE is not set here" in str(await failed_to_read(lacking.client, run))
    async with start_world(storage=place, task_queue=settings.task_queue):
        assert (await run.result()).stop_reason == "end_turn"


async def failed_to_read(client: Client, run: StartedRun) -> StorageError:
    """What a client says that meets a reference in the run's history."""
    [first, *_] = (await run.handle.fetch_history()).events
    with pytest.raises(StorageError) as failed:
        await client.data_converter.decode(first.workflow_execution_started_event_attributes.input.payloads)
    return failed.value


async def test_a_storage_that_is_away_during_a_turn(
    start_world: Start, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Heartbeats are tried again until it is back, as when the server is away; the turn goes on all the while."""
    blocked = tmp_path / "storage"
    options = {"reason": "why", "input": "in", "result": "x" * 40_000, "times": 10, "end": "end"}
    async with start_world(storage=Place(blocked), compression=False, heartbeat_timeout=20) as world:
        run = await world.start("tells", "go", options=options)
        await run.reaches("waiting", approvals=1)
        assert not blocked.exists()
        blocked.touch()
        (world.workspace / "hold").touch()
        await run.handle.signal("approve")

        async def noticed() -> bool:
            return f"A payload cannot be stored in {blocked}" in caplog.text

        await until(noticed, what="the turn to notice that nothing can be stored")
        blocked.unlink()

        async def written() -> bool:
            return bool(keys_in(Place(blocked)))

        await until(written, what="the journal to be written")
        (world.workspace / "hold").unlink()
        await run.result()
        events = [e.activity_task_started_event_attributes for e in (await run.handle.fetch_history()).events]
        assert [started.attempt for started in events if started.attempt] == [1, 1]


@pytest.mark.parametrize("cache", [{}, {"max_cached_workflows": 0}], ids=["cached", "replayed"])
async def test_a_replay_stores_nothing(cache: dict[str, int], start_world: Start, tmp_path: Path) -> None:
    """Encrypted, the same input would be another object each time: a run of 5 answers had 81 instead of 14."""
    place = Place(tmp_path / "storage")
    async with start_world(storage=place, compression=False, keys=a_key("a"), **cache) as world:
        run = await world.start("counted", "go" + "x" * 400_000, options={"acts": 3})
        for left in (3, 2, 1):
            await run.reaches("waiting", approvals=left)
            await run.handle.signal("approve", 4 - left)
        result = await run.result()
        await run.status()
    # The run's input, each turn's input and result, and heartbeats, of which some are repeated.
    assert result.stop_reason == "end_turn"
    assert len(keys_in(place)) <= 1 + 2 * 4 + 4


FORGED = [
    forged(DIRECTORY, sha256="../../../../../../etc/passwd"),
    forged(DIRECTORY, sha256="a" * 64),
    forged(S3, bucket="b", key="v0/d/sha256/" + "a" * 64, hash_algorithm="sha256", hash_value="a" * 64),
    forged("of-nobody"),
    Payload(metadata=forged("x").metadata, data=b"{"),
    Payload(metadata={"encoding": b"json/external-storage-reference"}, data=b"[]"),
]


async def test_forged_references_are_refused_with_words(start_world: Start, client: Client, tmp_path: Path) -> None:
    """Each as a signal and an update, and then a thousand at once; the run goes on."""
    async with start_world(storage=Place(tmp_path / "storage"), max_cached_workflows=0) as world:
        run = await world.start("file-manager", "Delete a.txt")
        await run.reaches("waiting", approvals=1)
        raw = sending_raw(client, world.settings).get_workflow_handle(run.id)
        for count, payload in enumerate(FORGED, 1):
            await raw.signal("approve", RawValue(payload))
            said = str((await run.refuses(count)).refused[-1].refused)
            assert said.startswith("It says that it is stored elsewhere"), said
            with pytest.raises(WorkflowUpdateFailedError) as refused:
                await raw.execute_update("decide", RawValue(payload))
            assert "It says that it is stored elsewhere" in str(refused.value.cause)
    for n in range(1_000):
        missing = forged(DIRECTORY, sha256=f"{n:064x}")
        await raw.signal("approve", RawValue(missing))
    async with start_world(storage=Place(tmp_path / "storage"), task_queue=world.settings.task_queue) as world:
        await run.refuses(len(FORGED) + 1_000)
        await run.handle.signal("approve")
        await run.result()
        assert await task_failures(run) == []
        assert "a.txt" not in world.files()


async def test_a_forged_input_fails_its_run_at_once(start_world: Start, client: Client, tmp_path: Path) -> None:
    """If it is none that we could have made. What we could have made is waited for, with words."""
    async with start_world(storage=Place(tmp_path / "storage")) as world:
        for number, payload in enumerate(FORGED):
            waited_for = number in (1, 2)
            handle = await client.start_workflow(
                WORKFLOW_TYPE, RawValue(payload), id=f"forged-{uuid.uuid4().hex}", task_queue=world.settings.task_queue
            )
            if waited_for:
                assert "The run's input cannot be read." in await a_task_fails(StartedRun(handle))
                await handle.terminate()
            else:
                with pytest.raises(WorkflowFailureError) as failed:
                    await handle.result()
                assert "It says that it is stored elsewhere" in str(failed.value.cause)
