"""Calls that may have run in an execution of the turn that left no record of what it did.

Someone has failed or completed the turn's activity by hand, say. Given again, the turn asks a person before each call
that may run only once; the calls themselves are those of `activities.journal`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from activities.journal import Call

LEFT_NO_RECORD = (
    "An earlier execution of this turn has left no record of what it did. This call, or another one for the same "
    "purpose, may have taken effect in it."
)


def may_have_run(before: Call | None, call: Call) -> Call:
    """A call as one that may be running, if an unrecorded execution may have started it; else as it is.

    Args:
        before: what the journal holds of it, `None` if nothing.
        call: the call as it would start now.
    """
    if before is None:
        return replace(call, worker="", starts=0, running=True)
    if before.unrecorded and before.result is None:
        # A `retry` that was given for an earlier crash does not cover this.
        return replace(before, running=True, doubts=before.doubts + 1, unrecorded=False)
    return before


def left_no_record(call: Call, about: dict[str, Any]) -> dict[str, Any]:
    """What a person is asked about such a call, in place of `about`, which is asked after a worker's death."""
    if not call.starts:
        about = {name: value for name, value in about.items() if name not in ("started_at", "worker", "starts")}
    return about | {"message": LEFT_NO_RECORD}
