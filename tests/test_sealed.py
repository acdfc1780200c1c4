"""Signals under a key that a worker lacks: what is forged stops no run, what is somebody's answer is not lost."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from temporalio.api.common.v1 import Payload
from temporalio.client import Client, WorkflowUpdateFailedError
from temporalio.common import RawValue

from abeyance.converter.encryption import ENCRYPTED, KEY_ID
from abeyance.settings import Settings
from tests.conftest import Start
from tests.processes import forget_dead_worker
from tests.support import StartedRun, World, a_key, with_converter
from tests.test_encryption import a_task_fails, task_failures
from workflows.sealed import FLOODED, MOST_MARKS

A, B = a_key("a"), a_key("b")
SIGNALS = ("approve", "deny", "respond", "retry", "abort", "say", "finish", "no-such-signal")


def forged(key: str) -> RawValue:
    """What anybody may send who knows how encrypted payloads look."""
    return RawValue(Payload(metadata={"encoding": ENCRYPTED, KEY_ID: key.encode()}, data=os.urandom(64)))


async def asks(world: World) -> StartedRun:
    run = await world.start("file-manager", "Delete a.txt")
    await run.reaches("waiting", approvals=1)
    return run


@pytest.mark.parametrize("cached", [{}, {"max_cached_workflows": 0}], ids=["cached", "replayed"])
async def test_without_keys_a_forged_signal_is_junk(cached: dict[str, int], start_world: Start) -> None:
    async with start_world(**cached) as world:
        run = await asks(world)
        for count, name in enumerate(SIGNALS, 1):
            await run.handle.signal(name, forged("nobodys"))
            refused = (await run.refuses(count)).refused[-1]
            assert ("It is encrypted" in str(refused.refused)) == (name != SIGNALS[-1])
            assert refused.via == f"signal {name}"
        with pytest.raises(WorkflowUpdateFailedError) as refusal:
            await run.handle.execute_update("decide", forged("nobodys"))
        assert "the key 'nobodys', which is not known here" in str(refusal.value.cause)
        await run.handle.signal("approve")
        assert [d.response for d in (await run.result()).decisions if not d.refused] == ["y"]
        assert await task_failures(run) == []
        assert "a.txt" not in world.files()


async def test_a_flood_of_forged_signals_has_few_markers(start_world: Start, client: Client) -> None:
    """All that come in one task after the last marker are refused, an answer too, which counts when sent again."""
    async with start_world() as world:
        run = await asks(world)
    for _ in range(MOST_MARKS + 5):
        await run.handle.signal("approve", forged("nobodys"))
    await run.handle.signal("approve", {"approval": 1, "by": "ann"})
    async with start_world(task_queue=world.settings.task_queue, max_cached_workflows=0) as world:
        refused = (await run.refuses(MOST_MARKS + 6)).refused
        assert (refused[-1].response, refused[-1].refused) == ([], FLOODED)
        assert "a.txt" in world.files()
        events = (await run.handle.fetch_history()).events
        assert sum(event.HasField("marker_recorded_event_attributes") for event in events) == MOST_MARKS + 1
        await run.handle.signal("approve", {"approval": 1, "by": "ann"})
        assert [d.by for d in (await run.result()).decisions if not d.refused] == ["ann"]
        assert await task_failures(run) == []


async def test_a_worker_with_the_key_comes_to_the_same(start_world: Start, client: Client) -> None:
    """What a worker without keys has refused stays refused in replays by workers that can read it."""
    async with start_world() as world:
        run = await asks(world)
        sender = with_converter(client, Settings(keys=A)).get_workflow_handle(run.id)
        await sender.signal("approve", {"approval": 1, "by": "ann"})
        await run.refuses(1)
        assert "a.txt" in world.files()
    for keys in (A, "", f"{B},{A}", B):
        await forget_dead_worker(client, run.id)
        async with start_world(keys=keys, task_queue=world.settings.task_queue, max_cached_workflows=0) as world:
            run = StartedRun(world.client.get_workflow_handle(run.id, result_type=run.handle._result_type))
            status = await run.reaches("waiting", approvals=1)
            assert ["no keys" in str(decision.refused) for decision in status.refused] == [True]
    async with start_world(keys=A, task_queue=world.settings.task_queue) as world:
        await sender.signal("approve", {"approval": 1, "by": "ben"})
        run = StartedRun(world.client.get_workflow_handle(run.id, result_type=run.handle._result_type))
        assert [d.by for d in (await run.result()).decisions if not d.refused] == ["ben"]
        assert "a.txt" not in world.files()
    assert not any("ondeterminis" in words for words in await task_failures(run))


async def test_a_worker_without_its_keys_refuses_no_answer_of_an_encrypted_run(
    start_world: Start, client: Client
) -> None:
    """Started by hand, so that its input is plain; what its turns came to is not."""
    async with start_world(keys=A) as world:
        plain = World(client, world.settings)
        run = await plain.start("file-manager", "Delete a.txt")
        encrypted = StartedRun(world.client.get_workflow_handle(run.id, result_type=run.handle._result_type))
        await encrypted.reaches("waiting", approvals=1)
    await forget_dead_worker(client, run.id)
    await encrypted.handle.signal("approve", {"approval": 1, "by": "ann"})
    async with start_world(task_queue=world.settings.task_queue):
        assert "the key 'a', which is not known here" in await a_task_fails(run)
    async with start_world(keys=A, task_queue=world.settings.task_queue):
        [decision] = (await encrypted.result()).decisions
        assert (decision.by, decision.refused) == ("ann", None)


async def test_with_keys_the_words_name_the_signal_and_the_cure(
    start_world: Start, client: Client, tmp_path: Path
) -> None:
    """The cure that it names works, and an update is refused to its sender at once."""
    async with start_world(keys=A) as world:
        run = await asks(world)
        anybody = client.get_workflow_handle(run.id)
        await anybody.signal("no-such-signal", forged("nobodys"))
        await run.refuses(1)
        with pytest.raises(WorkflowUpdateFailedError) as refusal:
            await anybody.execute_update("decide", forged("nobodys"))
        assert "Encoded failure" in str(refusal.value.cause)  # whose words only those with the key can read
        assert await task_failures(run) == []
        await anybody.signal("approve", forged("nobodys"))
        words = await a_task_fails(run)
        assert "The 'signal approve' is encrypted with the key 'nobodys', which is not known here" in words
        assert "add a new key named 'nobodys'" in words
        assert "a.txt" in world.files()
    async with start_world(keys=f"{A},{a_key('nobodys')}", task_queue=world.settings.task_queue) as world:
        run = StartedRun(world.client.get_workflow_handle(run.id, result_type=run.handle._result_type))
        assert "does not open with it" in str((await run.refuses(2)).refused[-1].refused)
        await run.handle.signal("deny")
        await run.result()
