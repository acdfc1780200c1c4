"""Encrypted runs: nothing of them can be read where Temporal keeps them, and no key that is missing loses anything."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pytest
from temporalio.api.common.v1 import Payload
from temporalio.api.enums.v1 import EventType
from temporalio.client import Client, WorkflowUpdateFailedError
from temporalio.common import RawValue
from temporalio.converter import SerializationContext

from abeyance.contracts import RunRequest, RunResult
from abeyance.converter import data_converter
from abeyance.converter.codec import Codec
from abeyance.converter.encryption import Keys
from abeyance.converter.storage import DIRECTORY
from abeyance.devserver import temporal_binary
from abeyance.errors import RunFailedError
from abeyance.places import Place
from abeyance.runs import Runs
from abeyance.settings import Settings
from tests.command_line import Cli
from tests.conftest import Start
from tests.processes import DevServer, address_of, environment, forget_dead_worker
from tests.storages import forged
from tests.support import PATIENCE, StartedRun, World, a_key, until, with_converter

A, B = a_key("a"), a_key("b")
SAID = (
    "prompt",
    "reason",
    "input",
    "result",
    "end",
    "error",
    "option",
    "answer",
    "by",
    "comment",
    "verdict",
)
"""Where a person or an agent may say something. Each of these says a word that is nowhere else."""


def word(where: str) -> str:
    return f"zanzibar{where}zanzibar"


async def everything_said(world: World) -> None:
    """Two runs in which each of the words is said: one ends well, one fails."""
    runs = Runs(world.client, world.settings.task_queue)
    options = {name: word(name) for name in ("reason", "input", "result", "end", "error", "option")}
    for run in ("good", "bad"):
        await runs.start(RunRequest("tells", word("prompt"), options=options), run)
        started = StartedRun(world.client.get_workflow_handle(run, result_type=RunResult))
        await started.reaches("waiting", approvals=1)
        if run == "bad":
            (world.workspace / "fail").touch()
        await runs.decide(run, [{"response": word("answer"), "by": word("by"), "comment": word("comment")}])
        if run == "good":
            assert word("end") in (await runs.result(run)).message
            assert (await runs.summary(run)).agent == "tells"
            continue
        await started.reaches("parked")
        assert word("error") in str((await runs.summary(run)).problem)
        await runs.rule(run, "abort", {"comment": word("verdict")})
        with pytest.raises(RunFailedError, match=word("error")):
            await runs.result(run)


def found_in(directory: Path) -> set[str]:
    """Which of the words stand in the database's files."""
    data = b"".join(file.read_bytes() for file in directory.iterdir() if file.name.startswith("temporal.db"))
    assert len(data) > 100_000
    return {where for where in SAID if word(where).encode() in data}


@pytest.mark.processes
@pytest.mark.parametrize("keys", ["", A], ids=["plain", "encrypted"])
async def test_nothing_is_readable_in_the_database(
    keys: str, tmp_path: Path, start_world: Start, caplog: pytest.LogCaptureFixture
) -> None:
    """Byte by byte; and without keys the same search finds every word."""
    home = tmp_path / "server"
    home.mkdir()
    async with DevServer(home).up() as (client, _):
        async with start_world(client, keys=keys, compression=False) as world:
            await everything_said(world)
        found = found_in(home)
    assert found == (set() if keys else set(SAID))
    for secret in keys.split(":")[1:]:
        assert secret not in caplog.text


async def task_failures(run: StartedRun) -> list[str]:
    """What the run's failed workflow tasks say to whoever looks at the history, without a key."""
    failed = EventType.EVENT_TYPE_WORKFLOW_TASK_FAILED
    events = (await run.handle.fetch_history()).events
    return [e.workflow_task_failed_event_attributes.failure.message for e in events if e.event_type == failed]


async def a_task_fails(run: StartedRun) -> str:
    async def look() -> list[str]:
        return await task_failures(run)

    return (await until(look, what="a workflow task to fail"))[-1]


def by_hand(client: Client, run: str, *arguments: str) -> None:
    """Send a signal with the real `temporal`, which has no key."""
    command = [temporal_binary(), "workflow", "signal", "-w", run, *arguments, "--address", address_of(client)]
    subprocess.run(command, check=True, capture_output=True, timeout=PATIENCE)


async def test_the_key_is_changed_while_a_run_waits(start_world: Start, client: Client) -> None:
    """Started under A, approved by hand before a worker with B and A, which ends it; the rest is under B."""
    async with start_world(keys=A) as world:
        run = await world.start("file-manager", "Delete a.txt")
        await run.reaches("waiting", approvals=1)
    await forget_dead_worker(client, run.id)
    by_hand(client, run.id, "--name", "approve")
    async with start_world(keys=f"{B},{A}", task_queue=world.settings.task_queue) as world:
        later = StartedRun(world.client.get_workflow_handle(run.id, result_type=RunResult))
        assert "a.txt" in (await later.result()).message
        assert "a.txt" not in world.files()
        last = (await run.handle.fetch_history()).events[-1].workflow_execution_completed_event_attributes
        assert last.result.payloads[0].metadata["encryption-key-id"] == b"b"


@pytest.mark.parametrize("keys", [B, ""], ids=["another key", "no key"])
async def test_a_worker_without_the_key_harms_nothing(keys: str, start_world: Start, client: Client) -> None:
    """Its tasks fail with words, for as long as it takes until a worker with the key comes; no answer is lost."""
    async with start_world(keys=A) as world:
        run = await world.start("file-manager", "Delete a.txt")
        await run.reaches("waiting", approvals=1)
    await forget_dead_worker(client, run.id)
    await run.handle.signal("approve", {"approval": 1, "by": "ann", "comment": "encrypted"})
    async with start_world(keys=keys, task_queue=world.settings.task_queue) as lacking:
        words = await a_task_fails(run)
        assert "the key 'a', which is not known here. Add it to ABEYANCE_KEYS" in words
        assert "a.txt" in lacking.files()
    async with start_world(keys=f"{B},{A}", task_queue=world.settings.task_queue) as world:
        later = StartedRun(world.client.get_workflow_handle(run.id, result_type=RunResult))
        [decision] = (await later.result()).decisions
        assert (decision.response, decision.by, decision.refused) == ("y", "ann", None)
        assert "a.txt" not in world.files()


async def test_a_worker_that_never_had_the_key(start_world: Start, client: Client) -> None:
    """A run that is started under a key waits for a worker that has it, instead of failing at its input."""
    async with start_world(keys=B) as world:
        sender = with_converter(client, Settings(keys=A))
        run = await World(sender, world.settings).start("file-manager", "Inspect a.txt")
        assert "the key 'a', which is not known here" in await a_task_fails(run)
    async with start_world(keys=f"{B},{A}", task_queue=world.settings.task_queue) as world:
        await Runs(world.client, "any").result(run.id)


async def test_an_answer_under_an_unknown_key_is_not_refused(start_world: Start, client: Client) -> None:
    """A signal that this worker cannot read is somebody's answer; it is kept until a worker can."""
    async with start_world(keys=A) as world:
        run = await world.start("file-manager", "Delete a.txt")
        await run.reaches("waiting", approvals=1)
        sender = with_converter(client, Settings(keys=B))
        await sender.get_workflow_handle(run.id).signal("respond", {"approval": 1, "response": "y", "by": "ben"})
        assert "the key 'b', which is not known here" in await a_task_fails(run)
    async with start_world(keys=f"{A},{B}", task_queue=world.settings.task_queue):
        [decision] = (await run.result()).decisions
        assert (decision.by, decision.refused) == ("ben", None)


async def junk() -> dict[str, tuple[Payload, str]]:
    """Payloads as anybody may send them, each with what is said of it."""
    [good] = await data_converter(Settings(keys=A)).encode(["y"])
    altered = Payload(metadata=good.metadata, data=good.data[:-1] + bytes([good.data[-1] ^ 1]))
    [foreign] = await data_converter(Settings(keys=a_key("a"))).encode(["y"])
    return {
        "altered": (altered, "encrypted with the key 'a', and it does not open with it"),
        "under another key of that name": (foreign, "encrypted with the key 'a', and it does not open with it"),
        "no encryption": (Payload(metadata={"encoding": b"binary/encrypted"}, data=b"y"), "does not have the shape"),
        "no compression": (Payload(metadata={"encoding": b"binary/zstd"}, data=b"y"), "it cannot be expanded"),
    }


class Unencoded(Codec):
    """Sends what it is given as it is."""

    def with_context(self, context: SerializationContext) -> Unencoded:
        return self

    async def encode(self, payloads: Sequence[Payload]) -> list[Payload]:
        return list(payloads)


def sending_raw(client: Client, settings: Settings) -> Client:
    """A client that reads what is encrypted, and encodes nothing."""
    codec = Unencoded(Keys.of(settings.keys, None), compression=False)
    return Client(**client.config() | {"data_converter": replace(data_converter(settings), payload_codec=codec)})


async def test_junk_that_claims_to_be_encoded_is_refused_with_words(start_world: Start, client: Client) -> None:
    """As signals and updates, and as the input of a run, which fails at once; neither holds up a run."""
    for more in ({}, {"max_cached_workflows": 0}):
        async with start_world(keys=A, **more) as world:
            run = await world.start("file-manager", "Delete b.txt")
            await run.reaches("waiting", approvals=1)
            raw = sending_raw(client, world.settings).get_workflow_handle(run.id)
            for count, (payload, words) in enumerate((await junk()).values(), 1):
                await raw.signal("approve", RawValue(payload))
                status = await run.refuses(count)
                assert words in str(status.refused[-1].refused)
                with pytest.raises(WorkflowUpdateFailedError) as refused:
                    await raw.execute_update("decide", RawValue(payload))
                assert words in str(refused.value.cause)
                started = await client.start_workflow(
                    "AgentRun", RawValue(payload), id=f"{run.id}-{count}", task_queue=world.settings.task_queue
                )
                with pytest.raises(RunFailedError, match=words):
                    await Runs(world.client, "any").result(started.id)
            assert await task_failures(run) == []
            await run.handle.signal("deny", 1)
            assert [d.response for d in (await run.result()).decisions if not d.refused] == ["n"]


async def test_a_client_without_the_key_says_so(start_world: Start, client: Client, tmp_path: Path) -> None:
    """In one line, that names the key and the setting; and lists all runs all the same."""
    async with start_world(keys=A) as world:
        run = await world.start("file-manager", "Delete c.txt")
        await run.reaches("waiting", approvals=1)
        cli = Cli(environment(address_of(client), world.settings))
        said = (await cli("show", run.id, status=1)).stderr
        assert "the key 'a', which is not known here. Add it to ABEYANCE_KEYS" in said

        async def listed() -> bool:
            runs = {item["run"]: item["problem"] for item in await cli.json("list")}
            return "the key 'a', which is not known here" in str(runs.get(run.id))

        await until(listed, what="the run to be listed as one that cannot be read")
        assert run.id in (await cli("pending")).stdout
        assert (await cli.json("show", run.id, ABEYANCE_KEYS=A))["state"] == "waiting"
        said = (await cli("approve", run.id, status=1)).stderr
        assert "the key 'a', which is not known here" in said
        assert (await cli.json("show", run.id, ABEYANCE_KEYS=A))["state"] == "waiting"
        said = (await cli("approve", run.id, "1", status=1)).stderr
        assert "The answer has reached the run, and what became of it cannot be read here." in said
        await run.result()
        assert "c.txt" not in world.files()


@pytest.mark.parametrize("prompt", ["\u4e00" * 200, "".join(map(chr, range(0x4E00, 0x4F00)))], ids=["same", "all else"])
async def test_a_long_summary_is_still_taken(prompt: str, start_world: Start) -> None:
    """The server takes 400 bytes of it, and encryption makes it longer."""
    async with start_world(keys=A) as world:
        run = f"summary-{uuid4().hex[:8]}"
        await Runs(world.client, world.settings.task_queue).start(RunRequest("file-manager", prompt), run)
        await Runs(world.client, world.settings.task_queue).result(run)


async def test_an_answer_beside_a_forged_reference_counts(start_world: Start, client: Client, tmp_path: Path) -> None:
    """In one task: what is not found must not keep an answer from being read that is compressed and encrypted."""
    storage = Place(tmp_path / "storage")
    async with start_world(keys=A, storage=storage) as world:
        run = await world.start("counted", "go")
        await run.reaches("waiting", approvals=1)
    missing = forged(DIRECTORY, sha256="a" * 64)
    await client.get_workflow_handle(run.id).signal("approve", RawValue(missing))
    await run.handle.signal("approve", {"approval": 1, "comment": "x" * 3_000})
    async with start_world(keys=A, storage=storage, task_queue=world.settings.task_queue):
        refused, decision = (await run.result()).decisions
        assert "cannot be had now" in str(refused.refused)
        assert (decision.response, decision.comment) == ("y", "x" * 3_000)
