"""Sessions in files: processes that write at once or are killed, what a power cut leaves, and who may read."""

from __future__ import annotations

import asyncio
import os
import stat
from pathlib import Path

import pytest

from abeyance.errors import ConfigurationError
from abeyance.places import Place
from abeyance.sessions import Sessions
from tests.sessions import Writer, snapshot

KEY = "session/s/scopes/agent/a/snapshots/snapshot_latest.json"


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


@pytest.mark.long
async def test_a_writer_that_is_killed_leaves_something_whole(tmp_path: Path) -> None:
    """kill -9 in the middle of writes, five times: the old or the new is there, and the next one can write at once."""
    sessions = Sessions(Place(tmp_path))
    for number in range(0, 10, 2):
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


async def test_a_save_outlives_a_power_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file is synced before it takes the old one's place, its folder after that, and all folders that are new."""
    done: list[tuple[str, int]] = []
    sync, replace = os.fsync, Path.replace

    def synced(descriptor: int) -> None:
        sync(descriptor)
        done.append(("synced", os.fstat(descriptor).st_ino))

    def replaced(path: Path, target: Path) -> Path:
        done.append(("replaced", path.stat().st_ino))
        return replace(path, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "replace", replaced)
    base = tmp_path / "sessions"
    await Sessions(Place(base)).save("s", "a", snapshot(), after=None, mark="m")
    path = base / KEY
    at = done.index(("replaced", path.stat().st_ino))
    assert ("synced", path.stat().st_ino) in done[:at]
    assert ("synced", path.parent.stat().st_ino) in done[at:]
    folders = [folder for folder in path.parents if folder.is_relative_to(tmp_path)]
    assert {("synced", folder.stat().st_ino) for folder in folders} <= set(done)


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
