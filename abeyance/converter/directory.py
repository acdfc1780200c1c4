"""Payloads in a directory, each in a file that is named after its content."""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path

from google.protobuf.message import DecodeError
from temporalio.api.common.v1 import Payload
from temporalio.converter import (
    StorageDriver,
    StorageDriverClaim,
    StorageDriverRetrieveContext,
    StorageDriverStoreContext,
)

from abeyance.converter.compression import LARGEST
from abeyance.errors import StorageError, UnreadablePayloadError
from abeyance.places import make_private, sync

HASH = re.compile(r"[0-9a-f]{64}")


class DirectoryDriver(StorageDriver):
    """Keeps payloads in files `<directory>/<the hash's first two digits>/<SHA-256 of the content>`.

    A file appears whole or not at all, and is on disk before its reference is sent anywhere. Nothing is ever removed
    here; using a payload again renews its file's time.

    Args:
        name: the name in references.
        directory: made if it is not there, for this user alone.
    """

    def __init__(self, name: str, directory: Path):
        self._name, self._directory = name, directory

    def name(self) -> str:
        """The name in references."""
        return self._name

    async def store(self, context: StorageDriverStoreContext, payloads: Sequence[Payload]) -> list[StorageDriverClaim]:
        """Store payloads; those that are there already are left as they are.

        Raises:
            StorageError: if that fails.
        """
        return [
            await asyncio.to_thread(self._store, payload.SerializeToString(deterministic=True)) for payload in payloads
        ]

    async def retrieve(
        self, context: StorageDriverRetrieveContext, claims: Sequence[StorageDriverClaim]
    ) -> list[Payload]:
        """Read payloads.

        Raises:
            UnreadablePayloadError: if a claim is none that `store` has made.
            StorageError: if one is not there, not whole, or cannot be read now.
        """
        return [await asyncio.to_thread(self._retrieve, dict(claim.claim_data)) for claim in claims]

    def _store(self, data: bytes) -> StorageDriverClaim:
        digest = hashlib.sha256(data).hexdigest()
        path = self._path(digest)
        try:
            try:
                os.utime(path)
            except FileNotFoundError:
                make_private(self._directory)
                path.parent.mkdir(exist_ok=True)
                _write(path, data)
                sync(path.parent)
                sync(self._directory)
        except OSError as error:
            raise StorageError(f"A payload cannot be stored in {self._directory}: {error.strerror}.") from error
        return StorageDriverClaim({"sha256": digest})

    def _retrieve(self, claim: dict[str, str]) -> Payload:
        digest = claim.get("sha256", "")
        if set(claim) != {"sha256"} or not HASH.fullmatch(digest):
            raise UnreadablePayloadError("It says that it is stored elsewhere, and does not say where.")
        path = self._path(digest)
        try:
            with path.open("rb") as file:
                data = file.read(LARGEST + 1)
        except FileNotFoundError as error:
            raise StorageError(
                f"A payload is not in {self._directory} (ABEYANCE_STORAGE): {digest[:2]}/{digest} is missing. "
                "Put it back, or set ABEYANCE_STORAGE to the place that all workers and clients share."
            ) from error
        except OSError as error:
            raise StorageError(f"A payload in {self._directory} cannot be read: {error.strerror}.") from error
        if hashlib.sha256(data).hexdigest() != digest:
            raise StorageError(f"The stored payload {path} is damaged. Put back what was there.")
        try:
            return Payload.FromString(data)
        except DecodeError as error:
            raise UnreadablePayloadError("It refers to something that is no payload.") from error

    def _path(self, digest: str) -> Path:
        return self._directory / digest[:2] / digest


def _write(path: Path, data: bytes) -> None:
    """Have a file appear at once, whole, and with the rights that the process gives to new files."""
    umask = os.umask(0)
    os.umask(umask)
    handle, temporary = tempfile.mkstemp(prefix=".new-", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fchmod(file.fileno(), 0o666 & ~umask)
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
