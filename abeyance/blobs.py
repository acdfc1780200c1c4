"""Blobs under keys, written only where nobody else has written meanwhile: the store below sessions."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from abeyance.errors import ConfigurationError
from abeyance.places import Place, make_private, sync

# Strands' LocalFileStorage passes over files that are called so when it lists keys.
INTERNAL = ".__strands_"
STALE_SECONDS = 3600.0
_UNUSABLE = {errno.EACCES, errno.EPERM, errno.EROFS, errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ELOOP}


class ChangedError(Exception):
    """The blob is not the one after which it was to be written."""


@dataclass(frozen=True)
class Blob:
    """What lies under a key, and its `version`: opaque, another one for other contents."""

    data: bytes
    version: str


@dataclass(frozen=True)
class Entry:
    """A key in a listing, with its size in bytes and when it was written, ISO 8601 in UTC."""

    key: str
    size: int
    written_at: str


class Blobs(Protocol):
    """A store of blobs. Its methods block, and may be called from several threads.

    All raise `ConfigurationError` where the store as it is set cannot be used (no such bucket, access denied), and
    let pass what may pass by itself: `OSError`, and botocore's errors of connections and servers.
    """

    def read(self, key: str) -> Blob | None:
        """What lies under `key`, or `None`."""

    def write(self, key: str, data: bytes, *, after: str | None, overwrite: bool) -> str:
        """Write, whole or not at all, and return the new version once it is safe.

        Args:
            key: parts of a path, separated by slashes.
            data: what is to lie there.
            after: the version that must lie there now; `None`: nothing must.
            overwrite: write whatever lies there.

        Raises:
            ChangedError: if something else lies there; nothing has changed then.
        """

    def remove(self, prefix: str) -> int:
        """Remove all keys that begin with `prefix`, which ends with a slash; returns how many there were."""

    def entries(self, prefix: str) -> list[Entry]:
        """All keys that begin with `prefix`, which ends with a slash, sorted."""

    def where(self, key: str) -> str:
        """Where `key` lies, in words for people."""


def blobs_in(place: Place, setting: str) -> Blobs:
    """The store at a place.

    Args:
        place: a directory, which need not exist, or a bucket with a prefix.
        setting: the setting that names the place, for errors.
    """
    if place.directory is not None:
        return FileBlobs(place.directory, setting)
    from abeyance.s3_blobs import S3Blobs

    return S3Blobs(place, setting)


class FileBlobs:
    """Blobs as private files below a directory; see `Blobs`. Their version is the hash of what they hold."""

    def __init__(self, directory: Path, setting: str):
        self._base = directory
        self._setting = setting

    def read(self, key: str) -> Blob | None:
        """What lies under `key`, or `None`."""
        with self._in_words():
            try:
                data = (self._base / key).read_bytes()
            except (FileNotFoundError, NotADirectoryError):
                return None
        return Blob(data, hashlib.sha256(data).hexdigest())

    def write(self, key: str, data: bytes, *, after: str | None, overwrite: bool) -> str:
        """Write to another file, which takes the old one's place under the lock."""
        with self._in_words():
            make_private(self._base)
            fresh = self._base / f"{INTERNAL}tmp_{uuid.uuid4().hex}"
            try:
                _write(fresh, data)
                with self._locked():
                    now = self.read(key)
                    if not overwrite and (now.version if now else None) != after:
                        raise ChangedError(key)
                    path = self._base / key
                    make_private(path.parent)
                    fresh.replace(path)
                    sync(path.parent)
            finally:
                fresh.unlink(missing_ok=True)
        return hashlib.sha256(data).hexdigest()

    def remove(self, prefix: str) -> int:
        """Remove the files below `prefix`, and the folders that are empty then."""
        with self._in_words():
            if not (self._base / prefix).is_dir():
                return 0
            with self._locked():
                paths = [self._base / entry.key for entry in self.entries(prefix)]
                for path in paths:
                    path.unlink(missing_ok=True)
                    sync(path.parent)
                self._prune(self._base / prefix)
        return len(paths)

    def entries(self, prefix: str) -> list[Entry]:
        """All keys that begin with `prefix`."""
        found = []
        with self._in_words():
            for folder, _, names in os.walk(self._base / prefix, onerror=_unless_gone):
                for name in names:
                    path = Path(folder, name)
                    try:
                        about = path.stat()
                    except FileNotFoundError:
                        continue
                    written = datetime.fromtimestamp(about.st_mtime, UTC).isoformat(timespec="seconds")
                    if not name.startswith(INTERNAL):
                        found.append(Entry(path.relative_to(self._base).as_posix(), about.st_size, written))
        return sorted(found, key=lambda entry: entry.key)

    def where(self, key: str) -> str:
        """The file's path."""
        return str(self._base / key)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """One process and thread at a time; the lock goes with the process that holds it."""
        descriptor = os.open(self._base / f"{INTERNAL}lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            self._sweep()
            yield
        finally:
            os.close(descriptor)

    def _sweep(self) -> None:
        """Remove what writers that were killed have left."""
        for path in self._base.glob(f"{INTERNAL}tmp_*"):
            try:
                if time.time() - path.stat().st_mtime > STALE_SECONDS:
                    path.unlink()
            except FileNotFoundError:
                continue

    def _prune(self, top: Path) -> None:
        for folder, _, _ in os.walk(top, topdown=False):
            if not any(Path(folder).iterdir()):
                Path(folder).rmdir()
        parent = top.parent
        while parent != self._base and not any(parent.iterdir()):
            parent.rmdir()
            parent = parent.parent

    @contextmanager
    def _in_words(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if error.errno not in _UNUSABLE:
                raise
            raise ConfigurationError(
                f"{self._setting} is {self._base}, which cannot be used: {error.strerror} ({error.filename}). "
                "Give this user a directory to read and write, or set it to another."
            ) from error


def _write(path: Path, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _unless_gone(error: OSError) -> None:
    if not isinstance(error, (FileNotFoundError, NotADirectoryError)):
        raise error
