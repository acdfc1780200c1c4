"""What a campaign counts: what was thrown, what came of it, and what must all be 0."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import ClassVar


@dataclass
class Counts:
    """What must all be 0, beside what happened.

    Attributes:
        killed: how many workers were killed, by how.
        thrown: how often each fault was thrown, by its kind and what it was.
        ended: how runs have ended.
        parked: how often a run was parked, by the words.
        answers: what the probes have said, as people would.
        killing: whether workers are being killed at the moment.
    """

    runs: int = 0
    killed: Counter[str] = field(default_factory=Counter)
    thrown: Counter[str] = field(default_factory=Counter)
    ended: Counter[str] = field(default_factory=Counter)
    parked: Counter[str] = field(default_factory=Counter)
    answers: Counter[str] = field(default_factory=Counter)
    replayed: int = 0
    auditions: int = 0
    models_repeated: int = 0
    tools_repeated: int = 0
    approvals_lost: int = 0
    once_only_doubled: int = 0
    not_approved: int = 0
    stuck: int = 0
    failed: int = 0
    deaf: int = 0
    workers_ended: int = 0
    forgeries_believed: int = 0
    not_replayable: int = 0
    notes: list[str] = field(default_factory=list)
    killing: bool = False

    MUST_BE_NONE: ClassVar = {
        "models_repeated": "model calls made again after their acknowledgement",
        "tools_repeated": "tools run again after their acknowledgement",
        "approvals_lost": "approved calls lost",
        "once_only_doubled": "once-only calls run twice without a person's word",
        "not_approved": "calls run without the approval they need",
        "stuck": "runs stuck",
        "failed": "runs failed that nobody had aborted",
        "deaf": "workers that live and take no work",
        "workers_ended": "workers that ended by themselves",
        "forgeries_believed": "forgeries believed",
        "not_replayable": "histories that do not replay",
    }

    @property
    def kills(self) -> int:
        """How many workers have died of it."""
        return sum(self.killed.values())

    @property
    def doubts(self) -> int:
        """How many calls were asked about as in doubt."""
        return sum(times for answer, times in self.answers.items() if answer.startswith("in-doubt:"))

    @property
    def violations(self) -> int:
        """How much of what must be 0 there is."""
        return sum(getattr(self, name) for name in self.MUST_BE_NONE)

    def table(self) -> str:
        """All counts, a line each."""
        lines = [f"{self.runs} runs, {self.kills} kills"]
        for title, counter in (
            ("killed", self.killed),
            ("thrown", self.thrown),
            ("runs ended", self.ended),
            ("parked, then told to retry", self.parked),
            ("what people said", self.answers),
        ):
            lines.append(f"{title}:")
            lines += [f"  {times:6d}  {what}" for what, times in sorted(counter.items())]
        lines.append(f"workers seen to work when they were alone: {self.auditions}")
        lines.append(f"histories replayed: {self.replayed}")
        lines.append(f"violations: {self.violations}")
        lines += [f"  {getattr(self, name):6d}  {words}" for name, words in self.MUST_BE_NONE.items()]
        return "\n".join(lines)

    def __str__(self) -> str:
        wrong = ", ".join(f"{words} {n}" for name, words in self.MUST_BE_NONE.items() if (n := getattr(self, name)))
        return (
            f"{self.runs} runs, {self.kills} kills, {self.doubts} calls in doubt; "
            f"violations: {self.violations}{f' ({wrong})' if wrong else ''}"
        )
