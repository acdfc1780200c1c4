"""What payloads go through on their way to Temporal and back: compression, then encryption."""

from __future__ import annotations

from collections.abc import Sequence

from temporalio.api.common.v1 import Payload
from temporalio.converter import (
    PayloadCodec,
    SerializationContext,
    WithSerializationContext,
    WorkflowSerializationContext,
)

from abeyance.converter.compression import COMPRESSED, LARGEST, Room, compressed, expanded
from abeyance.converter.encryption import ENCRYPTED, Keys
from abeyance.errors import PayloadError, UnreadablePayloadError

FOR_WORKERS = 1_024
"""Bytes from which a payload of an activity is compressed: only workers read it."""
FOR_PEOPLE = 500 * 1_024
"""Bytes from which anything else is, just before the server begins to warn: below, it stays readable in the Temporal UI
and for the `temporal` CLI."""
HIDDEN = 256
"""Bytes from which anything is that is encrypted, and so is not readable anyway."""
LARGEST_OF_WORKFLOW = 32_000_000
"""Bytes that a workflow may be given or give at once beside what goes to and comes from its activities.

What anybody may send, and what is compressed a thousandfold, is read in a workflow task of ten seconds.
"""


def is_coded(payload: Payload) -> bool:
    """Whether it says that `Codec` has made it."""
    return payload.metadata.get("encoding") in (COMPRESSED, ENCRYPTED)


class Codec(PayloadCodec, WithSerializationContext):
    """Compresses and encrypts.

    Without a context it is for activities: `AsyncActivityHandle` has none, everything for people has one.

    Args:
        keys: what it encrypts with.
        compression: whether it compresses; it expands in any case.
    """

    def __init__(self, keys: Keys, *, compression: bool):
        self._keys, self._compression = keys, compression
        self._from, self._largest = HIDDEN if keys else FOR_WORKERS, LARGEST

    def with_context(self, context: SerializationContext) -> Codec:
        """The codec for what goes to and comes from a workflow, or an activity."""
        made = Codec(self._keys, compression=self._compression)
        if isinstance(context, WorkflowSerializationContext):
            made._from, made._largest = HIDDEN if self._keys else FOR_PEOPLE, LARGEST_OF_WORKFLOW
        return made

    @property
    def keyless(self) -> bool:
        """Whether it has no keys, so that nothing that is encrypted can be read."""
        return not self._keys

    async def encode(self, payloads: Sequence[Payload]) -> list[Payload]:
        """Compress what is large, and encrypt everything if there are keys.

        Raises:
            PayloadError: if one is larger than what may be read again.
        """
        return [self._encoded(payload) for payload in payloads]

    async def decode(self, payloads: Sequence[Payload]) -> list[Payload]:
        """Undo `encode`. What it has not made is given back as it is.

        Raises:
            PayloadError: if one cannot be decoded here.
        """
        try:
            return [self.decoded(payload, Room()) for payload in payloads]
        except UnreadablePayloadError as error:
            raise PayloadError(f"A payload cannot be read. {error}") from error

    def decoded(self, payload: Payload, room: Room) -> Payload:
        """Undo `encode` for one payload.

        Raises:
            UnreadablePayloadError: if it is not what it says it is, or expands to more than `room` has.
            UnknownKeyError: if it is encrypted with a key that is not known here.
        """
        if payload.metadata.get("encoding") == ENCRYPTED:
            payload = self._keys.decrypted(payload)
        if payload.metadata.get("encoding") == COMPRESSED:
            payload = expanded(payload, room)
        return payload

    def _encoded(self, payload: Payload) -> Payload:
        size = payload.ByteSize()
        if size > self._largest:
            raise PayloadError(f"A payload of {size} bytes cannot be sent: {self._largest} may be read again.")
        if self._compression and size >= self._from:
            payload = compressed(payload)
        return self._keys.encrypted(payload) if self._keys else payload
