"""The codec server: a program that decodes for whoever has its token, and for nobody else."""

from __future__ import annotations

import asyncio
import base64
import json
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from email.message import Message
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict
from temporalio.api.common.v1 import Payload
from temporalio.client import Client

from abeyance.converter import data_converter
from abeyance.converter.compression import compressed
from abeyance.converter.server import COOKIE, COOKIE_SECONDS, LARGEST_ANSWER, LARGEST_REQUEST, MOST_PARTS, signed_in
from abeyance.devserver import temporal_binary
from abeyance.places import Place
from abeyance.settings import Settings
from tests.command_line import Cli
from tests.conftest import Start
from tests.processes import ChildProcess, address_of, environment, started
from tests.support import PATIENCE, ROOT, a_key

A, B = a_key("a"), a_key("b")
TOKEN = "a-token-that-nobody-guesses"
UI = "http://127.0.0.1:8233"
SECRET = "zanzibarsecretzanzibar"

pytestmark = pytest.mark.processes


@dataclass
class Answer:
    status: int
    body: Any
    headers: Message


@dataclass
class Server:
    """A codec server in a process of its own."""

    endpoint: str
    token: str | None
    process: ChildProcess

    async def ask(self, path: str, body: Any = None, *, method: str = "POST", **headers: str) -> Answer:
        """Send a request, with the token unless the headers say otherwise; bytes are sent as they are."""
        sent = {"Authorization": f"Bearer {TOKEN}"} | {name.replace("_", "-"): value for name, value in headers.items()}
        data = body if isinstance(body, bytes) else json.dumps(body).encode() if body is not None else None
        request = urllib.request.Request(
            self.endpoint + path, data, {name: value for name, value in sent.items() if value}, method=method
        )

        def send() -> Answer:
            try:
                with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
                    return Answer(answer.status, answer.read(), answer.headers)
            except urllib.error.HTTPError as error:
                return Answer(error.code, error.read(), error.headers)

        answer = await asyncio.to_thread(send)
        if answer.headers.get("Content-Type") == "application/json":
            answer.body = json.loads(answer.body)
        return answer

    async def decode(self, *payloads: Payload, **headers: str) -> Answer:
        return await self.ask("/decode", {"payloads": [MessageToDict(payload) for payload in payloads]}, **headers)


@asynccontextmanager
async def codec_server(directory: Path, *options: str, **env: str) -> AsyncIterator[Server]:
    """`starter.py codec-server`, with the token of these tests unless `env` has another one."""
    given = environment("127.0.0.1:1") | {"ABEYANCE_CODEC_TOKEN": TOKEN, "ABEYANCE_KEYS": A} | env
    command = [sys.executable, str(ROOT / "starter.py"), "codec-server", "--port", "0", "--json", *options]
    with started(command, given, directory / f"codec-{uuid.uuid4().hex}.log") as process:
        said = json.loads((await process.says("}")).splitlines()[0])
        yield Server(said["endpoint"], said["token"], process)


@pytest.fixture
async def codec(tmp_path: Path) -> AsyncIterator[Server]:
    async with codec_server(tmp_path) as found:
        yield found


def values(answer: Answer) -> list[Any]:
    """The JSON values of an answer's payloads."""
    assert answer.status == 200, answer
    return [json.loads(base64.b64decode(payload["data"])) for payload in answer.body["payloads"]]


async def test_what_is_encoded_is_decoded(codec: Server) -> None:
    """In order, beside what is not encoded, and the other way round."""
    converter = data_converter(Settings(keys=A))
    encoded = await converter.encode([SECRET, "x" * 5_000])
    plain = await data_converter(Settings()).encode(["plain", "y" * 5_000])
    assert values(await codec.decode(encoded[0], plain[0], encoded[1], plain[1])) == [
        SECRET,
        "plain",
        "x" * 5_000,
        "y" * 5_000,
    ]
    made = await codec.ask("/encode", {"payloads": [MessageToDict(plain[0])]})
    assert base64.b64decode(made.body["payloads"][0]["metadata"]["encoding"]) == b"binary/encrypted"
    again = await codec.ask("/decode", made.body)
    assert values(again) == ["plain"]
    assert (await codec.decode()).body == {"payloads": []}


async def test_what_is_stored_elsewhere_is_fetched(tmp_path: Path) -> None:
    place = Place(tmp_path / "storage")
    encoded = await data_converter(Settings(keys=A, storage=place, compression=False)).encode(["x" * 500_000])
    async with codec_server(tmp_path, ABEYANCE_STORAGE=str(place)) as server:
        assert values(await server.decode(*encoded)) == ["x" * 500_000]
        body = {"payloads": [MessageToDict(payload) for payload in encoded]}
        assert (await server.ask("/decode?preserveStorageRefs=true", body)).body == body
        assert values(await server.ask("/download?preserveStorageRefs=true", body)) == ["x" * 500_000]
    async with codec_server(tmp_path) as server:
        answer = await server.decode(*encoded)
        assert answer.status == 422
        assert "ABEYANCE_STORAGE is not set here" in answer.body["message"]


async def test_what_cannot_be_decoded(codec: Server) -> None:
    """Junk is given back as it is, beside what is none; a key that is missing is said."""
    [good] = await data_converter(Settings(keys=A)).encode([SECRET])
    junk = Payload(metadata=good.metadata, data=b"x" * 100)
    answer = await codec.decode(junk, good)
    assert answer.body["payloads"][0] == MessageToDict(junk)
    assert SECRET in str(base64.b64decode(answer.body["payloads"][1]["data"]))
    answer = await codec.decode(*await data_converter(Settings(keys=B)).encode([SECRET]))
    assert (answer.status, "the key 'b', which is not known here" in answer.body["message"]) == (422, True)


@pytest.mark.parametrize("path", ["/decode", "/encode", "/download"])
@pytest.mark.parametrize("authorization", ["", "Bearer", "Bearer x", f"Basic {TOKEN}", f"Bearer {TOKEN}x", TOKEN])
async def test_without_the_token_nothing_is_decoded(path: str, authorization: str, codec: Server) -> None:
    answer = await codec.ask(path, {"payloads": []}, Authorization=authorization)
    assert answer.status == 401
    assert "The token is missing or wrong" in answer.body["message"]


async def test_only_known_origins_may_ask(tmp_path: Path) -> None:
    """By default those where `up` and the dev server have the Temporal UI."""
    async with codec_server(tmp_path) as server:
        for origin, status in ((UI, 200), ("http://127.0.0.1:9", 403), ("null", 403), (UI + ".evil.example", 403)):
            answer = await server.ask("/decode", {"payloads": []}, Origin=origin)
            assert answer.status == status
            assert answer.headers.get("Access-Control-Allow-Origin") == (origin if status == 200 else None)
            preflight = await server.ask(
                "/decode",
                method="OPTIONS",
                Authorization="",
                Origin=origin,
                Access_Control_Request_Method="POST",
                Access_Control_Request_Headers="content-type,x-namespace",
            )
            assert preflight.status == status
    async with codec_server(tmp_path, "--origin", "https://ui.example") as server:
        assert (await server.ask("/decode", {"payloads": []}, Origin="https://ui.example")).status == 200
        assert (await server.ask("/decode", {"payloads": []}, Origin=UI)).status == 403


async def test_a_browser_signs_in(codec: Server) -> None:
    """With the token it gets a cookie, which counts for pages of a known origin only."""
    page = await codec.ask("/", method="GET", Authorization="")
    assert (page.status, b'type="password"' in page.body) == (200, True)
    assert "frame-ancestors 'none'" in page.headers["Content-Security-Policy"]
    wrong = await codec.ask("/", b"token=wrong", Authorization="")
    assert (wrong.status, wrong.headers.get("Set-Cookie")) == (401, None)
    right = await codec.ask("/", f"token={TOKEN}".encode(), Authorization="", Origin=codec.endpoint)
    assert right.status == 200
    cookies = right.headers.get_all("Set-Cookie") or []
    assert len(cookies) == 3
    for cookie in cookies:
        assert "HttpOnly" in cookie
        assert "SameSite=strict" in cookie
        assert "Path=/;" not in cookie
        assert TOKEN not in cookie
        assert f"Max-Age={COOKIE_SECONDS}" in cookie
    given = cookies[0].partition(";")[0]
    assert (await codec.ask("/decode", {"payloads": []}, Authorization="", Cookie=given, Origin=UI)).status == 200
    assert (await codec.ask("/decode", {"payloads": []}, Authorization="", Cookie=given)).status == 401
    altered = await codec.ask("/decode", {"payloads": []}, Authorization="", Cookie=given[:-1], Origin=UI)
    assert altered.status == 401


async def test_a_cookie_ends_with_its_time_and_with_the_token(codec: Server) -> None:
    now = int(time.time())
    for cookie, status in (
        (signed_in(TOKEN, now + 60), 200),
        (signed_in(TOKEN, now - 60), 401),
        (signed_in("the-token-that-it-had-before", now + 60), 401),
        (f"{now + 600}.{signed_in(TOKEN, now + 60).partition('.')[2]}", 401),
        (signed_in(TOKEN, now + 60).partition(".")[2], 401),
        ("." + signed_in(TOKEN, now + 60), 401),
        ("9" * 400 + ".0", 401),
    ):
        answer = await codec.ask("/decode", {"payloads": []}, Authorization="", Cookie=f"{COOKIE}={cookie}", Origin=UI)
        assert answer.status == status, cookie


async def test_what_a_request_expands_is_bounded(codec: Server) -> None:
    """For all its payloads together, in bytes and in the server's memory; what is within the bound is served."""
    bomb = compressed(Payload(metadata={"encoding": b"json/plain"}, data=b" " * (8 * LARGEST_ANSWER - 1_000)))
    many = [compressed(Payload(metadata={"encoding": b"json/plain"}, data=b" " * (LARGEST_ANSWER // 8)))] * 9
    assert sum(payload.ByteSize() for payload in [bomb, *many]) < 100_000
    for payloads in ([bomb], many, [bomb, bomb]):
        answer = await codec.decode(*payloads)
        assert answer.status == 413
        assert "ask for fewer payloads" in answer.body["message"]
    parts = await codec.ask("/decode", b'{"payloads":[' + b"{}," * (MOST_PARTS // 2) + b"{}]}")
    assert (parts.status, "commas and brackets" in parts.body["message"]) == (413, True)
    assert (await codec.ask("/", b"token=" + b"x" * 10_000, Authorization="")).status == 413
    assert len((await codec.decode(*many[:7])).body["payloads"]) == 7
    peak = Path(f"/proc/{codec.process.pid}/status").read_text().partition("VmHWM:")[2].split()[0]
    assert int(peak) < 400_000, "kB of memory"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"no JSON",
        b'{"payloads": 1}',
        b"\xff",
        b'{"payloads": [' + b"[" * 40_000,
    ],
)
async def test_what_is_no_request_is_refused_with_words(body: bytes, codec: Server) -> None:
    answer = await codec.ask("/decode", body)
    assert answer.status == 400
    assert "payloads" in answer.body["message"]


async def test_requests_are_bounded(codec: Server) -> None:
    answer = await codec.ask("/decode", b" " * (LARGEST_REQUEST + 1))
    assert answer.status == 413
    assert (await codec.ask("/decode", method="GET")).status == 405
    assert (await codec.ask("/other", method="GET")).status == 404


async def test_nothing_is_logged(codec: Server) -> None:
    [good] = await data_converter(Settings(keys=A)).encode([SECRET])
    await codec.decode(good)
    await codec.decode(good, Authorization="Bearer wrong-token-of-somebody")
    await codec.ask("/decode", b"no JSON")
    said = codec.process.output
    assert len(said.splitlines()) == 1, said
    for secret in (SECRET, TOKEN, "wrong-token", A.partition(":")[2]):
        assert secret not in said


async def test_without_a_token_a_new_one_is_made(tmp_path: Path) -> None:
    async with codec_server(tmp_path, ABEYANCE_CODEC_TOKEN="") as server:
        token = server.token
        assert token is not None
        assert len(token) > 40
        assert (await server.ask("/decode", {"payloads": []}, Authorization=f"Bearer {token}")).status == 200
        assert (await server.ask("/decode", {"payloads": []})).status == 401


async def test_what_is_wrong_is_said_at_once(tmp_path: Path, codec: Server) -> None:
    cli = Cli(environment("127.0.0.1:1"))
    short = await cli("codec-server", status=1, ABEYANCE_CODEC_TOKEN="short")
    assert "ABEYANCE_CODEC_TOKEN must have 20 characters or more" in short.stderr
    assert "this is no key" in (await cli("codec-server", status=1, ABEYANCE_KEYS="x")).stderr
    taken = await cli("codec-server", "--port", codec.endpoint.rpartition(":")[2], status=1)
    assert "Nothing can listen at 127.0.0.1" in taken.stderr


async def test_the_temporal_cli_reads_an_encrypted_run(tmp_path: Path, start_world: Start, client: Client) -> None:
    """Its history, its result and what its failures say; and it encrypts the answer that it sends."""
    async with start_world(keys=A) as world, codec_server(tmp_path) as server:
        run = await world.start("tells", SECRET, options=dict.fromkeys(("reason", "input", "result", "end"), "said"))
        await run.reaches("waiting", approvals=1)

        async def temporal(*arguments: str, codec: bool = True) -> str:
            command = [temporal_binary(), "workflow", *arguments, "--address", address_of(client)]
            if codec:
                command += ["--codec-endpoint", server.endpoint, "--codec-auth", f"Bearer {TOKEN}"]
            done = await asyncio.to_thread(
                subprocess.run, command, capture_output=True, text=True, timeout=PATIENCE, check=True
            )
            return done.stdout

        show = ("show", "-w", run.id, "--detailed")
        assert SECRET in await temporal(*show)
        assert SECRET not in await temporal(*show, codec=False)
        await temporal("signal", "-w", run.id, "--name", "respond", "--input", '{"comment": "typed", "response": "y"}')
        [decision] = (await run.result()).decisions
        assert decision.comment == "typed"
        assert "typed" in await temporal(*show)
        assert "typed" not in await temporal(*show, codec=False)
        assert "said" in await temporal("result", "-w", run.id)
