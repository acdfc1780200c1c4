"""Failures with their messages and stack traces encrypted."""

from __future__ import annotations

from temporalio.api.failure.v1 import Failure
from temporalio.converter import DefaultFailureConverter, DefaultFailureConverterWithEncodedAttributes, PayloadConverter

from abeyance.errors import PayloadError


class EncryptedFailureConverter(DefaultFailureConverterWithEncodedAttributes):
    """Encrypts what a failure says, but for what is said of payloads that cannot be read.

    Those words are for somebody who lacks the key, and hold nothing of a payload.
    """

    def to_failure(self, exception: BaseException, payload_converter: PayloadConverter, failure: Failure) -> None:
        """Convert `exception` as Temporal does, its words and its stack trace as a payload of their own."""
        cause = exception.__cause__  # of the SDK's "Failed decoding arguments"
        told = cause if isinstance(cause, PayloadError) else exception
        if isinstance(told, PayloadError):
            DefaultFailureConverter().to_failure(told, payload_converter, failure)
            failure.stack_trace = ""
        else:
            super().to_failure(exception, payload_converter, failure)
