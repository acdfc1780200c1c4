"""Workers and servers that die in the middle of a turn, and what people are asked about it."""

from __future__ import annotations

import asyncio
import json
import signal
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from temporalio.api.enums.v1 import EventType
from temporalio.client import Client
from temporalio.service import RPCError

from abeyance.settings import Settings
from tests.chaos.campaign import Counts, Probe
from tests.chaos.campaign import start as start_chaos
from tests.chaos.workers import Nursery
from tests.journal_agents import counted
from tests.processes import DevServer, address_of
from tests.support import StartedRun, World, short, tool_results, until

pytestmark = pytest.mark.processes


@pytest.fixture
def queue(client: Client, workspace: Path) -> World:
    """A task queue without a worker."""
    return World(client, Settings(task_queue=f"queue-{uuid.uuid4().hex[:8]}", workspace=workspace))


@pytest.fixture
def nursery(client: Client, workspace: Path) -> Iterator[Nursery]:
    with Nursery(address_of(client), workspace, heartbeat=short()) as workers:
        yield workers


async def dead(nursery: Nursery, pid: int) -> None:
    async def look() -> bool:
        return nursery.has_died(pid)

    await until(look, what="the worker to die")


async def seen(world: World, run: StartedRun, effect: str) -> None:
    async def look() -> bool:
        return bool(counted(world.workspace, run.id)[effect])

    await until(look, what=f"{effect} of {run.id}")


@pytest.mark.parametrize(
    ("response", "status", "told", "paid"),
    [
        ("retry", "success", "paid for real", 1),
        ("skip", "error", "decided to skip it", 0),
        ({"result": "the bank says it went through"}, "success", "the bank says it went through", 0),
    ],
)
async def test_a_person_settles_a_call_in_doubt(
    response: Any, status: str, told: str, paid: int, queue: World, nursery: Nursery
) -> None:
    """A once-only call whose worker died is asked about; what the person chose is what the model is told."""
    (queue.workspace / "die-1").touch()
    doomed = nursery.fork(queue.settings.task_queue)
    run = await queue.start("payer", "go")
    await dead(nursery, doomed)
    nursery.fork(queue.settings.task_queue)
    asked = (await run.reaches("waiting", approvals=1)).approvals[0]
    assert (asked.name, asked.tool, asked.input) == ("in-doubt", "pay", {"amount": 5})
    assert asked.reason["started_at"].startswith("20")
    assert asked.reason["worker"].startswith(f"{doomed}@")
    for wrong in ("y", "n", {"result": None}, {"results": 1}, 1):
        await run.handle.signal("respond", {"approval": 1, "response": wrong})
    await run.handle.signal("approve")
    refused = (await run.refuses(6)).refused
    assert all(word in (refused[0].refused or "") for word in ("retry", "skip", "result"))
    await run.handle.signal("respond", {"approval": 1, "response": response})
    await run.result()
    results = await tool_results(queue.client, run)
    assert results[0]["status"] == status
    assert told in json.dumps(results[0]["content"])
    effects = counted(queue.workspace, run.id)
    assert effects["pay finish"] == paid
    assert effects["pay start 1"] == 1
    assert effects["pay start 2"] == paid


async def test_every_crash_is_asked_about_anew(queue: World, nursery: Nursery) -> None:
    """A `retry` for one crash does not let a second crash pass: the doubt comes back under a new id."""
    (queue.workspace / "die-1").touch()
    (queue.workspace / "die-2").touch()
    first = nursery.fork(queue.settings.task_queue)
    run = await queue.start("payer", "go")
    await dead(nursery, first)
    second = nursery.fork(queue.settings.task_queue)
    before = (await run.reaches("waiting", approvals=1)).approvals[0]
    await run.handle.signal("respond", "retry")
    await dead(nursery, second)
    nursery.fork(queue.settings.task_queue)

    async def again() -> Any:
        try:
            approvals = (await run.status()).approvals
        except RPCError:
            return None
        return approvals[0] if approvals and approvals[0].number == 2 else None

    after = await until(again, what="the second question")
    assert after.id != before.id
    assert after.reason["starts"] == 2
    await run.handle.signal("respond", {"approval": 2, "response": "skip"})
    await run.result()
    assert counted(queue.workspace, run.id)["pay finish"] == 0


async def test_a_question_in_between_does_not_make_an_old_retry_count(queue: World, nursery: Nursery) -> None:
    """Killed, retried, asked, answered and killed again: the second crash is asked about too."""
    (queue.workspace / "die-before").touch()
    first = nursery.fork(queue.settings.task_queue)
    run = await queue.start("asks-in-between", "go")
    await dead(nursery, first)
    second = nursery.fork(queue.settings.task_queue)
    await run.reaches("waiting", approvals=1)
    await run.handle.signal("respond", {"approval": 1, "response": "retry"})
    status = await run.reaches("waiting", approvals=1, turn=2)
    assert [approval.name for approval in status.approvals] == ["sure"]
    (queue.workspace / "die-after").touch()
    await run.handle.signal("respond", {"approval": 2, "response": "yes"})
    await dead(nursery, second)
    nursery.fork(queue.settings.task_queue)
    status = await run.reaches("waiting", approvals=1, turn=3)
    assert [approval.name for approval in status.approvals] == ["in-doubt"]
    await run.handle.signal("respond", {"approval": 3, "response": "skip"})
    await run.result()
    effects = counted(queue.workspace, run.id)
    assert {key: times for key, times in effects.items() if key.startswith("pay")} == {
        "pay start 1": 1,
        "pay start 2": 1,
        "pay start 3": 1,
    }


async def test_three_at_once_one_finished_one_asked_one_killed(queue: World, nursery: Nursery) -> None:
    """After recovery each has run as often as it should, and the answer reaches the right one."""
    (queue.workspace / "die-1").touch()
    doomed = nursery.fork(queue.settings.task_queue)
    run = await queue.start("three-at-once", "go")
    await dead(nursery, doomed)
    nursery.fork(queue.settings.task_queue)
    status = await run.reaches("waiting", approvals=1)
    assert status.approvals[0].tool == "asked"
    await run.handle.signal("approve")
    await run.result()
    assert counted(queue.workspace, run.id) == {
        "model 0": 1, "model 1": 1, "fast finish": 1, "asked finish": 1, "dies start": 2, "dies finish": 1,
    }  # fmt: skip


async def test_a_long_turn_goes_on_where_it_was_killed(queue: World, nursery: Nursery) -> None:
    """Of forty model calls and tools, the second attempt makes exactly those that are left, in the same activity."""
    (queue.workspace / "die-1").touch()
    doomed = nursery.fork(queue.settings.task_queue)
    run = await queue.start("dies-at-twenty", "go")
    await dead(nursery, doomed)
    nursery.fork(queue.settings.task_queue)
    result = await run.result()
    effects = counted(queue.workspace, run.id)
    assert effects == {
        **{f"model {n}": 1 for n in range(40)},
        **{f"step {n}": 1 for n in range(1, 40) if n != 20},
        "step 20": 2,
    }
    assert result.usage.model_calls == 40
    events = (await run.handle.fetch_history()).events
    assert sum(e.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED for e in events) == 1


class Cable:
    """A way to the server that a test can cut."""

    def __init__(self, address: str):
        self._host, _, port = address.rpartition(":")
        self._port = int(port)
        self._open: set[asyncio.StreamWriter] = set()
        self._cut = False

    @asynccontextmanager
    async def laid(self) -> AsyncIterator[str]:
        """Give the address of this end."""
        server = await asyncio.start_server(self._connect, "127.0.0.1", 0)
        try:
            yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        finally:
            server.close()
            self.cut()

    def cut(self) -> None:
        self._cut = True
        for writer in self._open:
            writer.transport.abort()
        self._open.clear()

    def mend(self) -> None:
        self._cut = False

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._cut:
            writer.transport.abort()
            return
        far_reader, far_writer = await asyncio.open_connection(self._host, self._port)
        self._open |= {writer, far_writer}
        await asyncio.gather(_pump(reader, far_writer), _pump(far_reader, writer))


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        pass
    finally:
        writer.close()


async def test_a_zombie_is_not_believed(client: Client, queue: World, nursery: Nursery) -> None:
    """A worker is cut off while its once-only tool runs: a person is asked, and its late result is not applied."""
    (queue.workspace / "hold").touch()
    cable = Cable(address_of(client))
    async with cable.laid() as address:
        with Nursery(address, queue.workspace, heartbeat=short()) as cut_off:
            zombie = cut_off.fork(queue.settings.task_queue)
            run = await queue.start("payer", "go")
            await seen(queue, run, "pay start 1")
            cable.cut()
            nursery.fork(queue.settings.task_queue)
            await run.reaches("waiting", approvals=1)
            cable.mend()
            (queue.workspace / "hold").unlink()
            await seen(queue, run, "pay finish")
            await run.handle.signal("respond", "skip")
            await run.result()
            assert not cut_off.has_died(zombie)
    results = await tool_results(queue.client, run)
    assert [result["status"] for result in results] == ["error"]
    effects = counted(queue.workspace, run.id)
    assert (effects["pay start 1"], effects["pay start 2"], effects["model 1"]) == (1, 0, 1)


async def test_a_worker_that_stays_cut_off_stops(client: Client, queue: World, nursery: Nursery) -> None:
    """Without an acknowledgement for as long as the timeout, it takes no further step, repeatable or not."""
    hold = queue.workspace / "hold"
    hold.touch()
    cable = Cable(address_of(client))
    async with cable.laid() as address:
        with Nursery(address, queue.workspace, heartbeat=short()) as cut_off:
            zombie = cut_off.fork(queue.settings.task_queue)
            run = await queue.start("held", "go")
            await seen(queue, run, "work start 1")
            cable.cut()
            nursery.fork(queue.settings.task_queue)

            async def taken_over() -> bool:
                return counted(queue.workspace, run.id)["work start 1"] == 2

            await until(taken_over, what="the other worker to take over")
            hold.unlink()
            await run.result()

            async def both_finished() -> bool:
                return counted(queue.workspace, run.id)["work finish 1"] == 2

            await until(both_finished, what="the cut-off worker's tool to end")
            await asyncio.sleep(short())  # a further step of the cut-off worker, if it took one, would show by now
            assert not cut_off.has_died(zombie)
    effects = counted(queue.workspace, run.id)
    assert (effects["model 1"], effects["work start 2"], effects["model 2"]) == (1, 1, 1)


@pytest.mark.long
async def test_the_server_is_killed_again_and_again(tmp_path: Path, workspace: Path) -> None:
    """Runs go on across five deaths of the server; what it had acknowledged is not done again."""
    server, counts = DevServer(tmp_path), Counts()
    queue = f"queue-{uuid.uuid4().hex[:8]}"
    with Nursery(server.address, workspace, heartbeat=short(2)) as workers:
        async with server.up() as (client, process):
            workers.fork(queue)
            runs = [await start_chaos(client, queue) for _ in range(8)]
            probes = [asyncio.ensure_future(Probe(client, workspace, run, counts).follow()) for run in runs]
            await asyncio.sleep(0.5)  # a moment at random in which something is going on
            process.kill()
        for delay in (0.4, 0.7, 1.0, 1.3):
            async with server.up() as (_, process):
                await asyncio.sleep(delay)
                process.kill()
        async with server.up():
            await asyncio.gather(*probes)
    print(counts)
    assert counts.violations == 0, counts.notes
    assert counts.runs == 8


STARTED = EventType.EVENT_TYPE_ACTIVITY_TASK_STARTED


@pytest.fixture
def patient_nursery(client: Client, workspace: Path) -> Iterator[Nursery]:
    """Workers that a busy machine does not make look dead."""
    with Nursery(address_of(client), workspace, heartbeat=30.0) as workers:
        yield workers


@pytest.mark.long
async def test_a_rolling_restart_costs_no_attempt(queue: World, patient_nursery: Nursery) -> None:
    """Two workers are replaced one by one under 50 open runs, 20 of them in a turn.

    All finish at the first try, but for a turn that a stopping worker had taken and not begun: it gives that back.
    """
    nursery = patient_nursery
    hold = queue.workspace / "hold"
    hold.touch()
    name = queue.settings.task_queue
    old = [nursery.fork(name), nursery.fork(name)]
    waiting = [await queue.start("file-manager-like", "go") for _ in range(30)]
    busy = [await queue.start("held", "go") for _ in range(20)]
    await asyncio.gather(*(run.reaches("waiting", approvals=1) for run in waiting))
    await asyncio.gather(*(seen(queue, run, "work start 1") for run in busy))
    nursery.fork(name)
    nursery.kill(old[0], signal.SIGTERM)
    await asyncio.sleep(short(0.5))  # so that the worker is stopping while its tools are still at work
    hold.unlink()
    await dead(nursery, old[0])
    nursery.fork(name)
    nursery.kill(old[1], signal.SIGTERM)
    await dead(nursery, old[1])
    for run in waiting:
        await run.handle.signal("approve")
    results = await asyncio.gather(*(run.result() for run in waiting + busy))
    assert [result.message for result in results] == ["Done."] * 50
    for run in busy:
        effects = counted(queue.workspace, run.id)
        assert [effects[f"work {what} {n}"] for n in (1, 2) for what in ("start", "finish")] == [1, 1, 1, 1]
    for run in waiting + busy:
        events = (await run.handle.fetch_history()).events
        began = [e.activity_task_started_event_attributes for e in events if e.event_type == STARTED]
        again = [start for start in began if start.attempt > 1]
        assert all(s.last_failure.application_failure_info.type == "WorkerStopped" for s in again), again
