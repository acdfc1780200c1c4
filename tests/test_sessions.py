"""The store of sessions, on files and on S3: what is kept, who may write, and what is refused."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import boto3
import pytest

from abeyance.blobs import Blob
from abeyance.errors import NotFoundError, RequestError, SessionConflictError, SessionDamagedError
from abeyance.jsonable import from_jsonable, jsonable
from abeyance.places import Place
from abeyance.session_names import check_session_name, session_run_id
from abeyance.sessions import Sessions
from tests.sessions import BUCKET, s3_env, s3_server, snapshot  # noqa: F401 - fixtures among them


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


async def test_a_value_is_not_forgotten_over_what_was_saved_meanwhile(store: Store) -> None:
    """A run that ends between the reading and the writing keeps what it has saved."""
    version = await store.sessions.save("s", "a", snapshot(trust="t"), after=None, mark="r/1")
    below = store.sessions._blobs

    class Meanwhile:
        def __getattr__(self, name: str) -> Any:
            return getattr(below, name)

        def read(self, key: str) -> Blob | None:
            blob = below.read(key)
            if blob and blob.version == version:
                asyncio.run(Sessions(store.place).save("s", "a", snapshot("new", trust="t"), after=version, mark="r/2"))
            return blob

    store.sessions._blobs = Meanwhile()
    with pytest.raises(SessionConflictError, match="written by r/2"):
        await store.sessions.forget_state("s", "a", "trust")
    found = await store.sessions.load("s", "a")
    assert found and len(found.messages) == 1


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
