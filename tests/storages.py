"""What is kept in a place of a test, a directory or a bucket, and references to what is not."""

from __future__ import annotations

from pathlib import Path

import boto3
from temporalio.api.common.v1 import Payload
from temporalio.api.sdk.v1.external_storage_pb2 import ExternalStorageReference
from temporalio.converter import JSONProtoPayloadConverter

from abeyance.places import Place


def keys_in(place: Place) -> list[str]:
    """What is stored there."""
    if place.directory:
        return [str(path) for path in place.directory.rglob("*") if path.is_file()]
    listed = boto3.client("s3").list_objects_v2(Bucket=place.bucket)
    return [item["Key"] for item in listed.get("Contents", ())]


def take_away(place: Place) -> None:
    for key in keys_in(place):
        if place.directory:
            Path(key).unlink()
        else:
            boto3.client("s3").delete_object(Bucket=place.bucket, Key=key)


def forged(driver: str, **claim: str) -> Payload:
    """A reference as anybody may send it."""
    made = JSONProtoPayloadConverter().to_payload(ExternalStorageReference(driver_name=driver, claim_data=claim))
    assert made
    return made
