"""Where payloads are kept that are too large for Temporal, which then holds only a reference to them."""

from __future__ import annotations

from dataclasses import dataclass

from temporalio.api.common.v1 import Payload
from temporalio.converter import ExternalStorage, StorageDriver, StorageDriverSelectContext

from abeyance.converter.directory import DirectoryDriver
from abeyance.converter.elsewhere import Elsewhere
from abeyance.converter.s3 import S3Driver
from abeyance.errors import UnreadablePayloadError
from abeyance.places import Place

STORED_FROM = 256 * 1024
"""Bytes from which a payload is stored, after it was compressed and encrypted."""
DIRECTORY, S3 = "abeyance.directory", "abeyance.s3"
"""The names that references have the two kinds of storage under, in all runs there are."""


@dataclass(frozen=True)
class Storage(ExternalStorage):
    """Temporal's external storage with a driver for each name that a reference may have, whatever is configured.

    `stores` says whether anything is stored.
    """

    stores: bool = False

    def _get_driver_by_name(self, name: str) -> StorageDriver:
        if name not in (DIRECTORY, S3):
            raise UnreadablePayloadError("It says that it is stored elsewhere, in a storage that no setting names.")
        return super()._get_driver_by_name(name)


def storage(place: Place | None) -> Storage:
    """External storage in `place`, or such that stores nothing and says of every reference which setting is missing."""
    directory: StorageDriver = Elsewhere(DIRECTORY, "a directory", place)
    s3: StorageDriver = Elsewhere(S3, "an S3 bucket", place)
    chosen: StorageDriver | None = None
    if place and place.directory:
        chosen = directory = DirectoryDriver(DIRECTORY, place.directory)
    elif place:
        chosen = s3 = S3Driver(S3, place)

    def select(_: StorageDriverSelectContext, __: Payload) -> StorageDriver | None:
        return chosen

    return Storage(
        drivers=[directory, s3], driver_selector=select, payload_size_threshold=STORED_FROM, stores=bool(place)
    )


def is_reference(payload: Payload) -> bool:
    """Whether it says that it only refers to what is stored elsewhere."""
    encoding = payload.metadata.get("encoding")
    if encoding == b"json/protobuf":
        return payload.metadata.get("messageType") == b"temporal.api.sdk.v1.ExternalStorageReference"
    return encoding == b"json/external-storage-reference"
