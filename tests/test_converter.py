"""What the data converter makes of payloads, and that nothing but what it has made comes back as a value."""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Any

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st
from temporalio.api.common.v1 import Payload
from temporalio.converter import ActivitySerializationContext, DataConverter, WorkflowSerializationContext

from abeyance.answers import Undecodable
from abeyance.converter import data_converter, wire_size
from abeyance.converter.codec import FOR_PEOPLE, FOR_WORKERS, LARGEST_OF_WORKFLOW
from abeyance.converter.compression import LARGEST
from abeyance.converter.worker import WorkerDataConverter
from abeyance.errors import PayloadError, UnknownKeyError
from abeyance.places import Place
from abeyance.settings import Settings
from tests.support import a_key

RUN = WorkflowSerializationContext(namespace="default", workflow_id="run")
TURN = ActivitySerializationContext(
    namespace="default",
    activity_id="1",
    activity_type="run_turn",
    activity_task_queue="q",
    workflow_id="run",
    workflow_type="AgentRun",
    is_local=False,
)
A, B = a_key("a"), a_key("b")
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**15), 10**15) | st.text(max_size=2_000),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=20), inner, max_size=5),
    max_leaves=20,
)


def worker_of(settings: Settings) -> WorkerDataConverter:
    given = data_converter(settings)
    return WorkerDataConverter(
        payload_codec=given.payload_codec,
        failure_converter_class=given.failure_converter_class,
        external_storage=given.external_storage,
    )


def encoding(payload: Payload) -> str:
    return payload.metadata["encoding"].decode()


async def encoded(converter: DataConverter, value: Any) -> Payload:
    [payload] = await converter.encode([value])
    return payload


async def arrived(payload: Payload, settings: Settings) -> Any:
    """What a workflow gets of a payload that was sent to it."""
    converter = worker_of(settings).with_context(RUN)
    return (await converter.decode([payload]))[0]


@pytest.mark.parametrize("keys", ["", A, f"{B},{A}"], ids=["no key", "a key", "two keys"])
@pytest.mark.parametrize("compression", [True, False], ids=["compressed", "as it is"])
@given(values=st.lists(JSON, min_size=1, max_size=3), context=st.sampled_from([None, RUN, TURN]))
async def test_values_come_back(keys: str, compression: bool, values: list[Any], context: Any) -> None:
    """Whatever the context, and for a worker as for a client."""
    settings = Settings(keys=keys, compression=compression)
    here = data_converter(settings)
    there = worker_of(settings)
    if context:
        here, there = here.with_context(context), there.with_context(context)
    payloads = await here.encode(values)
    assert await there.decode(payloads) == values
    assert await here.decode(await there.encode(values)) == values
    assert {encoding(payload) for payload in payloads} == {"binary/encrypted"} or not keys


@pytest.mark.parametrize(
    ("context", "size", "expected"),
    [
        (RUN, FOR_PEOPLE - 100, "json/plain"),
        (RUN, FOR_PEOPLE, "binary/zstd"),
        (TURN, FOR_WORKERS - 100, "json/plain"),
        (TURN, FOR_WORKERS, "binary/zstd"),
        (None, FOR_WORKERS, "binary/zstd"),
    ],
)
async def test_what_people_read_stays_readable(context: Any, size: int, expected: str) -> None:
    converter = data_converter(Settings())
    if context:
        converter = converter.with_context(context)
    assert encoding(await encoded(converter, "x" * size)) == expected
    off = data_converter(Settings(compression=False))
    assert encoding(await encoded(off, "x" * size)) == "json/plain"


async def test_what_compression_does_not_make_smaller_is_left() -> None:
    noise = random.Random(1).randbytes(50_000)
    hex_ = random.Random(1).randbytes(50_000).hex()
    converter = data_converter(Settings())
    assert encoding(await encoded(converter, noise)) == "binary/plain"
    assert encoding(await encoded(converter, hex_)) == "binary/zstd"


async def test_compression_comes_before_encryption() -> None:
    """Afterwards there would be nothing to save."""
    converter = data_converter(Settings(keys=A)).with_context(RUN)
    payload = await encoded(converter, "x" * 10_000)
    assert encoding(payload) == "binary/encrypted"
    assert payload.ByteSize() < 500


async def test_no_two_payloads_have_a_nonce_in_common() -> None:
    converter = data_converter(Settings(keys=A))
    sent = [(await encoded(converter, "y")).data for _ in range(200)]
    assert len({data[:12] for data in sent}) == 200
    assert len({data[12:] for data in sent}) == 200


async def test_an_altered_payload_is_none() -> None:
    """Each of its bytes counts, and so does the name of its key."""
    settings = Settings(keys=f"{A},{B}")
    converter = data_converter(settings)
    good = await encoded(converter, "the answer")
    assert await arrived(good, settings) == "the answer"
    altered = []
    for position in range(len(good.data)):
        bad = Payload()
        bad.CopyFrom(good)
        bad.data = bytes(byte ^ (index == position) for index, byte in enumerate(good.data))
        altered.append(bad)
    renamed = Payload()
    renamed.CopyFrom(good)
    renamed.metadata["encryption-key-id"] = b"b"
    shorter = Payload(metadata=good.metadata, data=good.data[:-1])
    for bad in [*altered, renamed, shorter]:
        value = await arrived(bad, settings)
        assert isinstance(value, Undecodable)
        assert "does not open with it" in value.reason
        with pytest.raises(PayloadError, match="does not open with it"):
            await converter.decode([bad])


async def test_the_name_of_the_key_is_authenticated() -> None:
    """The same key under another name is another key."""
    one, other = Settings(keys=A), Settings(keys=A.replace("a:", "other:"))
    payload = await encoded(data_converter(one), 1)
    payload.metadata["encryption-key-id"] = b"other"
    with pytest.raises(PayloadError, match="does not open with it"):
        await data_converter(other).decode([payload])


MISSHAPEN = [
    Payload(metadata={"encoding": b"binary/encrypted"}, data=b"x" * 100),
    Payload(metadata={"encoding": b"binary/encrypted", "encryption-key-id": b"a"}, data=b"x" * 27),
    Payload(metadata={"encoding": b"binary/encrypted", "encryption-key-id": b"a b"}, data=b"x" * 100),
    Payload(metadata={"encoding": b"binary/encrypted", "encryption-key-id": b"x" * 33}, data=b"x" * 100),
    Payload(metadata={"encoding": b"binary/encrypted", "encryption-key-id": b"\xff"}, data=b"x" * 100),
]
NOT_COMPRESSED = [
    b"",
    b"no zstd",
    zstandard.ZstdCompressor().compress(b"\xff no payload"),
    zstandard.ZstdCompressor().compress(b"x" * 1000)[:-3],
    zstandard.ZstdCompressor().compress(b"x" * 1000) + b"more",
    zstandard.ZstdCompressor(write_content_size=False).compress(b"x" * 1000),
]


@pytest.mark.parametrize("keys", ["", A], ids=["no key", "a key"])
async def test_junk_becomes_words_with_any_keys(keys: str) -> None:
    """All workers say the same of it, or a replay on another one would go another way."""
    junk = MISSHAPEN + [Payload(metadata={"encoding": b"binary/zstd"}, data=data) for data in NOT_COMPRESSED]
    for payload in junk:
        value = await arrived(payload, Settings(keys=keys))
        assert isinstance(value, Undecodable), payload
        assert value.reason.startswith("It says that it is "), value
        assert value.reason.endswith(".")
        with pytest.raises(PayloadError, match="It says that it is "):
            await worker_of(Settings(keys=keys)).with_context(TURN).decode([payload], [str])


async def test_what_is_encoded_twice_is_decoded_once() -> None:
    """Layers upon layers could expand without end."""
    converter = data_converter(Settings(compression=True))
    once = await encoded(converter, "x" * 5_000)
    twice = Payload(metadata=once.metadata, data=zstandard.ZstdCompressor().compress(once.SerializeToString()))
    value = await arrived(twice, Settings())
    assert isinstance(value, Undecodable)
    assert "'binary/zstd'" in value.reason


async def test_a_small_payload_cannot_become_a_huge_one() -> None:
    bomb = Payload(
        metadata={"encoding": b"binary/zstd"}, data=zstandard.ZstdCompressor().compress(b"x" * (LARGEST + 1))
    )
    assert bomb.ByteSize() < 50_000
    value = await arrived(bomb, Settings())
    assert isinstance(value, Undecodable)
    assert value.reason == "It is larger than what may be read at once."
    with pytest.raises(PayloadError, match="larger than what may be read"):
        await data_converter(Settings()).decode([bomb])


async def test_many_small_payloads_cannot_become_huge_together() -> None:
    """What is sent to a workflow in one task is counted together; the next task begins anew."""
    plain = Payload(metadata={"encoding": b"json/plain"}, data=b'"' + b"x" * (LARGEST_OF_WORKFLOW // 4) + b'"')
    data = zstandard.ZstdCompressor().compress(plain.SerializeToString())
    sent = [Payload(metadata={"encoding": b"binary/zstd"}, data=data)] * 50
    converter = worker_of(Settings())
    for _ in range(2):
        values = await converter.with_context(RUN).decode(sent)
        assert [isinstance(value, Undecodable) for value in values] == [False] * 3 + [True] * 47


async def test_nothing_is_sent_that_could_not_be_read_again() -> None:
    converter = data_converter(Settings()).with_context(RUN)
    with pytest.raises(PayloadError, match=f"{LARGEST_OF_WORKFLOW} may be read again"):
        await converter.encode(["x" * LARGEST_OF_WORKFLOW])


async def test_keys_are_changed_while_payloads_wait() -> None:
    """The first key encrypts, all of them decrypt, and a key that is not known is named."""
    old, both, new = (Settings(keys=keys) for keys in (A, f"{B},{A}", B))
    payload = await encoded(data_converter(old), "y")
    assert await arrived(payload, both) == "y"
    assert (await encoded(data_converter(both), "y")).metadata["encryption-key-id"] == b"b"
    for settings in (new, Settings()):
        with pytest.raises(UnknownKeyError, match="the key 'a', which is not known here"):
            await worker_of(settings).with_context(TURN).decode([payload])
        [sealed] = await worker_of(settings).with_context(RUN).decode([payload])
        assert (type(sealed), sealed.key, sealed.keyless) == (Undecodable, "a", settings.keys == "")


async def test_what_a_value_takes_in_a_message(tmp_path: Path) -> None:
    """After compression and encryption, and little where large ones are stored elsewhere; none is, to say it."""
    noise = os.urandom(1_000_000).hex()
    plain = await wire_size(data_converter(Settings(compression=False)), [noise])
    assert 2_000_000 < plain < 2_000_100
    assert 1_000_000 < await wire_size(data_converter(Settings(keys=A)), [noise]) < 1_200_000
    stored = data_converter(Settings(storage=Place(tmp_path / "storage")))
    assert await wire_size(stored, [noise, "y"]) < 300_000
    assert not (tmp_path / "storage").exists()
