"""Ordinary Strands programs open the sessions that are kept here, and what they keep is read here."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from strands import Agent, tool
from strands._identifier import Identifier, validate
from strands.agent.state import AgentState
from strands.session import SnapshotSessionManager
from strands.storage import LocalFileStorage, S3Storage, Storage
from strands.storage.storage import _normalize_key
from strands.types._snapshot import SNAPSHOT_SCHEMA_VERSION, Snapshot

from abeyance.jsonable import from_jsonable, jsonable
from abeyance.models.scripted import Reply, ScriptedModel, ToolCall
from abeyance.places import Place
from abeyance.sessions import SCHEMA, Sessions
from agents.trusted_file_manager import AskUntilTrusted
from tests.sessions import BUCKET, s3

IMAGE = {"image": {"format": "png", "source": {"bytes": b"\x89PNG\x00\xff"}}}
FAKE = {"__bytes_encoded__": True, "data": "?", "more": [1]}
QUESTION: Any = [{"text": "Delete this"}, IMAGE]


@tool
def delete_files(paths: list[str]) -> dict[str, Any]:
    """Delete files."""
    return {"status": "success", "content": [{"text": f"deleted {paths}"}, IMAGE]}


def ordinary(manager: SnapshotSessionManager | None = None, **more: Any) -> Agent:
    """A program's agent: it asks before it deletes, until it is trusted."""
    script: list[Reply] = [
        ToolCall("delete_files", {"paths": ["a"]}),
        "Done.",
        ToolCall("delete_files", {"paths": ["b"]}),
        "Again.",
    ]
    given: dict[str, Any] = {
        "model": ScriptedModel(script),
        "agent_id": "files",
        "tools": [delete_files],
        "hooks": [AskUntilTrusted("files")],
        "callback_handler": None,
        "session_manager": manager,
    }
    return Agent(**given | more)


def trust(agent: Agent) -> Any:
    """Ask the agent, and answer its question with trust."""
    asked = agent(QUESTION)
    assert asked.interrupts
    answer: Any = [{"interruptResponse": {"interruptId": asked.interrupts[0].id, "response": "t"}}]
    return agent(answer)


Open = Callable[[str], SnapshotSessionManager]


@pytest.fixture(params=["files", "s3"])
def kept(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The store, and Strands' own manager upon the same place."""
    if request.param == "files":
        yield (
            Sessions(Place(tmp_path)),
            lambda name: SnapshotSessionManager(name, storage=LocalFileStorage(str(tmp_path))),
        )
        return
    import boto3

    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)
    with s3() as env:
        for name, value in env.items():
            monkeypatch.setenv(name, value)
        storage: Storage = S3Storage(BUCKET, prefix=f"our/{tmp_path.name}")
        yield (
            Sessions(Place.parse(f"s3://{BUCKET}/our/{tmp_path.name}/", "X")),
            lambda name: SnapshotSessionManager(name, storage=storage),
        )


async def test_a_program_opens_what_is_kept_here(kept: tuple[Sessions, Open]) -> None:
    """With the conversation, its bytes, and trust: the next deletion asks nobody."""
    sessions, manager = kept
    agent = ordinary()
    trust(agent)
    snapshot = jsonable(agent.take_snapshot(preset="session").to_dict())
    await sessions.save("ann", "files", snapshot, after=None, mark="session-ann/1")

    opened = ordinary(manager("ann"), system_prompt="Its own.")
    assert opened.messages == agent.messages
    assert (opened.state.get("files-trust"), opened.system_prompt) == ("t", "Its own.")
    assert opened("Delete b").stop_reason == "end_turn"
    assert "deleted ['b']" in str(opened.messages)

    found = await sessions.load("ann", "files")
    assert found and (found.written_by, len(found.messages)) == (None, 8)
    assert ordinary(manager("bob")).messages == []


async def test_what_a_program_keeps_is_read_here(kept: tuple[Sessions, Open]) -> None:
    """An agent that is restored from it has the same conversation and trust, and its own program's system prompt."""
    sessions, manager = kept
    agent = ordinary(manager("ann"), system_prompt="The program's.", state=AgentState({"raw": "x"}))
    trust(agent)
    stored = await sessions.load("ann", "files")
    assert stored and (stored.written_by, stored.interrupted) == (None, False)
    assert "system_prompt" not in stored.snapshot["data"]
    restored = ordinary(system_prompt="Ours.")
    restored.load_snapshot(Snapshot.from_dict(from_jsonable(stored.snapshot)))
    assert restored.messages == agent.messages
    assert restored.state.get() == {"raw": "x", "files-trust": "t"}
    assert restored.system_prompt == "Ours."
    assert restored("Delete b").stop_reason == "end_turn"

    following = jsonable(restored.take_snapshot(preset="session").to_dict())
    await sessions.save("ann", "files", following, after=stored.version, mark="session-ann/1")
    assert ordinary(manager("ann")).messages == restored.messages

    assert await sessions.forget_state("ann", "files", "files-trust")
    once_more = ordinary(manager("ann"))
    assert len(once_more.messages) == 8
    assert once_more.state.get() == {"raw": "x"}


async def test_a_program_that_was_left_with_a_question(kept: tuple[Sessions, Open]) -> None:
    sessions, manager = kept
    assert ordinary(manager("ann"))("Delete a").stop_reason == "interrupt"
    stored = await sessions.load("ann", "files")
    assert stored and stored.interrupted


async def test_what_only_looks_like_bytes_does_no_harm(kept: tuple[Sessions, Open]) -> None:
    """A tool's input that reads like bytes: Strands' own form of it could not be opened any more."""
    sessions, manager = kept
    agent = ordinary(hooks=[], state=AgentState({"fake": FAKE}))
    snapshot = jsonable(agent.take_snapshot(preset="session").to_dict())
    await sessions.save("ann", "files", snapshot, after=None, mark="m")
    stored = await sessions.load("ann", "files")
    assert stored and from_jsonable(stored.state) == {"fake": FAKE}
    assert "fake" in ordinary(manager("ann")).state.get()


async def test_forget_leaves_nothing_for_a_program(kept: tuple[Sessions, Open]) -> None:
    sessions, manager = kept
    before = manager("ann")
    trust(agent := ordinary(before))
    assert await before.save_snapshot(agent, is_latest=False)
    assert await sessions.forget("ann")
    assert await before.list_snapshot_ids(agent) == []
    assert ordinary(manager("ann")).messages == []


def test_strands_knows_these_names_and_this_schema() -> None:
    assert SCHEMA == SNAPSHOT_SCHEMA_VERSION
    for name in ("a", "x" * 255, ".a", "-", "a..b", "user:ann@example.com #7?*", "日本"):
        assert validate(name, Identifier.SESSION) == name
        assert _normalize_key(f"session/{name}/x") == f"session/{name}/x"
