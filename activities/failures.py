"""Which failures of a turn Temporal should retry, and which a person has to mend.

Retried: what passes by itself, that is throttling, a provider that is overloaded or restarting, and broken or
slow connections. Everything else fails the same way again, so it goes to a person at once. The list of Bedrock's
error codes follows https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_ConverseStream.html.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from strands.interrupt import InterruptException
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError, RPCStatusCode

from abeyance.contracts import IDLE
from abeyance.errors import AbeyanceError
from activities.exits import AgentExitError

AGENT_ERROR = "AgentError"
"""The type of failures that come from the agent's own code, its hooks and its factory."""


class HookFailedError(Exception):
    """The agent's hooks failed on certain calls; the cause says how.

    Attributes:
        calls: the tool-use ids of these calls.
    """

    def __init__(self, calls: list[str]):
        super().__init__(f"the hooks of {', '.join(calls)} failed")
        self.calls = calls


class WorkerStopsError(Exception):
    """The worker stops, and the turn goes on elsewhere: its grace is over, or nothing has been done yet."""


class IdleTurnError(AbeyanceError):
    """A turn ended as a checkpoint and has done nothing."""

    def __init__(self) -> None:
        super().__init__(IDLE)


_PASSING_CODES = {
    "internalserver",
    "modelerror",
    "modelnotready",
    "modelstreamerror",
    "modeltimeout",
    "requesttimeout",
    "serviceunavailable",
    "slowdown",
    "throttling",
    "toomanyrequests",
}
_PASSING_STATUS = {408, 409, 429, 500, 502, 503, 504, 529}
_THROTTLED_CODES = {"throttling", "toomanyrequests", "slowdown"}
_PASSING_NAMES = {
    # httpx, aiohttp, urllib3 and the providers' clients, none of which need be installed.
    "APIConnectionError",
    "APITimeoutError",
    "ClientConnectionError",
    "ClientPayloadError",
    "ConnectError",
    "IncompleteRead",
    "NetworkError",
    "ProtocolError",
    "RemoteProtocolError",
    "ServerDisconnectedError",
    "TimeoutException",
}
_HINTS = {
    "accessdenied": "Grant the worker's credentials access to the model.",
    "expiredtoken": "Renew the worker's credentials.",
    "unrecognizedclient": "Check the worker's credentials and region.",
    "resourcenotfound": "Check the model id and the region.",
    "validation": "Check the model id, and that the model accepts this conversation and its tools.",
    "ContextWindowOverflowException": "Give the agent a conversation manager that makes room, or a larger model.",
    "MaxTokensReachedException": "Raise the model's max_tokens, or ask for less.",
    "SnapshotException": "The stored conversation does not fit this version of Strands or of the agent.",
    "NoCredentialsError": "Give the worker credentials, in the environment or by a role.",
}


def as_application_error(error: BaseException, attempt: int) -> ApplicationError:
    """Translate what a turn raised into the failure that Temporal sees.

    Args:
        error: whatever the turn raised; wrappers of Strands and causes are looked through.
        attempt: which attempt at the turn this was, from 1.

    Returns:
        An `ApplicationError` that is retryable or not, with the error's type (an AWS error code where there is
        one) as its type, a delay for throttled calls, and a hint where there is one to give.
    """
    chain = list(chain_of(error))
    for link in chain:
        name, code = type(link).__name__, _code(link)
        if name == "ModelThrottledException" or code in _THROTTLED_CODES or _status(link) == 429:
            delay = timedelta(seconds=min(60.0, 2.0 ** min(attempt, 10)))
            return ApplicationError(text_of(link), type="Throttled", next_retry_delay=delay)
        if code in _PASSING_CODES or _status(link) in _PASSING_STATUS or _passes(link):
            return ApplicationError(text_of(link), type=_raw_code(link) or name)
    root = chain[-1]
    for link in chain:
        if hint := _HINTS.get(_code(link) or type(link).__name__):
            kind = _raw_code(link) or type(link).__name__
            return ApplicationError(f"{text_of(link).rstrip('.')}. {hint}", type=kind, non_retryable=True)
    if _raw_code(root) or type(root).__module__.startswith(("strands.types.exceptions", "botocore")):
        return ApplicationError(text_of(root), type=_raw_code(root) or type(root).__name__, non_retryable=True)
    if isinstance(root, AbeyanceError):
        return ApplicationError(text_of(root), type=type(root).__name__, non_retryable=True)
    if isinstance(root, AgentExitError):
        return ApplicationError(text_of(root), type=AGENT_ERROR, non_retryable=True)
    hint = ". Give each question about a call a name of its own." if "name used more than once" in text_of(root) else ""
    return ApplicationError(f"{type(root).__name__}: {text_of(root)}{hint}", type=AGENT_ERROR, non_retryable=True)


def chain_of(error: BaseException) -> Iterator[BaseException]:
    """The error, then what it wraps, outermost first."""
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        yield link
        if isinstance(link, (AbeyanceError, AgentExitError)):
            return
        cause = getattr(link, "original_exception", None) or link.__cause__
        # Strands raises errors about an interrupt from the interrupt, which is no error.
        link = None if isinstance(cause, InterruptException) else cause


def _raw_code(error: BaseException) -> str | None:
    response = getattr(error, "response", None)
    code = response.get("Error", {}).get("Code") if isinstance(response, dict) else None
    return code if isinstance(code, str) else None


def _code(error: BaseException) -> str | None:
    """An AWS error code as one spelling: ConverseStream and its event stream spell the same code in two ways."""
    code = _raw_code(error)
    return code.lower().removesuffix("exception") if code else None


def _status(error: BaseException) -> int | None:
    status = getattr(error, "status_code", None)
    response = getattr(error, "response", None)
    if status is None and isinstance(response, dict):
        status = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    return status if isinstance(status, int) else None


def _passes(error: BaseException) -> bool:
    if isinstance(error, (ConnectionError, TimeoutError)):
        return True
    if isinstance(error, RPCError):
        # Temporal itself, while the turn's conversation is read.
        return error.status not in (RPCStatusCode.NOT_FOUND, RPCStatusCode.PERMISSION_DENIED)
    if any(base.__name__ in _PASSING_NAMES for base in type(error).__mro__):
        return True
    from botocore import exceptions as aws
    from botocore.eventstream import ParserError

    return isinstance(error, (aws.ConnectionError, aws.HTTPClientError, aws.ResponseStreamingError, ParserError))


def encodable(text: str) -> str:
    """`text` without half characters, as names of files that cannot be decoded have them: nothing can send those."""
    return text.encode("utf-8", "replace").decode()


def text_of(error: BaseException) -> str:
    """What an error says, or its type's name where it says nothing, or cannot."""
    try:
        return encodable(str(error) or type(error).__name__)
    except BaseException:  # noqa: BLE001 - the agent's own class
        return type(error).__name__
