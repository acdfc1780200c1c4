"""Trust that a session remembers: who granted it, and what becomes of a value that no run has written."""

from __future__ import annotations

import json
import uuid
from pathlib import Path
from typing import Any

import pytest

from abeyance.contracts import RunResult
from abeyance.places import Place
from abeyance.sessions import MARK, Sessions
from tests.conftest import Start
from tests.support import World
from tests.test_sessions_runs import begin

AGENT, TRUST = "trusted-file-manager", "trusted-file-manager-trust"


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(directory=tmp_path / "sessions")


@pytest.fixture
def name() -> str:
    return f"trust-{uuid.uuid4().hex[:8]}"


def stored(place: Place) -> Path:
    [path] = (place.directory or Path()).glob("**/snapshot_latest.json")
    return path


def edit(place: Place, change: Any) -> None:
    """Change what a session's file holds, as somebody may who can write to the store."""
    path = stored(place)
    snapshot = json.loads(path.read_text())
    change(snapshot)
    path.write_text(json.dumps(snapshot))


def whys(result: RunResult) -> list[str]:
    """Why the run deleted what it deleted."""
    return [ran.why for note in result.turn_notes for ran in note.work.ran if ran.tool == "delete_files"]


async def denied(world: World, name: str) -> None:
    """A run that was told no, and leaves a session behind."""
    (world.workspace / "a.txt").write_text("x")
    run = await begin(world, name, "Delete a.txt")
    await run.reaches("waiting", approvals=1)
    await run.handle.signal("deny")
    await run.result()


async def test_trust_that_somebody_wrote_into_the_store(start_world: Start, place: Place, name: str) -> None:
    """It is not acted on before a person says so; then the record and the session say who did."""
    async with start_world(sessions=place) as world:
        await denied(world, name)
        edit(place, lambda snapshot: snapshot["data"]["state"].update({TRUST: "t"}))
        run = await begin(world, name, "Delete a.txt")
        problem = (await run.reaches("parked")).problem or ""
        assert f"values that no run has written as they stand: {TRUST}" in problem
        assert f"`sessions forget {name} --key NAME`" in problem
        assert "a.txt" in world.files()
        await run.handle.signal("retry", {"by": "ann"})
        result = await run.result()
        assert result.session
        assert result.session.unknown == [TRUST]
        assert "a.txt" not in world.files()
        [why] = whys(result)
        assert f"{TRUST} was taken over as it was found" in why
        assert "by signal retry, sent by ann" in why
        kept = await Sessions(place).load(name, AGENT)
        assert kept
        assert kept.unknown == []
        assert kept.origins[TRUST].answers == ["signal retry, sent by ann"]
        (world.workspace / "a.txt").write_text("x")
        again = await (await begin(world, name, "Delete a.txt")).result()
        assert again.approvals == []


async def test_a_value_that_was_changed_in_the_store(start_world: Start, place: Place, name: str) -> None:
    """Removed, as the words say, it counts no more: the run asks."""
    async with start_world(sessions=place) as world:
        (world.workspace / "a.txt").write_text("x")
        run = await begin(world, name, "Delete a.txt")
        await run.reaches("waiting", approvals=1)
        await run.handle.signal("respond", "t")
        await run.result()
        edit(place, lambda snapshot: snapshot["data"]["state"].update({TRUST: "t", "more": 1}))
        (world.workspace / "b.txt").write_text("x")
        run = await begin(world, name, "Delete b.txt")
        assert "as they stand: more." in str((await run.reaches("parked")).problem)
        for key in ("more", TRUST):
            assert await Sessions(place).forget_state(name, AGENT, key)
        await run.handle.signal("retry")
        await run.reaches("waiting", approvals=1)
        assert "b.txt" in world.files()
        await run.handle.signal("deny")
        await run.result()
        assert "b.txt" in world.files()


async def test_a_session_of_an_older_version(start_world: Start, place: Place, name: str) -> None:
    """It kept no origins: its runs go on, and what they keep is known from then on."""
    async with start_world(sessions=place) as world:
        await denied(world, name)

        def older(snapshot: dict[str, Any]) -> None:
            snapshot["data"]["state"] = {TRUST: "t"}
            snapshot["app_data"] = {MARK: snapshot["app_data"][MARK]}

        edit(place, older)
        result = await (await begin(world, name, "Delete a.txt")).result()
        assert "a.txt" not in world.files()
        [why] = whys(result)
        assert why == "not asked: a person has answered t before, to trust always"
        edit(place, lambda snapshot: snapshot["data"]["state"].update({TRUST: "T"}))
        run = await begin(world, name, "Delete a.txt")
        await run.reaches("parked")
        await run.handle.signal("abort")
        with pytest.raises(Exception, match="Workflow execution failed"):
            await run.result()
