"""The data converter: what payloads are on their way to Temporal and back, the same for all clients and workers.

A value becomes JSON, is compressed if it is large, encrypted if there are keys, and stored elsewhere if it is still
too large for Temporal. What was not encoded is read as it is, so that people can type signals.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from temporalio.converter import DataConverter, DefaultFailureConverter

from abeyance.converter.codec import Codec
from abeyance.converter.encryption import Keys
from abeyance.converter.failures import EncryptedFailureConverter
from abeyance.converter.storage import STORED_FROM, Storage, storage
from abeyance.converter.typed import PayloadConverter
from abeyance.settings import Settings


def data_converter(settings: Settings) -> DataConverter:
    """The data converter that the settings say.

    Raises:
        ConfigurationError: if the keys cannot be used.
    """
    keys = Keys.of(settings.keys, settings.keys_file)
    return DataConverter(
        payload_converter_class=PayloadConverter,
        payload_codec=Codec(keys, compression=settings.compression),
        failure_converter_class=EncryptedFailureConverter if keys else DefaultFailureConverter,
        external_storage=storage(settings.storage),
    )


async def wire_size(converter: DataConverter, values: Sequence[Any]) -> int:
    """How many bytes `values` take in a message to or from Temporal, which may have 2 MiB for each and 4 MiB in all.

    Nothing is stored to find that out: what is stored elsewhere counts as the largest payload that is not.

    Args:
        converter: what `data_converter` has made, with a context or without.
        values: what is to be sent, each as a payload of its own.
    """
    payloads = converter.payload_converter.to_payloads(values)
    if isinstance(converter.external_storage, Storage) and converter.external_storage.stores:
        return sum(min(payload.ByteSize(), STORED_FROM) for payload in payloads)
    if converter.payload_codec:
        payloads = await converter.payload_codec.encode(payloads)
    return sum(payload.ByteSize() for payload in payloads)
