"""Payloads in an S3 bucket: Temporal's own driver, over boto3 in threads."""

from __future__ import annotations

import asyncio
import functools
import re
from collections.abc import Sequence
from typing import Any

from google.protobuf.message import DecodeError
from temporalio.api.common.v1 import Payload
from temporalio.contrib.aws.s3driver import S3StorageDriver, S3StorageDriverClient
from temporalio.converter import StorageDriverClaim, StorageDriverRetrieveContext, StorageDriverStoreContext

from abeyance.converter.compression import LARGEST
from abeyance.errors import StorageError, UnreadablePayloadError
from abeyance.places import Place, s3_client

KEY = re.compile(r"v0/[ -~]{1,1000}")


class S3Driver(S3StorageDriver):
    """Keeps payloads under `<prefix>/v0/…/<SHA-256 of the content>`. Nothing is ever removed here.

    Args:
        name: the name in references.
        place: bucket and prefix. The account, the region and the endpoint are those of the usual AWS variables.
    """

    def __init__(self, name: str, place: Place):
        assert place.bucket
        super().__init__(_Client(place), place.bucket, name, LARGEST)
        self._place = place

    async def store(self, context: StorageDriverStoreContext, payloads: Sequence[Payload]) -> list[StorageDriverClaim]:
        """Store payloads; those that are there already are left as they are.

        Raises:
            StorageError: if that fails.
        """
        try:
            return await super().store(context, payloads)
        except RuntimeError as error:
            raise StorageError(f"A payload cannot be stored in {self._place}: {error.__cause__ or error}") from error

    async def retrieve(
        self, context: StorageDriverRetrieveContext, claims: Sequence[StorageDriverClaim]
    ) -> list[Payload]:
        """Read payloads.

        Raises:
            UnreadablePayloadError: if a claim is none that `store` has made.
            StorageError: if one is not there, not whole, or cannot be read now.
        """
        for claim in claims:
            data = claim.claim_data
            ours = set(data) == {"bucket", "key", "hash_algorithm", "hash_value"} and KEY.fullmatch(data["key"])
            if not ours or not data["key"].endswith(f"/d/sha256/{data['hash_value']}"):
                raise UnreadablePayloadError("It says that it is stored elsewhere, and does not say where.")
            if data["bucket"] != self._place.bucket:
                raise StorageError(
                    f"A payload is stored in another bucket, and ABEYANCE_STORAGE is {self._place} here. "
                    "Set it to the place that all workers and clients share."
                )
        try:
            return await super().retrieve(context, claims)
        except DecodeError as error:
            raise UnreadablePayloadError("It refers to something that is no payload.") from error
        except (RuntimeError, ValueError) as error:
            raise StorageError(f"A payload cannot be read from {self._place}: {error.__cause__ or error}") from error


class _Client(S3StorageDriverClient):
    """What the driver needs of S3; boto3 is imported, and its credentials looked up, when it is first used."""

    def __init__(self, place: Place):
        self._place = place

    async def put_object(self, *, bucket: str, key: str, data: bytes) -> None:
        await asyncio.to_thread(lambda: self._s3.put_object(Bucket=bucket, Key=self._place.key(key), Body=data))

    async def object_exists(self, *, bucket: str, key: str) -> bool:
        def look() -> bool:
            from botocore.exceptions import ClientError

            try:
                self._s3.head_object(Bucket=bucket, Key=self._place.key(key))
            except ClientError as error:
                if error.response.get("ResponseMetadata", {}).get("HTTPStatusCode") == 404:
                    return False
                raise
            return True

        return await asyncio.to_thread(look)

    async def get_object(self, *, bucket: str, key: str) -> bytes:
        def read() -> bytes:
            body = self._s3.get_object(Bucket=bucket, Key=self._place.key(key))["Body"]
            with body:
                data: bytes = body.read(LARGEST + 1)
            return data

        return await asyncio.to_thread(read)

    @functools.cached_property
    def _s3(self) -> Any:
        return s3_client()
