"""Payloads that are kept outside of Temporal: in a directory, and in S3."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
from pathlib import Path

import boto3
import pytest
from temporalio.api.common.v1 import Payload
from temporalio.converter import StorageDriverClaim, StorageDriverRetrieveContext, StorageDriverStoreContext

from abeyance.converter.directory import DirectoryDriver
from abeyance.converter.elsewhere import Elsewhere
from abeyance.converter.storage import DIRECTORY, S3, storage
from abeyance.errors import StorageError, UnreadablePayloadError
from abeyance.places import Place
from tests.storages import keys_in, take_away

STORE, RETRIEVE = StorageDriverStoreContext(), StorageDriverRetrieveContext()


def stored(text: str) -> Payload:
    return Payload(metadata={"encoding": b"json/plain"}, data=f'"{text}"'.encode())


async def reference_to(place: Place, payload: Payload) -> Payload:
    return await storage(place)._store_payload(payload)


async def test_what_is_stored_comes_back(place: Place) -> None:
    """Large payloads once each, small ones not at all."""
    kept = storage(place)
    large, other, small = stored("x" * 300_000), stored("y" * 300_000), stored("z")
    references = await kept._store_payload_sequence([large, small, other, large])
    assert references[1] == small
    assert references[0] == references[3]
    assert all(reference.ByteSize() < 1_000 for reference in references)
    assert len(keys_in(place)) == 2
    assert await kept._retrieve_payload_sequence(references) == [large, small, other, large]


async def test_what_is_missing_or_damaged_is_said(place: Place) -> None:
    reference = await reference_to(place, stored("x" * 300_000))
    [key] = keys_in(place)
    if place.directory:
        Path(key).write_bytes(b"something else")
    else:
        boto3.client("s3").put_object(Bucket=place.bucket, Key=key, Body=b"something else")
    with pytest.raises(StorageError, match=r"damaged|integrity"):
        await storage(place)._retrieve_payload(reference)
    take_away(place)
    with pytest.raises(StorageError, match=r"is missing|does not exist"):
        await storage(place)._retrieve_payload(reference)


async def test_a_storage_that_is_not_the_same_is_named(place: Place, tmp_path: Path) -> None:
    reference = await reference_to(place, stored("x" * 300_000))
    kind = "a directory" if place.directory else "an S3 bucket"
    with pytest.raises(StorageError, match=f"stored in {kind}, and ABEYANCE_STORAGE is not set here"):
        await storage(None)._retrieve_payload(reference)
    other = Place(bucket="other") if place.directory else Place(tmp_path / "other")
    with pytest.raises(StorageError, match=f"stored in {kind}, and ABEYANCE_STORAGE is {other} here"):
        await storage(other)._retrieve_payload(reference)


FORGED = [
    (DIRECTORY, {"sha256": "../" * 21 + "x"}),
    (DIRECTORY, {"sha256": "/etc/passwd"}),
    (DIRECTORY, {"sha256": "A" * 64}),
    (DIRECTORY, {"sha256": "a" * 64 + "\n"}),
    (DIRECTORY, {}),
    (DIRECTORY, {"sha256": "a" * 64, "more": "x"}),
    (S3, {"key": "v0/x"}),
    (S3, {"bucket": "b", "key": "other/x", "hash_algorithm": "sha256", "hash_value": "a" * 64}),
    (S3, {"bucket": "b", "key": "v0/d/sha256/bb", "hash_algorithm": "sha256", "hash_value": "a" * 64}),
    (S3, {}),
    ("of-nobody", {"key": "k"}),
    ("", {}),
]


@pytest.mark.parametrize("number", range(len(FORGED)))
async def test_a_forged_reference_reaches_nothing(number: int, place: Place) -> None:
    """Neither other files nor other buckets."""
    name, claim = FORGED[number]
    kept = storage(place)
    if isinstance(kept._driver_map.get(name), Elsewhere):
        return  # which says that the setting is missing, whatever the claim is
    with pytest.raises(UnreadablePayloadError):
        await kept._get_driver_by_name(name).retrieve(RETRIEVE, [StorageDriverClaim(claim)])


async def test_another_bucket_is_not_read(s3_place: Place) -> None:
    boto3.client("s3").create_bucket(Bucket="private")
    reference = await reference_to(Place(bucket="private"), stored("x" * 300_000))
    with pytest.raises(StorageError, match="stored in another bucket"):
        await storage(s3_place)._retrieve_payload(reference)


async def test_a_file_appears_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is on disk before it has its name; what fails on the way leaves nothing."""
    driver = DirectoryDriver("d", tmp_path / "storage")

    def full(_: int) -> None:
        assert not any(path.name[0] != "." for path in tmp_path.rglob("*") if path.is_file())
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(StorageError, match=r"cannot be stored in .*: No space left on device"):
            await driver.store(STORE, [stored("x")])
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    assert len(await driver.store(STORE, [stored("x")])) == 1


def _store_often(directory: Path) -> None:
    asyncio.run(DirectoryDriver("d", directory).store(STORE, [stored(str(n) * 1_000) for n in range(50)] * 2))


async def test_two_processes_store_the_same(tmp_path: Path) -> None:
    processes = [multiprocessing.get_context("spawn").Process(target=_store_often, args=(tmp_path,)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        await asyncio.to_thread(process.join, 60)
        assert process.exitcode == 0
    driver = DirectoryDriver("d", tmp_path)
    claims = await driver.store(STORE, [stored(str(n) * 1_000) for n in range(50)])
    assert await driver.retrieve(RETRIEVE, claims) == [stored(str(n) * 1_000) for n in range(50)]
    assert len([path for path in tmp_path.rglob("*") if path.is_file()]) == 50


def test_only_its_owner_may_enter_a_new_directory(tmp_path: Path) -> None:
    asyncio.run(DirectoryDriver("d", tmp_path / "new").store(STORE, [stored("x")]))
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o700
