"""What is sent to a run under a key that this worker lacks: no answer may be lost, and no junk should stop the run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from abeyance.answers import Undecodable
    from abeyance.errors import UnknownKeyError

MOST_MARKS = 100
"""How many refusals of an execution have a marker each: ten thousand would take a task longer than it has."""
REFUSED = (
    "It is encrypted, and the worker that read it had no keys. Set ABEYANCE_KEYS for all workers and send it again, or "
    "send it unencrypted."
)
FLOODED = f"It came among more than {MOST_MARKS} encrypted messages that no worker had a key for. Send it again."


class Sealed:
    """Decides for each message to a run whether it may be read.

    A worker that has keys, but not this one, waits for a worker that has it: the task fails, and is tried again. One
    without any keys refuses the message, and a marker in the history says so: a worker with the key would read it at a
    replay, and must come to the same.
    """

    def __init__(self) -> None:
        self._messages = self._marks = self._flooded = 0

    def refusal(self, via: str, args: Sequence[Any]) -> str | None:
        """Why a message is refused that a worker had no keys for; `None` if it is read.

        Args:
            via: how it came, e.g. "signal approve".
            args: what came.

        Raises:
            UnknownKeyError: if another worker may have the key, or has had it before. It fails the task.
        """
        sealed = next((item for item in args if type(item) is Undecodable and item.key), None)
        if via.startswith("update"):
            # A worker without the key refuses an update before it is in the history: another one has read this.
            if sealed:
                raise UnknownKeyError(_waits(via, sealed), sealed.key)
            return None
        self._messages += 1
        if self._flooded and self._flooded == _task():
            return FLOODED
        replaying = workflow.unsafe.is_replaying()
        if (replaying or (sealed and sealed.keyless)) and self._is_marked():
            return REFUSED
        if sealed:
            raise UnknownKeyError(_waits(via, sealed), sealed.key)
        return None

    def _is_marked(self) -> bool:
        """Whether this message is refused, as the history says it; outside of a replay, it is made to say so."""
        if not workflow.patched(f"refused-for-want-of-keys-{self._messages}"):
            return False
        self._marks += 1
        if self._marks > MOST_MARKS:
            self._flooded = _task()
        return True


def _task() -> int:
    """A number of the workflow task at work, the same in a replay."""
    return workflow.info().get_current_history_length()


def _waits(via: str, sealed: Undecodable) -> str:
    return (
        f"The {via!r} is encrypted with the key {sealed.key!r}, which is not known here. Add it to ABEYANCE_KEYS or "
        "ABEYANCE_KEYS_FILE, behind the key that is to encrypt. Until a worker has it, the run stands still, and "
        f"nothing that was sent is lost. If there is no such key, the signal is forged: add a new key named "
        f"{sealed.key!r} there, and it is refused."
    )
