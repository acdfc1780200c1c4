"""The data converter of a worker, which reads whatever is sent to its runs."""

from __future__ import annotations

import asyncio
import copy
from dataclasses import dataclass
from typing import Any

from temporalio.api.common.v1 import Payload
from temporalio.client import Client
from temporalio.converter import (
    DataConverter,
    PayloadConverter,
    SerializationContext,
    StorageDriverStoreContext,
    WorkflowSerializationContext,
)
from temporalio.worker import (
    ExecuteWorkflowInput,
    Interceptor,
    WorkflowInboundInterceptor,
    WorkflowInterceptorClassInput,
)

from abeyance.answers import Undecodable
from abeyance.converter.codec import LARGEST_OF_WORKFLOW, Codec, is_coded
from abeyance.converter.compression import Room
from abeyance.converter.encryption import ENCRYPTED
from abeyance.converter.senders import Senders
from abeyance.converter.storage import STORED_FROM, is_reference
from abeyance.errors import PayloadError, StorageError, UnknownKeyError, UnreadablePayloadError
from abeyance.payloads import WorkerPayloadConverter, explained

PATIENCE = 5.0
"""Seconds that the storage may take within a workflow task, which has ten and is to fail with words."""
ELSEWHERE = "It says that it is stored elsewhere"


def reading_anything(client: Client) -> Client:
    """The same client, for a worker that is to read whatever is sent to its runs."""
    given = client.data_converter
    converter = WorkerDataConverter(
        payload_codec=given.payload_codec,
        failure_converter_class=given.failure_converter_class,
        external_storage=given.external_storage,
    )
    return Client(**client.config() | {"data_converter": converter})


@dataclass(frozen=True)
class WorkerDataConverter(DataConverter):
    """Temporal's data converter, which does not fail at what claims to be encoded or to be stored elsewhere.

    What comes to a workflow may be sent by anybody. There, what cannot be read arrives as words, and where it is for
    want of a key alone, `workflows.sealed` says what becomes of it. What comes from activities is read so only if it is
    junk whoever reads it; else it raises, so that the task is tried again until a worker that can read it gets it.

    Most methods are not public in `temporalio`; `tests/test_payloads.py` and `tests/test_typed.py` go red when they are
    no longer called. They are called for each of the thousands of signals that a task may bring, and giving back the
    very same list is quick.

    `room` is what may still be expanded in a workflow task and `fetching` what may be fetched, `None` outside of them.
    """

    payload_converter_class: type[PayloadConverter] = WorkerPayloadConverter
    room: Room | None = None
    fetching: Room | None = None

    def with_context(self, context: SerializationContext) -> WorkerDataConverter:
        """The converter for what goes to and comes from a workflow, or an activity."""
        for_workflow = isinstance(context, WorkflowSerializationContext)
        codec = self.payload_codec.with_context(context) if isinstance(self.payload_codec, Codec) else None
        room, fetching = (Room(LARGEST_OF_WORKFLOW), Room(LARGEST_OF_WORKFLOW)) if for_workflow else (None, None)
        return self._but(payload_codec=codec, room=room, fetching=fetching)

    def _with_store_context(self, store_ctx: StorageDriverStoreContext) -> WorkerDataConverter:
        if self.external_storage is None:
            return self
        return self._but(external_storage=self.external_storage._with_store_context(store_ctx))

    def _but(self, **fields: Any) -> WorkerDataConverter:
        # Not `replace`, which makes a new payload converter: this is done dozens of times per run.
        made = copy.copy(self)
        for name, value in fields.items():
            object.__setattr__(made, name, value)
        return made

    async def _decode_reference_payload_sequence(self, payloads: Any) -> Any:
        return payloads

    async def _external_retrieve_payload_sequence(self, payloads: Any) -> Any:
        if not any(map(is_reference, payloads)):
            return payloads
        return [await self._retrieved(payload) if is_reference(payload) else payload for payload in payloads]

    async def _decode_payload_sequence(self, payloads: Any) -> Any:
        if not any(map(is_coded, payloads)):
            return payloads
        return [self._decoded(payload) if is_coded(payload) else payload for payload in payloads]

    async def _retrieved(self, payload: Payload) -> Payload:
        if self.external_storage is None:
            return explained(f"{ELSEWHERE}, and no other storage is known here.")
        if self.fetching is None:
            return await self.external_storage._retrieve_payload(payload)
        try:
            # Nothing smaller is ever stored, and looking for what is not there takes its time, too.
            self.fetching.take(STORED_FROM)
            found = await asyncio.wait_for(self.external_storage._retrieve_payload(payload), PATIENCE)
            self.fetching.take(max(0, found.ByteSize() - STORED_FROM))
        except UnreadablePayloadError as error:
            return explained(str(error))
        except (StorageError, TimeoutError) as error:
            said = f"{ELSEWHERE}, and it cannot be had now: {str(error) or 'no answer came in time.'}"
            self.fetching.close(said)
            return explained(said, passing=True)
        except Exception:  # noqa: BLE001 - whatever a forged reference makes a decoder raise
            return explained(f"{ELSEWHERE}, and does not say where.")
        return found

    def _decoded(self, payload: Payload) -> Payload:
        if not isinstance(self.payload_codec, Codec):
            return payload
        try:
            return self.payload_codec.decoded(payload, self.room or Room())
        except UnreadablePayloadError as error:
            if self.room is None and payload.metadata.get("encoding") == ENCRYPTED:
                # Another worker may have another key of that name.
                raise PayloadError(f"A payload cannot be read. {error}") from error
            return explained(str(error))
        except UnknownKeyError as error:
            if self.room is None:
                raise
            # Only the workflow knows what it came with, and whether its history went on without it.
            return explained(str(error), passing=True, key=error.key, keyless=self.payload_codec.keyless)


class InputInterceptor(Interceptor):
    """Has a run wait for its own input if that cannot be had now, where a signal's payload is refused.

    Without it the run would fail for good.
    """

    def workflow_interceptor_class(
        self,
        input: WorkflowInterceptorClassInput,  # noqa: A002 - as the SDK names it
    ) -> type[WorkflowInboundInterceptor]:
        """The interceptor of each run."""
        return _Input


class _Input(Senders):
    async def execute_workflow(self, input: ExecuteWorkflowInput) -> Any:  # noqa: A002 - as the SDK names it
        for given in input.args:
            if type(given) is Undecodable and given.passing:
                # Not a failure of Temporal's: it fails the task, which is tried again, and not the run.
                raise StorageError(f"The run's input cannot be read. {given.reason}")
        return await super().execute_workflow(input)
