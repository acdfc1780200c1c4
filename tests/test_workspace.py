"""The file tools on real files: they do what they say, inside their workspace, and nothing anywhere else."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from abeyance.registry import load_agents
from agents._tools import delete_files, deleter, inspect_files
from agents._workspace import Workspace, WorkspaceError


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A directory beside the workspace with a file that nobody may touch."""
    directory = tmp_path / "outside"
    directory.mkdir()
    (directory / "precious").write_text("precious")
    return directory


def everything(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.parent.rglob("*") if path.is_relative_to(root)}


Prepare = Callable[[Path, Path], str]


def link_to_file_inside(workspace: Path, outside: Path) -> str:
    (workspace / "link").symlink_to("a.txt")
    return "link"


def link_to_file_outside(workspace: Path, outside: Path) -> str:
    (workspace / "link").symlink_to(outside / "precious")
    return "link"


def through_link_to_directory_inside(workspace: Path, outside: Path) -> str:
    (workspace / "real").mkdir()
    (workspace / "real/file").write_text("x")
    (workspace / "link").symlink_to("real")
    return "link/file"


def through_link_to_directory_outside(workspace: Path, outside: Path) -> str:
    (workspace / "link").symlink_to(outside)
    return "link/precious"


def directory(workspace: Path, outside: Path) -> str:
    (workspace / "sub").mkdir()
    return "sub"


def fifo(workspace: Path, outside: Path) -> str:
    os.mkfifo(workspace / "pipe")
    return "pipe"


def through_a_file(workspace: Path, outside: Path) -> str:
    return "a.txt/b"


BAD: list[tuple[str | Prepare, str]] = [
    ("missing.txt", "missing.txt: does not exist"),
    ("no/such/dir.txt", "no/such/dir.txt: does not exist"),
    ("", "does not name a file inside the workspace"),
    (".", "does not name a file inside the workspace"),
    ("..", "does not name a file inside the workspace"),
    ("../outside/precious", "does not name a file inside the workspace"),
    ("sub/../../outside/precious", "does not name a file inside the workspace"),
    ("a.txt/..", "does not name a file inside the workspace"),
    ("/etc/passwd", "is not relative to the workspace"),
    ("//etc/passwd", "is not relative to the workspace"),
    ("a.txt\0", "is not relative to the workspace"),
    ("n" * 300, "name too long"),
    ("x/" * 3000 + "a", "does not exist"),
    ("\ud800", "surrogates not allowed"),
    (link_to_file_inside, "is a symbolic link, not a regular file"),
    (link_to_file_outside, "is a symbolic link, not a regular file"),
    (through_link_to_directory_inside, "leads through something that is no directory"),
    (through_link_to_directory_outside, "leads through something that is no directory"),
    (through_a_file, "leads through something that is no directory"),
    (directory, "is a directory, not a regular file"),
    (fifo, "is a special file, not a regular file"),
]


@pytest.mark.parametrize(("path", "words"), BAD, ids=lambda value: getattr(value, "__name__", repr(value)[:30]))
def test_what_may_not_be_deleted_is_refused_and_nothing_is_touched(
    workspace: Path, outside: Path, path: str | Prepare, words: str
) -> None:
    name = path if isinstance(path, str) else path(workspace, outside)
    before = everything(workspace.parent)
    for paths in ([name], ["a.txt", name], [name, "a.txt"]):
        with pytest.raises(WorkspaceError, match="Nothing was touched") as refused:
            Workspace(workspace).delete(paths)
        assert words in str(refused.value)
    assert everything(workspace.parent) == before
    assert (outside / "precious").read_text() == "precious"


def test_files_are_really_deleted_and_no_others(workspace: Path) -> None:
    (workspace / "sub").mkdir()
    (workspace / "sub/e.txt").write_text("e")
    assert Workspace(workspace).delete(["a.txt", "./b.txt", "sub//e.txt"]) == ["a.txt", "b.txt", "sub/e.txt"]
    assert everything(workspace) == {".", "c.txt", "d.txt", "sub"}


@pytest.mark.parametrize("paths", [["a.txt", "a.txt"], ["a.txt", "./a.txt"], ["b.txt", "a.txt", ".//a.txt"]])
def test_a_file_that_is_named_twice_is_refused(workspace: Path, paths: list[str]) -> None:
    with pytest.raises(WorkspaceError, match=r"Nothing was deleted\. Named twice: a\.txt"):
        Workspace(workspace).delete(paths)
    assert (workspace / "a.txt").exists()
    assert (workspace / "b.txt").exists()


def test_every_problem_is_named(workspace: Path) -> None:
    with pytest.raises(WorkspaceError) as refused:
        Workspace(workspace).delete(["a.txt", "x", "/y"])
    assert str(refused.value) == "Nothing was touched. x: does not exist; /y: is not relative to the workspace."


def test_an_empty_list_names_nothing(workspace: Path) -> None:
    for act in (Workspace(workspace).delete, Workspace(workspace).inspect):
        with pytest.raises(WorkspaceError, match="No path was given"):
            act([])


def test_a_workspace_that_is_not_there(tmp_path: Path) -> None:
    missing = tmp_path / "nowhere"
    for act in (Workspace(missing).delete, Workspace(missing).inspect):
        with pytest.raises(WorkspaceError, match=f"There is no workspace at {missing}"):
            act(["a.txt"])
    assert not missing.exists()


def test_a_workspace_may_itself_be_reached_through_a_link(workspace: Path, tmp_path: Path) -> None:
    (tmp_path / "to-it").symlink_to(workspace)
    Workspace(tmp_path / "to-it").delete(["a.txt"])
    assert not (workspace / "a.txt").exists()


def test_a_directory_that_becomes_a_link_between_check_and_deletion_leads_nowhere(
    workspace: Path, outside: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (workspace / "sub").mkdir()
    (workspace / "sub/precious").write_text("mine")
    real = Workspace._require_file

    def checked_then_swapped(self: Workspace, path: str) -> str:
        found = real(self, path)
        (workspace / "sub").rename(workspace / "moved")
        (workspace / "sub").symlink_to(outside)
        return found

    monkeypatch.setattr(Workspace, "_require_file", checked_then_swapped)
    with pytest.raises(WorkspaceError, match="Nothing was deleted"):
        Workspace(workspace).delete(["sub/precious"])
    assert (outside / "precious").exists()


def test_when_the_file_system_refuses_midway_the_message_says_what_is_gone(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.unlink

    def unlink(name: str, *, dir_fd: int | None = None) -> None:
        if name == "b.txt":
            raise PermissionError(13, "Permission denied")
        real(name, dir_fd=dir_fd)

    monkeypatch.setattr("agents._workspace.os.unlink", unlink)
    with pytest.raises(WorkspaceError, match=r"Deleted a\.txt and no more\. b\.txt: Permission denied"):
        Workspace(workspace).delete(["a.txt", "b.txt", "c.txt"])
    assert everything(workspace) == {".", "b.txt", "c.txt", "d.txt"}


def test_inspecting_tells_kind_size_and_time(workspace: Path, outside: Path) -> None:
    os.utime(workspace / "a.txt", (0, 86_400))
    (workspace / "sub").mkdir()
    link_to_file_outside(workspace, outside)
    fifo(workspace, outside)
    lines = Workspace(workspace).inspect(["a.txt", "sub", "link", "pipe", "missing", "a.txt"])
    assert lines[0] == lines[5] == "a.txt: file, 15 bytes, modified 1970-01-02T00:00:00+00:00"
    assert [line.partition(",")[0] for line in lines[1:4]] == [
        "sub: directory",
        "link: symbolic link",
        "pipe: special file",
    ]
    assert lines[4] == "missing: does not exist"


@pytest.mark.parametrize("path", ["../outside/precious", "/etc/passwd", "", "a.txt\0"])
def test_inspecting_stays_inside(workspace: Path, outside: Path, path: str) -> None:
    with pytest.raises(WorkspaceError, match="Nothing was touched"):
        Workspace(workspace).inspect(["a.txt", path])


def test_inspecting_does_not_follow_links_to_directories(workspace: Path, outside: Path) -> None:
    with pytest.raises(WorkspaceError, match="no directory of the workspace"):
        Workspace(workspace).inspect([through_link_to_directory_outside(workspace, outside)])


def test_no_file_descriptor_is_left_open(workspace: Path, outside: Path) -> None:
    (workspace / "deep/er").mkdir(parents=True)
    for path in ("deep/er/missing", "deep/missing/x", "a.txt/b", "a.txt"):
        with pytest.raises(WorkspaceError):
            Workspace(workspace).delete([path, "missing"])
    assert [path for path in open_files() if path.is_relative_to(workspace.parent)] == []


def open_files() -> list[Path]:
    """What the descriptors of this process are of. Other threads open and close some of their own meanwhile."""
    found = []
    for descriptor in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):
            found.append(descriptor.readlink())
    return found


def test_the_tools_have_the_names_and_schemas_that_models_see(workspace: Path) -> None:
    for tool, name in ((inspect_files(workspace), "inspect_files"), (delete_files(workspace), "delete_files")):
        assert tool.tool_name == name
        schema = tool.tool_spec["inputSchema"]["json"]
        assert schema["required"] == ["paths"]
        assert (schema["properties"]["paths"]["type"], schema["properties"]["paths"]["items"]) == (
            "array",
            {"type": "string"},
        )


def test_the_deleter_says_what_it_did(workspace: Path) -> None:
    assert deleter(workspace)(["./a.txt", "b.txt"]) == "Deleted a.txt, b.txt."


@pytest.mark.parametrize("threshold", [0, -1, 4, 1_000_000, True, 1.5, "many", "", None, [3]], ids=repr)
def test_a_threshold_that_could_switch_the_approval_off_is_refused(workspace: Path, threshold: object) -> None:
    """Whoever starts a run chooses its options, and must not be able to have files deleted unasked."""
    from abeyance import AgentContext, OfflineModel

    factory = load_agents(["agents"])["smart-delete"].factory
    with pytest.raises(ValueError, match="'threshold' must be a whole number from 1 to 3"):
        factory(AgentContext(OfflineModel(), "run", None, {"threshold": threshold}, workspace))
