"""Compression of payloads with zstd: the whole payload, its metadata too, becomes the data of another one."""

from __future__ import annotations

import zstandard
from google.protobuf.message import DecodeError
from temporalio.api.common.v1 import Payload

from abeyance.errors import UnreadablePayloadError

COMPRESSED = b"binary/zstd"
LARGEST = 256_000_000
"""Bytes that a payload may have when it is read."""
WORTH = 0.9
"""What compression must bring a payload down to, at least."""


class Room:
    """How many bytes may still be read in one go, so that small payloads cannot fill the memory together."""

    def __init__(self, left: int = LARGEST):
        self._left, self._full = left, "It is larger than what may be read at once."

    def take(self, size: int) -> None:
        """Use `size` bytes of it.

        Raises:
            UnreadablePayloadError: if there are fewer. Nothing is left then, whatever else is asked for.
        """
        if size > self._left:
            self._left = -1
            raise UnreadablePayloadError(self._full)
        self._left -= size

    @property
    def is_full(self) -> bool:
        """Whether more was asked for than there was."""
        return self._left < 0

    def close(self, words: str) -> None:
        """Leave nothing, and have `words` said to whatever else is asked for."""
        self._left, self._full = -1, words


def compressed(payload: Payload) -> Payload:
    """The payload compressed, or itself if that saves too little."""
    data = payload.SerializeToString()
    smaller = zstandard.ZstdCompressor().compress(data)
    if len(smaller) > WORTH * len(data):
        return payload
    return Payload(metadata={"encoding": COMPRESSED}, data=smaller)


def expanded(payload: Payload, room: Room) -> Payload:
    """Undo `compressed`.

    Raises:
        UnreadablePayloadError: if it is not what `compressed` makes, or does not fit into `room`.
    """
    try:
        size = zstandard.frame_content_size(payload.data)
        if size < 0:
            raise UnreadablePayloadError("It says that it is compressed, and does not say how large it is.")
        room.take(size)
        data = zstandard.ZstdDecompressor().decompress(payload.data, allow_extra_data=False)
        return Payload.FromString(data)
    except (zstandard.ZstdError, DecodeError, MemoryError) as error:
        raise UnreadablePayloadError("It says that it is compressed, and it cannot be expanded.") from error
