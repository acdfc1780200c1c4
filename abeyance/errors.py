"""The errors that people see, each with what to do about it.

AbeyanceError
├── ConfigurationError   a setting, a registration or a factory is wrong
│   ├── UnknownAgentError
│   └── UnknownToolError
├── NewerFormatError     a newer version of Abeyance has written it
├── PayloadError         a payload cannot be read or written here
│   ├── UnreadablePayloadError   it is junk, whoever reads it
│   ├── UnknownKeyError          it is encrypted with a key that is not known here
│   └── StorageError             what is stored elsewhere cannot be had, or not be put there
├── RequestError         a run was asked for in a way that cannot be started
├── NotFoundError        there is no such run or approval
├── NoWorkerError        the run stands, but no worker answers for it
├── RefusedError         the run stands, what was asked of it does not
│   └── SessionConflictError
├── SessionDamagedError  what a session remembers cannot be read
└── RunFailedError       the run ended without a result
"""

from __future__ import annotations


class AbeyanceError(Exception):
    """Anything that a person has to mend. The message says what was wrong and how to mend it."""

    exit_code = 1


class ConfigurationError(AbeyanceError):
    """A setting, an agent's registration or its factory is wrong."""


class UnknownAgentError(ConfigurationError):
    """No agent is registered under the name that a run asked for."""


class UnknownToolError(ConfigurationError):
    """The tool of a call that people have answered about is gone. Nothing has run, and the answers are still there."""


class NewerFormatError(AbeyanceError):
    """A newer version of Abeyance has written what this one is to go on from. A worker of that version can."""


class PayloadError(AbeyanceError):
    """A payload cannot be read or written here. No message of its kind holds anything of what the payload says."""


class UnreadablePayloadError(PayloadError):
    """A payload is not what it says it is: junk, whoever reads it. The message is a sentence about "it"."""


class UnknownKeyError(PayloadError):
    """A payload is encrypted with a key that is not known here, and may be elsewhere.

    Attributes:
        key: the key's name.
    """

    def __init__(self, message: str, key: str = ""):
        super().__init__(message)
        self.key = key


class StorageError(PayloadError):
    """What is kept outside of Temporal cannot be had at the moment, or not be put there."""


class RequestError(AbeyanceError, ValueError):
    """A run was asked for in a way that cannot be started."""

    exit_code = 2


class NotFoundError(AbeyanceError):
    """There is no such run, or it holds no such approval."""

    exit_code = 3


class NoWorkerError(AbeyanceError):
    """It takes a worker to answer, and none does. The run is unharmed."""


class RefusedError(AbeyanceError):
    """What was asked of a run was refused; nothing has changed."""

    exit_code = 4


class SessionConflictError(RefusedError):
    """A session was not saved: it has been written since it was read. What stands there is unharmed.

    Attributes:
        written_by: the mark of what stands there now; `None` if it has none, or if nothing stands there.
        written_at: when that was written, ISO 8601 in UTC; `None` if nothing stands there.
    """

    def __init__(self, message: str, written_by: str | None = None, written_at: str | None = None):
        super().__init__(message)
        self.written_by = written_by
        self.written_at = written_at


class SessionDamagedError(AbeyanceError):
    """What the store holds of a session is no snapshot that can be read. It is never taken for empty."""


class RunFailedError(AbeyanceError):
    """The run ended without a result: it failed, was aborted, cancelled or terminated."""

    exit_code = 5
