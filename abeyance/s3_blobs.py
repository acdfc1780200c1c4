"""Blobs in a bucket of S3, with its conditional writes."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC
from typing import Any

from botocore import exceptions as aws

from abeyance.blobs import Blob, ChangedError, Entry
from abeyance.errors import ConfigurationError
from abeyance.places import Place, s3_client

_HOW = {
    "AccessDenied": "The credentials need s3:GetObject, s3:PutObject, s3:DeleteObject and s3:ListBucket there.",
    "NoSuchBucket": "Create the bucket, or name another.",
}
_CREDENTIALS = "Set the usual AWS variables, a profile or a role."


class S3Blobs:
    """Blobs as objects below a prefix; see `abeyance.blobs.Blobs`. Their version is the object's ETag."""

    def __init__(self, place: Place, setting: str):
        self._place = place
        self._setting = setting
        self._client: Any = None
        self._making = threading.Lock()

    def read(self, key: str) -> Blob | None:
        """What lies under `key`, or `None`."""
        with self._in_words() as s3:
            try:
                found = s3.get_object(**self._object(key))
                return Blob(found["Body"].read(), found["ETag"])
            except aws.ClientError as error:
                if _code(error) == "NoSuchKey":
                    return None
                raise

    def write(self, key: str, data: bytes, *, after: str | None, overwrite: bool) -> str:
        """Write if the server finds that `after` still lies there.

        A 409 (another write is under way, and may yet fail) passes as it is: the next attempt will tell.
        """
        condition = {} if overwrite else {"IfNoneMatch": "*"} if after is None else {"IfMatch": after}
        with self._in_words() as s3:
            try:
                put = s3.put_object(**self._object(key), Body=data, ContentType="application/json", **condition)
                return str(put["ETag"])
            except aws.ClientError as error:
                if _code(error) in ("PreconditionFailed", "412") or (after and _code(error) == "NoSuchKey"):
                    raise ChangedError(key) from error
                raise

    def remove(self, prefix: str) -> int:
        """Remove the objects below `prefix`."""
        found = self.entries(prefix)
        with self._in_words() as s3:
            for entry in found:
                s3.delete_object(**self._object(entry.key))
        return len(found)

    def entries(self, prefix: str) -> list[Entry]:
        """All keys that begin with `prefix`."""
        before = len(self._place.key(""))
        with self._in_words() as s3:
            pages = s3.get_paginator("list_objects_v2").paginate(
                Bucket=self._place.bucket, Prefix=self._place.key(prefix)
            )
            found = [
                Entry(item["Key"][before:], item["Size"], item["LastModified"].astimezone(UTC).isoformat())
                for page in pages
                for item in page.get("Contents", [])
            ]
        return sorted(found, key=lambda entry: entry.key)

    def where(self, key: str) -> str:
        """The object's address."""
        return f"s3://{self._place.bucket}/{self._place.key(key)}"

    def _object(self, key: str) -> dict[str, str | None]:
        return {"Bucket": self._place.bucket, "Key": self._place.key(key)}

    @contextmanager
    def _in_words(self) -> Iterator[Any]:
        """The client; what a person has to mend is said in words, anything else passes."""
        try:
            with self._making:
                self._client = self._client or s3_client()
            yield self._client
        except aws.ClientError as error:
            status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
            # S3 says 400 of a request that was too slow, which passes by itself.
            if status in (301, 400, 401, 403, 404) and _code(error) != "RequestTimeout":
                raise self._unusable(error, _HOW.get(_code(error), _CREDENTIALS)) from error
            raise
        except (
            aws.NoCredentialsError,
            aws.PartialCredentialsError,
            aws.CredentialRetrievalError,
            aws.ProfileNotFound,
            aws.NoRegionError,
            aws.InvalidRegionError,
        ) as error:
            raise self._unusable(error, _CREDENTIALS) from error
        except (ValueError, aws.ParamValidationError) as error:
            raise self._unusable(error, "Look at the bucket's name and AWS_ENDPOINT_URL_S3.") from error

    def _unusable(self, error: Exception, how: str) -> ConfigurationError:
        return ConfigurationError(
            f"{self._setting} is {self._place}, which cannot be used: {str(error).rstrip('.')}. {how}"
        )


def _code(error: aws.ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))
