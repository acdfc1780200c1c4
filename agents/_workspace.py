"""Real files, and only those below one directory.

Every path is walked component by component through directory descriptors that refuse symbolic links, so that
neither `..`, nor an absolute path, nor a link that is swapped in at the last moment leads out of the workspace.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path


class WorkspaceError(ValueError):
    """Paths that the tools do not touch; the message names each one and why, and what was done, if anything was."""


@dataclass(frozen=True)
class Workspace:
    """The directory `root` and what may be done to the files in it. All paths are relative to it, with "/"."""

    root: Path

    def inspect(self, paths: Sequence[str]) -> list[str]:
        """One line per path: its kind, size in bytes and time of modification (UTC).

        Raises:
            WorkspaceError: if a path leads out of the workspace or through a link.
        """
        return self._checked(paths, self._line)

    def delete(self, paths: Sequence[str]) -> list[str]:
        """Delete the files at `paths`: all of them, or none if one of them is not what may be deleted.

        Raises:
            WorkspaceError: if a path leads out of the workspace, does not exist, is no regular file or is named
                twice, or if the file system refuses.
        """
        files = self._checked(paths, self._require_file)
        if twice := sorted({path for path in files if files.count(path) > 1}):
            raise WorkspaceError(f"Nothing was deleted. Named twice: {', '.join(twice)}.")
        for done, path in enumerate(files):
            try:
                with self._parent(path) as (directory, name):
                    os.unlink(name, dir_fd=directory)
            except OSError as error:
                before = f"Deleted {', '.join(files[:done])} and no more" if done else "Nothing was deleted"
                raise WorkspaceError(f"{before}. {path}: {_reason(error)}.") from error
        return files

    def _checked(self, paths: Sequence[str], check: object) -> list[str]:
        assert callable(check)
        if not paths:
            raise WorkspaceError("No path was given.")
        if not self.root.is_dir():
            raise WorkspaceError(f"Nothing was touched. There is no workspace at {self.root}.")
        done, problems = [], []
        for path in paths:
            try:
                done.append(check(path))
            except (OSError, ValueError) as error:
                problems.append(f"{path}: {_reason(error)}")
        if problems:
            raise WorkspaceError("Nothing was touched. " + "; ".join(problems) + ".")
        return done

    def _line(self, path: str) -> str:
        with self._parent(path) as (directory, name):
            try:
                status = os.stat(name, dir_fd=directory, follow_symlinks=False)
            except FileNotFoundError:
                return f"{path}: does not exist"
        changed = datetime.fromtimestamp(status.st_mtime, UTC).isoformat(timespec="seconds")
        return f"{path}: {_kind(status.st_mode)}, {status.st_size} bytes, modified {changed}"

    def _require_file(self, path: str) -> str:
        with self._parent(path) as (directory, name):
            mode = os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode
        if not stat.S_ISREG(mode):
            raise ValueError(f"is a {_kind(mode)}, not a regular file")
        return "/".join(_parts(path))

    @contextmanager
    def _parent(self, path: str) -> Iterator[tuple[int, str]]:
        *directories, name = _parts(path)
        current = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY)
        try:
            for part in directories:
                inner = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=current)
                os.close(current)
                current = inner
            yield current, name
        finally:
            os.close(current)


def _parts(path: str) -> list[str]:
    if path.startswith("/") or "\0" in path:
        raise ValueError("is not relative to the workspace")
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if not parts or ".." in parts:
        raise ValueError("does not name a file inside the workspace")
    return parts


def _kind(mode: int) -> str:
    if stat.S_ISREG(mode):
        return "file"
    if stat.S_ISDIR(mode):
        return "directory"
    return "symbolic link" if stat.S_ISLNK(mode) else "special file"


def _reason(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return "does not exist"
    if isinstance(error, NotADirectoryError) or getattr(error, "errno", None) == errno.ELOOP:
        return "leads through something that is no directory of the workspace"
    return getattr(error, "strerror", None) or str(error)
