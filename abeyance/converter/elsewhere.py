"""What stands in for a storage that is not configured here."""

from __future__ import annotations

from collections.abc import Sequence

from temporalio.api.common.v1 import Payload
from temporalio.converter import (
    StorageDriver,
    StorageDriverClaim,
    StorageDriverRetrieveContext,
    StorageDriverStoreContext,
)

from abeyance.errors import StorageError
from abeyance.places import Place


class Elsewhere(StorageDriver):
    """Says which setting is missing.

    Args:
        name: the name in references.
        kind: what kind of place they mean, as people call it.
        place: what is configured instead.
    """

    def __init__(self, name: str, kind: str, place: Place | None):
        self._name, self._kind, self._place = name, kind, place

    def name(self) -> str:
        """The name in references."""
        return self._name

    async def store(self, context: StorageDriverStoreContext, payloads: Sequence[Payload]) -> list[StorageDriverClaim]:
        """Nothing is stored here, since nothing selects it."""
        raise self._error()

    async def retrieve(
        self, context: StorageDriverRetrieveContext, claims: Sequence[StorageDriverClaim]
    ) -> list[Payload]:
        """Say what is missing.

        Raises:
            StorageError: always.
        """
        raise self._error()

    def _error(self) -> StorageError:
        here = f"ABEYANCE_STORAGE is {self._place} here" if self._place else "ABEYANCE_STORAGE is not set here"
        return StorageError(
            f"A payload is stored in {self._kind}, and {here}. Set it to the place that all workers and clients share."
        )
