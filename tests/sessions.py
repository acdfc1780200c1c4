"""What the tests of sessions share: snapshots, S3, and programs that write to the store at the same time."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer

from abeyance.contracts import JsonObject
from abeyance.errors import SessionConflictError
from abeyance.places import Place
from abeyance.sessions import Sessions
from tests.support import PATIENCE

BUCKET = "abeyance-tests"


def snapshot(*texts: str, **state: Any) -> JsonObject:
    """A snapshot with these messages of the user, as a turn gives it."""
    return {
        "scope": "agent",
        "schema_version": "1.0",
        "created_at": "2026-11-25T12:00:00Z",
        "data": {
            "messages": [{"role": "user", "content": [{"text": text}]} for text in texts],
            "state": state,
            "conversation_manager_state": {"__name__": "SlidingWindowConversationManager", "removed_message_count": 0},
            "interrupt_state": {"interrupts": {}, "context": {}, "activated": False},
            "model_state": {},
        },
        "app_data": {},
    }


@contextmanager
def s3() -> Iterator[dict[str, str]]:
    """An S3 server with an empty bucket; gives the environment to reach it."""
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    env = {
        "AWS_ENDPOINT_URL_S3": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    try:
        boto3.client(
            "s3",
            endpoint_url=env["AWS_ENDPOINT_URL_S3"],
            aws_access_key_id="test",
            aws_secret_access_key="test",
            region_name="us-east-1",
        ).create_bucket(Bucket=BUCKET)
        yield env
    finally:
        server.stop()


@pytest.fixture(scope="module")
def s3_server() -> Iterator[dict[str, str]]:
    with s3() as env:
        yield env


@pytest.fixture
def s3_env(s3_server: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)
    for name, value in s3_server.items():
        monkeypatch.setenv(name, value)
    return s3_server


class Writer:
    """Another process with the store open, which does as it is told over its standard input."""

    def __init__(self, process: asyncio.subprocess.Process):
        self.process = process

    @classmethod
    async def started(cls, place: str, env: Mapping[str, str] | None = None) -> Writer:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "tests.sessions",
            place,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env={**os.environ, **(env or {})},
        )
        return cls(process)

    def tell(self, *words: str) -> None:
        assert self.process.stdin
        self.process.stdin.write((" ".join(words) + "\n").encode())

    async def hear(self) -> list[str]:
        assert self.process.stdout
        return (await asyncio.wait_for(self.process.stdout.readline(), PATIENCE)).decode().split()

    async def killed(self) -> None:
        self.process.kill()
        await self.process.wait()


async def _obey(place: str) -> None:
    sessions = Sessions(Place.parse(place, "ABEYANCE_SESSIONS"))
    print("ready", flush=True)
    while words := (await asyncio.to_thread(sys.stdin.readline)).split():
        if words[0] == "save":
            try:
                mark, after = words[1], None if words[2] == "none" else words[2]
                print("won", await sessions.save("s", "a", snapshot(mark), after=after, mark=mark), flush=True)
            except SessionConflictError as error:
                print("lost", error.written_by, flush=True)
        else:
            number = 0
            while True:
                print(f"saving {number}", flush=True)  # in one piece, so that a kill cannot cut it
                large = snapshot(str(number), padding=str(number % 10) * 300_000)
                await sessions.save("s", "a", large, after=None, mark=f"m/{number}", overwrite=True)
                print(f"saved {number}", flush=True)
                number += 1


if __name__ == "__main__":
    asyncio.run(_obey(sys.argv[1]))
