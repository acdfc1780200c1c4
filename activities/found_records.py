"""What a turn finds when it begins, checked: it may be a newer version's, and anyone may have put it there."""

from __future__ import annotations

import time
from collections import OrderedDict
from datetime import timedelta
from typing import Any

from temporalio import activity
from temporalio.exceptions import ApplicationError

from abeyance import formats
from abeyance.contracts import TurnFailure, TurnInput, Work
from abeyance.errors import AbeyanceError, NewerFormatError
from abeyance.formats import require_known
from abeyance.records import calls_flaw, record_flaw
from activities.failures import as_application_error

PATIENCE = 120.0
"""Seconds for which what a newer version has written is left to other workers before a person is asked for one."""
NEXT_TRY = timedelta(seconds=5)
MOST_REMEMBERED = 1_000


class UnreadableRecordError(AbeyanceError):
    """What a turn was given to go on from is not what a turn writes."""


def require_readable(turn: TurnInput, record: Any) -> None:
    """See to it that a turn and the record that it goes on from can be read.

    Raises:
        NewerFormatError: if a newer version has written either.
        UnreadableRecordError: if no turn has written the record.
    """
    require_known("This turn", turn)
    if record is not None:
        require_known("The record of what this turn has done", record)
    if flaw := (record is not None and record_flaw(record)) or calls_flaw(turn.calls):
        raise UnreadableRecordError(f"The record of what this turn has done cannot be read: {flaw}.")


def unreadable(error: AbeyanceError, record: Any, worker: str) -> ApplicationError:
    """The failure of a turn that `require_readable` has refused, with what another worker needs to go on."""
    info = activity.info()
    failure = tried_elsewhere(error) or as_application_error(error, info.attempt)
    if not failure.non_retryable:
        return failure
    details = TurnFailure(work=Work(info.attempt, worker), format=formats.FORMAT)
    if isinstance(error, NewerFormatError):
        details.record, details.untouched = record, record is None
    return ApplicationError(failure.message, details, type=failure.type, non_retryable=True)


class _Clocks:
    """Since when this worker has known that it cannot do an activity."""

    def __init__(self) -> None:
        self._since: OrderedDict[tuple[str, str], float] = OrderedDict()

    def age(self, key: tuple[str, str]) -> float:
        since = self._since.setdefault(key, time.monotonic())
        while len(self._since) > MOST_REMEMBERED:
            self._since.popitem(last=False)
        return time.monotonic() - since


_clocks = _Clocks()


def tried_elsewhere(error: BaseException) -> ApplicationError | None:
    """A failure that leaves the activity to other workers, if a newer one could do it; `None` if a person is needed."""
    if not isinstance(error, NewerFormatError):
        return None
    info = activity.info()
    if _clocks.age((info.workflow_run_id or "", info.activity_id)) > PATIENCE:
        return None
    return ApplicationError(str(error), type=type(error).__name__, next_retry_delay=NEXT_TRY)
