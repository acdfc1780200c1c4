"""The store of sessions, on files and on S3: what is kept, who may write, and what is refused."""

from __future__ import annotations

import asyncio
import json
import os
import stat
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError, EndpointConnectionError

from abeyance.errors import ConfigurationError, NotFoundError, RequestError, SessionConflictError, SessionDamagedError
from abeyance.jsonable import from_jsonable, jsonable
from abeyance.places import Place
from abeyance.session_names import check_session_name, session_run_id
from abeyance.sessions import Sessions
from activities.failures import as_application_error
from tests.sessions import BUCKET, Writer, s3, snapshot


@dataclass
class Store:
    """A place for sessions, and how a test reaches below it."""

    place: Place
    sessions: Sessions

    def put(self, key: str, data: bytes) -> None:
        if self.place.directory:
            (self.place.directory / key).parent.mkdir(parents=True, exist_ok=True)
            (self.place.directory / key).write_bytes(data)
        else:
            boto3.client("s3").put_object(Bucket=BUCKET, Key=self.place.key(key), Body=data)

    def keys(self) -> set[str]:
        if base := self.place.directory:
            return {p.relative_to(base).as_posix() for p in base.rglob("*") if p.name != ".__strands_lock"}
        found = boto3.client("s3").list_objects_v2(Bucket=BUCKET, Prefix=self.place.prefix).get("Contents", [])
        return {item["Key"].removeprefix(self.place.prefix + "/") for item in found}


KEY = "session/s/scopes/agent/a/snapshots/snapshot_latest.json"


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


@pytest.fixture(params=["files", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    place = Place(tmp_path / "kept" / "sessions")
    if request.param == "s3":
        request.getfixturevalue("s3_env")
        place = Place(bucket=BUCKET, prefix=tmp_path.name)
    return Store(place, Sessions(place))


async def test_what_is_saved_is_loaded(store: Store) -> None:
    """With bytes, odd texts and objects that only look like bytes; and nothing is there before."""
    sessions = store.sessions
    assert await sessions.load("s", "a") is None
    assert await sessions.listed() == []
    odd = {
        "raw": b"\x00\xff",
        "fake": {"__bytes_encoded__": True, "data": "?"},
        "text": "é\ud800\u202e",
        "n": [1, None],
    }
    kept = jsonable(snapshot("hello", trust="t", **odd))
    version = await sessions.save("s", "a", kept, after=None, mark="run/1")
    found = await sessions.load("s", "a")
    assert found is not None
    assert found.snapshot["data"] == kept["data"]
    assert from_jsonable(found.state) == {"trust": "t", **odd}
    assert (found.version, found.written_by, found.interrupted) == (version, "run/1", False)
    assert found.messages == [{"role": "user", "content": [{"text": "hello"}]}]
    [info] = await sessions.listed()
    assert (info.name, info.agent, info.size) == ("s", "a", found.size)
    assert abs(time.time() - datetime.fromisoformat(info.written_at).timestamp()) < 600


async def test_only_what_follows_is_saved(store: Store) -> None:
    """A second first save, and one after an old version, are refused and change nothing; the error says whose it is."""
    sessions = store.sessions
    first = await sessions.save("s", "a", snapshot("1"), after=None, mark="r1/1")
    with pytest.raises(SessionConflictError, match="written by r1/1 at 20") as refused:
        await sessions.save("s", "a", snapshot("x"), after=None, mark="r2/1")
    assert refused.value.written_by == "r1/1"
    second = await sessions.save("s", "a", snapshot("1", "2"), after=first, mark="r1/2")
    assert second != first
    with pytest.raises(SessionConflictError, match="written by r1/2"):
        await sessions.save("s", "a", snapshot("x"), after=first, mark="r2/2")
    found = await sessions.load("s", "a")
    assert found and (found.version, len(found.messages)) == (second, 2)
    await sessions.save("s", "a", snapshot("x"), after=first, mark="r2/2", overwrite=True)
    found = await sessions.load("s", "a")
    assert found and found.written_by == "r2/2"


async def test_a_save_may_be_retried(store: Store) -> None:
    """The same mark again: the version that is stored, and nothing is written, overwriting or not."""
    sessions = store.sessions
    first = await sessions.save("s", "a", snapshot("1"), after=None, mark="r/1")
    assert await sessions.save("s", "a", snapshot("other"), after=None, mark="r/1") == first
    second = await sessions.save("s", "a", snapshot("2"), after=first, mark="r/2")
    assert await sessions.save("s", "a", snapshot("other"), after=first, mark="r/2") == second
    assert await sessions.save("s", "a", snapshot("other"), after=None, mark="r/2", overwrite=True) == second
    found = await sessions.load("s", "a")
    assert found and found.messages[0]["content"] == [{"text": "2"}]


async def test_sessions_and_agents_are_apart(store: Store) -> None:
    for name, agent in (("s", "a"), ("s", "b"), ("s2", "a"), ("Ünï: x@y", "an agent")):
        await store.sessions.save(name, agent, snapshot(name + agent), after=None, mark="m")
    assert [(i.name, i.agent) for i in await store.sessions.listed()] == [
        ("s", "a"),
        ("s", "b"),
        ("s2", "a"),
        ("Ünï: x@y", "an agent"),
    ]
    assert [(i.name, i.agent) for i in await store.sessions.listed("s")] == [("s", "a"), ("s", "b")]
    found = await store.sessions.load("Ünï: x@y", "an agent")
    assert found and found.messages[0]["content"] == [{"text": "Ünï: x@yan agent"}]


async def test_forget(store: Store) -> None:
    """One agent's part, then all, with what Strands keeps beside it; other sessions stay, and no folder is left."""
    sessions = store.sessions
    for name, agent in (("s", "a"), ("s", "b"), ("s2", "a")):
        await sessions.save(name, agent, snapshot(), after=None, mark="m")
    beside = ["session/s/scopes/agent/a/snapshots/immutable_history/snapshot_1.json", "context/s/scopes/agent/a/x"]
    for key in beside:
        store.put(key, b"{}")
    assert await sessions.forget("s", "a")
    assert not set(beside) & store.keys()
    assert await sessions.load("s", "a") is None
    assert await sessions.load("s", "b") is not None
    assert not await sessions.forget("s", "a")
    store.put("session/s/scopes/multiAgent/swarm/snapshots/snapshot_latest.json", b"{}")
    assert await sessions.forget("s")
    assert not await sessions.forget("s")
    assert [(i.name, i.agent) for i in await sessions.listed()] == [("s2", "a")]
    assert not any(key.startswith(("session/s/", "context")) or key == "session/s" for key in sorted(store.keys()))
    await sessions.save("s", "a", snapshot(), after=None, mark="again")


async def test_what_was_forgotten_is_not_saved_over(store: Store) -> None:
    version = await store.sessions.save("s", "a", snapshot(), after=None, mark="r/1")
    await store.sessions.forget("s")
    with pytest.raises(SessionConflictError, match="was forgotten") as refused:
        await store.sessions.save("s", "a", snapshot(), after=version, mark="r/2")
    assert refused.value.written_by is None
    assert await store.sessions.load("s", "a") is None


async def test_forget_one_value(store: Store) -> None:
    """A trust goes, all else stays, what an ordinary program has stored included."""
    kept = snapshot("hello", trust="t", other=1)
    kept["data"]["system_prompt"] = "Be brief."
    store.put(KEY, json.dumps(kept).encode())
    assert await store.sessions.forget_state("s", "a", "trust")
    found = await store.sessions.load("s", "a")
    assert found and found.state == {"other": 1}
    assert found.written_by and found.written_by.startswith("forget/")
    assert "Be brief." in str(await asyncio.to_thread(store.sessions._blobs.read, KEY))
    assert len(found.messages) == 1
    assert not await store.sessions.forget_state("s", "a", "trust")
    with pytest.raises(NotFoundError, match="no session 'none'"):
        await store.sessions.forget_state("none", "a", "trust")


def changed(**changes: Any) -> bytes:
    return json.dumps(snapshot() | changes).encode()


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "JSONDecodeError"),
        (changed()[:-40], "JSONDecodeError"),
        (b'{"x": "\xff"}', "UnicodeDecodeError"),
        (b"[]", "not a JSON object"),
        (b"[" * 100_000, "RecursionError"),
        (changed(schema_version="2.0"), "schema version is '2.0'"),
        (changed(scope="multiAgent"), "scope is 'multiAgent'"),
        (changed(created_at=None), "when it was created"),
        (changed(data=None), "holds no data"),
        (changed(data={"messages": {}}), "its messages"),
        (changed(data={"state": []}), "its state"),
        (changed(data={"x": {"__bytes_encoded__": True, "data": "QQ"}}), "padding"),
        (changed(data={"x": {"__bytes_encoded__": True, "data": 7}}), "bytes that are none"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_what_is_damaged_is_never_taken_for_empty(store: Store, data: bytes, said: str) -> None:
    """The error says where it lies; nothing is saved over it, and it can be forgotten."""
    store.put(KEY, data)
    for doing in (
        store.sessions.load("s", "a"),
        store.sessions.forget_state("s", "a", "x"),
        store.sessions.save("s", "a", snapshot(), after=None, mark="m"),
    ):
        with pytest.raises(SessionDamagedError, match=said) as damaged:
            await doing
        assert KEY in str(damaged.value)
        assert "sessions forget" in str(damaged.value)
    assert await store.sessions.forget("s")


async def test_what_is_no_snapshot_is_not_saved(store: Store) -> None:
    with pytest.raises(ValueError, match="holds no data"):
        await store.sessions.save("s", "a", snapshot() | {"data": None}, after=None, mark="m")
    assert store.keys() == set()


@pytest.mark.parametrize(
    "name",
    [
        "",
        " ",
        ".",
        "..",
        "...",
        "a/b",
        "/",
        "../x",
        "a\\b",
        "a\0b",
        "a\nb",
        "a\x7f",
        "\ud800",
        "a.",
        "a ",
        " a",
        "a\u2028b",
        "x" * 256,
        "é" * 128,
        "x" * 1001,
    ],
)
async def test_names_that_are_refused(store: Store, name: str) -> None:
    """Whatever is no safe file's name, for sessions and agents alike, at every door; nothing is mangled or touched."""
    for what in (
        lambda: store.sessions.load(name, "a"),
        lambda: store.sessions.load("s", name),
        lambda: store.sessions.save(name, "a", snapshot(), after=None, mark="m"),
        lambda: store.sessions.forget(name),
        lambda: store.sessions.forget("s", name),
        lambda: store.sessions.listed(name),
    ):
        with pytest.raises(RequestError, match=r"may have up to 255 bytes") as refused:
            await what()
        assert len(str(refused.value)) < 600
    assert store.keys() == set()


@pytest.mark.parametrize(
    "name", ["a", "x" * 255, "é" * 127, ".a", "-", "a..b", "user:ann@example.com #7?*", "日本", "~"]
)
async def test_names_that_stay_as_they_are(store: Store, name: str) -> None:
    await store.sessions.save(name, "a", snapshot(), after=None, mark="m")
    assert store.keys() >= {f"session/{name}/scopes/agent/a/snapshots/snapshot_latest.json"}
    assert [info.name for info in await store.sessions.listed()] == [name]
    assert await store.sessions.load(name, "a")


def test_the_run_of_a_session() -> None:
    check_session_name("ann")
    assert session_run_id("ann") == "session-ann"


async def test_of_two_processes_one_wins(tmp_path: Path) -> None:
    """Fifty times two processes save after the same version at once: one has saved, and the other hears of it."""
    place = str(tmp_path / "sessions")
    writers = [await Writer.started(place), await Writer.started(place)]
    try:
        assert [await writer.hear() for writer in writers] == [["ready"], ["ready"]]
        version, winners = "none", set()
        for number in range(50):
            for index, writer in enumerate(writers):
                writer.tell("save", f"{number}/{index}", version)
            heard = [await writer.hear() for writer in writers]
            [winner] = [index for index, words in enumerate(heard) if words[0] == "won"]
            assert heard[1 - winner] == ["lost", f"{number}/{winner}"]
            version = heard[winner][1]
            found = await Sessions(Place(Path(place))).load("s", "a")
            assert found and (found.version, found.written_by) == (version, f"{number}/{winner}")
            winners.add(winner)
    finally:
        for writer in writers:
            await writer.killed()


async def test_a_writer_that_is_killed_leaves_something_whole(tmp_path: Path) -> None:
    """kill -9 in the middle of writes, ten times: the old or the new is there, and the next one can write at once."""
    sessions = Sessions(Place(tmp_path))
    for number in range(10):
        writer = await Writer.started(str(tmp_path))
        writer.tell("go")
        assert await writer.hear() == ["ready"]
        for _ in range(4):
            last = await writer.hear()
        await asyncio.sleep(number / 1_000)
        await writer.killed()
        said = [last, *[words.split() for words in (await writer.process.stdout.read()).decode().splitlines()]]  # type: ignore[union-attr]
        saved = max(int(words[1]) for words in said if words[0] == "saved")
        found = await sessions.load("s", "a")
        assert found and found.written_by in (f"m/{saved}", f"m/{saved + 1}")
        [count] = [message["content"][0]["text"] for message in found.messages]
        assert found.state["padding"] == str(int(count) % 10) * 300_000
        assert await sessions.save("s", "a", snapshot(), after=found.version, mark="next")
        assert [info.name for info in await sessions.listed()] == ["s"]


async def test_what_killed_writers_leave_is_swept(tmp_path: Path) -> None:
    old, new = tmp_path / ".__strands_tmp_old", tmp_path / ".__strands_tmp_new"
    for path in (old, new):
        path.write_bytes(b"half")
    os.utime(old, (1, 1))
    await Sessions(Place(tmp_path)).save("s", "a", snapshot(), after=None, mark="m")
    assert (old.exists(), new.exists()) == (False, True)


async def test_files_are_private(tmp_path: Path) -> None:
    """Whatever the umask: nobody else reads what people said to an agent."""
    before = os.umask(0)
    try:
        await Sessions(Place(tmp_path / "x" / "sessions")).save("s", "a", snapshot(), after=None, mark="m")
    finally:
        os.umask(before)
    for path in [tmp_path / "x", *(tmp_path / "x").rglob("*")]:
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path


async def test_a_directory_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    sessions = Sessions(Place(tmp_path / "file"))
    with pytest.raises(ConfigurationError, match=r"ABEYANCE_SESSIONS is .*file, which cannot be used: "):
        await sessions.save("s", "a", snapshot(), after=None, mark="m")


@pytest.fixture
def bare_aws(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    return monkeypatch


async def test_s3_without_credentials(bare_aws: pytest.MonkeyPatch) -> None:
    bare_aws.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:1")
    with pytest.raises(ConfigurationError, match=r"ABEYANCE_SESSIONS is s3://b-b/p, .*credentials.* AWS variables"):
        await Sessions(Place(bucket="b-b", prefix="p")).load("s", "a")


async def test_a_bucket_that_is_not_there(s3_env: dict[str, str]) -> None:
    sessions = Sessions(Place(bucket="no-such-bucket"))
    for doing in (
        sessions.load("s", "a"),
        sessions.listed(),
        sessions.forget("s"),
        sessions.save("s", "a", snapshot(), after=None, mark="m"),
        sessions.save("s", "a", snapshot(), after='"x"', mark="m"),
    ):
        with pytest.raises(ConfigurationError, match=r"s3://no-such-bucket, which cannot be used: .*Create the bucket"):
            await doing


async def test_s3_that_does_not_answer(s3_env: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Passes by itself, and so comes through as it is."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with pytest.raises(EndpointConnectionError):
        await Sessions(Place(bucket=BUCKET)).load("s", "a")


@contextmanager
def answering(status: int, code: str) -> Iterator[str]:
    """An S3 server that has one answer."""

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            body = f"<Error><Code>{code}</Code><Message>said so</Message></Error>".encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_PUT = do_DELETE = answer

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize(
    ("status", "code", "how"),
    [
        (403, "AccessDenied", "s3:PutObject"),
        (403, "InvalidAccessKeyId", "AWS variables"),
        (404, "NoSuchBucket", "Create"),
    ],
)
async def test_what_a_person_has_to_mend_at_s3(
    s3_env: dict[str, str], monkeypatch: pytest.MonkeyPatch, status: int, code: str, how: str
) -> None:
    with answering(status, code) as address:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", address)
        sessions = Sessions(Place(bucket="b-b"))
        for doing in (
            sessions.load("s", "a"),
            sessions.listed(),
            sessions.save("s", "a", snapshot(), after=None, mark="m"),
            sessions.save("s", "a", snapshot(), after="v", mark="m"),
        ):
            with pytest.raises(ConfigurationError, match=f"s3://b-b, .*said so.*{how}"):
                await doing


@pytest.mark.parametrize(("status", "code"), [(409, "ConditionalRequestConflict"), (400, "RequestTimeout")])
async def test_what_passes_by_itself_at_s3(
    s3_env: dict[str, str], monkeypatch: pytest.MonkeyPatch, status: int, code: str
) -> None:
    """It is raised as it is, for whoever retries to see; a write that another one has held up is among it."""
    with answering(status, code) as address:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", address)
        with pytest.raises(ClientError) as raised:
            await Sessions(Place(bucket="b-b")).save("s", "a", snapshot(), after="v", mark="m")
    assert not as_application_error(raised.value, 1).non_retryable
