"""Ten thousand payloads, and ten thousand signals to one run: no run is stopped, and nothing is decided by accident.

What may be a decision is said by the oracle in `tests/messages.py`, and is not sent before the end. All the rest must
be refused, each in words and counted, and so any decision at all is an accident.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import subprocess
import time
from collections import Counter
from dataclasses import dataclass, field

import pytest
from temporalio.client import WorkflowUpdateFailedError
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError

from abeyance.contracts import RunStatus
from abeyance.devserver import temporal_binary
from tests.conftest import Start
from tests.messages import Message, generated, verdicts
from tests.processes import address_of
from tests.support import StartedRun, World, until

MESSAGES = int(os.environ.get("MESSAGES", "1000"))
"""`make fuzz` sends ten thousand."""
THROUGH_THE_CLI = 40
PER_ROUND = 60
"""How many messages a run gets before its refusals are read: it keeps the latest hundred."""
AT_ONCE = 4
PATIENCE = 120.0
LARGE = b"[" + b"[]," * 350_000 + b"[]]"
RUNS = ["1", "1", "2", "2", "3", "running", "parked"]
"""What the messages go to: runs with so many open approvals, one in a tool call, and one that is parked."""


@dataclass
class Asking:
    """A run that messages go to, as it was when it was last looked at."""

    kind: str
    run: StartedRun
    before: RunStatus
    refusals: int = 0
    sent: list[Message] = field(default_factory=list)

    def verdicts(self, message: Message) -> list[bool]:
        return verdicts(message, self.before.approvals, parked=self.before.state == "parked")

    async def send(self, message: Message) -> None:
        """Send what must be refused. The refusal of an update is read at once, those of signals are counted."""
        self.sent.append(message)
        if message.kind == "signal":
            self.refusals += len(self.verdicts(message))
            await self.run.handle.signal(message.name, args=message.arguments)
            return
        with pytest.raises(WorkflowUpdateFailedError) as refused:
            await asyncio.wait_for(self.run.handle.execute_update(message.name, args=message.arguments), PATIENCE)
        assert isinstance(refused.value.cause, ApplicationError), message
        if message.name == "decide":
            assert refused.value.cause.type == "Refused", message
            readable(refused.value.cause.message)
        else:
            assert "known updates: [decide say]" in refused.value.cause.message

    async def settle(self) -> None:
        """Wait until everything is refused, read what is new of it, and see that nothing else has changed."""
        new = min(self.refusals - self.before.refused_count, 100)
        status = await self.status_with_refusals()
        assert status.refused_count == self.refusals, self.sent[-PER_ROUND:]
        for refusal in status.refused[-new:] if new else []:
            readable(refusal.refused)
            json.dumps(refusal.response, allow_nan=False, ensure_ascii=False).encode()
        kept = ("state", "turn", "approvals", "decisions", "problem")
        for name in kept:
            assert getattr(status, name) == getattr(self.before, name), self.sent[-PER_ROUND:]
        self.before = status
        self.sent.clear()

    async def status_with_refusals(self) -> RunStatus:
        count = 0

        async def look() -> RunStatus | None:
            nonlocal count
            status = await asyncio.wait_for(self.run.status(), PATIENCE)
            count = status.refused_count
            return status if count >= self.refusals else None

        try:
            return await until(look, what=f"{self.refusals} refusals", patience=PATIENCE)
        except AssertionError as error:
            raise AssertionError(f"{error}: there are {count}; sent was {self.sent[-PER_ROUND:]}") from error


def readable(words: str | None) -> None:
    """Whether it is a sentence or more, and nothing that only a programmer reads."""
    assert words
    assert len(words.split()) >= 3, words
    assert words[-1] in ".…)", words
    assert len(words) < 2_100, words
    assert "Traceback" not in words, words
    assert " object at 0x" not in words, words


async def asking(world: World, kind: str) -> Asking:
    if kind == "running":
        run = await world.start("patient", "go", options={"ask": True})

        async def at_work() -> bool:
            return (world.workspace / "patience").exists()

        await until(at_work, what="the tool to be at work")
        return Asking(kind, run, await run.reaches("running"))
    if kind == "parked":
        (world.workspace / "broken").touch()
        run = await world.start("counted", "go", options={"broken": True})
        return Asking(kind, run, await run.reaches("parked"))
    run = await world.start("counted", "go", options={"acts": int(kind)})
    return Asking(kind, run, await run.reaches("waiting", approvals=int(kind)))


async def finish(asked: Asking, world: World) -> None:
    """An ordinary answer ends the run, and what it approves takes effect once."""
    run = asked.run
    if asked.kind == "running":
        (world.workspace / "go").touch()
        await run.reaches("waiting", approvals=1)
        await run.handle.signal("respond", "in time")
        await run.result()
        notes = (world.workspace / "patience").read_text().splitlines()
        assert [note for note in notes if note.startswith("ended")] == ["ended in time"]
        return
    if asked.kind == "parked":
        (world.workspace / "broken").unlink()
        await run.handle.signal("retry")
        await run.reaches("waiting", approvals=1)
    acts = 1 if asked.kind == "parked" else int(asked.kind)
    await run.handle.signal("approve", list(range(1, acts + 1)))
    result = await run.result()
    assert [d.response for d in result.decisions if not d.refused and d.approval] == ["y"] * acts
    assert acted(world, run) == list(range(1, acts + 1))


def acted(world: World, run: StartedRun) -> list[int]:
    lines = (world.workspace / "acts").read_text().splitlines() if (world.workspace / "acts").exists() else []
    return sorted(int(line.split()[1]) for line in lines if line.startswith(f"{run.id} "))


def typed(message: Message) -> list[str]:
    """The arguments that make `temporal` send a message; none if it cannot be typed."""
    arguments = ["--name", message.name, "--input-base64"]
    for encoding, more, data in message.payloads:
        arguments += ["--input", base64.b64encode(data).decode()]
        for name, value in (("encoding", encoding or b""), *more):
            arguments += ["--input-meta", f"{name}={value.decode(errors='replace')}"]
    sayable = all(argument.isprintable() and argument.isascii() and len(argument) < 50_000 for argument in arguments)
    return arguments if sayable else []


async def through_the_cli(asked: Asking, message: Message, address: str) -> None:
    """Send a message with the real `temporal`, which itself says no to some."""
    verb = ["signal"] if message.kind == "signal" else ["update", "execute"]
    done = await asyncio.to_thread(
        subprocess.run,
        [temporal_binary(), "workflow", *verb, "--workflow-id", asked.run.id, *typed(message)],
        env=os.environ | {"TEMPORAL_ADDRESS": address},
        capture_output=True,
        text=True,
        timeout=60,
    )
    asked.sent.append(message)
    if message.kind == "signal" and done.returncode == 0:
        asked.refusals += len(asked.verdicts(message))
    elif message.kind == "update":
        assert done.returncode != 0, message
        assert "Error: " in done.stderr


Held = list[tuple[Asking, Message]]


def shared_out(messages: list[Message], runs: list[Asking]) -> tuple[dict[str, list[Message]], Held]:
    """What each run is sent, by its id, and what would be a decision and is held back."""
    sent: dict[str, list[Message]] = {asked.run.id: [] for asked in runs}
    held = []
    for number, message in enumerate(messages):
        asked = runs[number % len(runs)]
        if any(asked.verdicts(message)):
            held.append((asked, message))
        else:
            sent[asked.run.id].append(message)
    return sent, held


@pytest.mark.timeout(900)
async def test_thousands_of_payloads(start_world: Start) -> None:
    """Every refusal is counted and readable, and in the end each run does what it is told, once."""
    started = time.monotonic()
    large = Message("signal", "respond", ((b"json/plain", (), LARGE),))
    messages = generated(MESSAGES + MESSAGES // 20) + [large] * len(RUNS)
    async with start_world() as world:
        runs = [await asking(world, kind) for kind in RUNS]
        sent, held = shared_out(messages, runs)

        async def hear(asked: Asking) -> None:
            mine = sent[asked.run.id]
            for start in range(0, len(mine), PER_ROUND):
                lanes = [mine[start + lane : start + PER_ROUND : AT_ONCE] for lane in range(AT_ONCE)]
                await asyncio.gather(*(in_turn(asked, lane) for lane in lanes))
                await asked.settle()

        await asyncio.gather(*(hear(asked) for asked in runs))
        sayable = [message for message in messages if typed(message)]
        for number, message in enumerate(sayable[:: len(sayable) // THROUGH_THE_CLI]):
            asked = runs[number % len(runs)]
            if not any(asked.verdicts(message)):
                await through_the_cli(asked, message, address_of(world.client))
        for asked in runs:
            await asked.settle()
            assert acted(world, asked.run) == []
    counts = Counter(asked.kind for asked, _ in held)
    print(f"sent {sum(map(len, sent.values()))}, held back {dict(counts)}, {time.monotonic() - started:.0f} s")
    assert len(messages) - len(held) >= MESSAGES
    async with start_world(task_queue=world.settings.task_queue) as world:  # with all of it to be replayed
        for asked in runs:
            await finish(asked, world)
        for message in [m for asked, m in held if asked.kind == "1" and asked.verdicts(m) == [True]][::20]:
            fresh = await asking(world, "1")
            await (fresh.run.handle.signal if message.kind == "signal" else fresh.run.handle.execute_update)(
                message.name, args=message.arguments
            )
            result = await fresh.run.result()
            assert len([d for d in result.decisions if not d.refused]) == 1, message


async def in_turn(asked: Asking, messages: list[Message]) -> None:
    for message in messages:
        await asked.send(message)


@pytest.mark.timeout(600)
async def test_ten_thousand_signals_to_one_run(start_world: Start) -> None:
    """They come while no worker is up, so that one workflow task brings them all. What is left is the update."""
    async with start_world() as world:
        asked = await asking(world, "1")
    handle = asked.run.handle
    junk = [message for message in generated(20_000) if message.kind == "signal" and not any(asked.verdicts(message))]
    for start in range(0, 10_000, 20):
        await asyncio.gather(*(asked.send(message) for message in junk[start : start + 20]))
    for name in ("approve", "junk"):
        with pytest.raises(RPCError, match="exceeded workflow execution limit for signal events"):
            await handle.signal(name)
    async with start_world(task_queue=world.settings.task_queue) as world:
        status = await asked.status_with_refusals()
        assert (status.refused_count, status.decisions) == (asked.refusals, [])
        await handle.execute_update("decide", {"approval": 1, "response": "y"})
        await asked.run.result()
        assert acted(world, asked.run) == [1]
