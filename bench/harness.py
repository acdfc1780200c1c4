"""What all measurements share: taking turns, medians and ratios, tables, and goals that are met or missed."""

from __future__ import annotations

import math
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, Literal, TypeVar

T = TypeVar("T")

Spread = dict[str, float]
"""The `median`, the least (`min`) and the greatest (`max`) of some values."""


@dataclass(frozen=True)
class Bench:
    """One run of the benchmark.

    Attributes:
        quick: whether this is a smoke run, with so little work that its numbers mean nothing.
        alone: whether the competitor is left out, which has an environment of its own.
        directory: where measurements may put files; it is empty at first and gone afterwards.
        say: called with what is going on, for people who wait.
    """

    quick: bool
    alone: bool
    directory: Path
    say: Callable[[str], None] = lambda what: None


@dataclass(frozen=True)
class Table:
    """A table for people; `columns` after the first `left` are numbers."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    left: int = 1


@dataclass(frozen=True)
class Goal:
    """What a measurement is to come to.

    Attributes:
        what: the number, in words.
        value: what it is, `None` if it was not measured, as without the competitor.
        limit: what it is to be at most, or at least.
        kind: which of these two.
    """

    what: str
    value: float | None
    limit: float
    kind: Literal["at most", "at least"] = "at most"

    @property
    def met(self) -> bool | None:
        """Whether it is met; `None` if it was not measured."""
        if self.value is None:
            return None
        return self.value <= self.limit if self.kind == "at most" else self.value >= self.limit

    @property
    def verdict(self) -> str:
        """Met, or missed by how many times."""
        if self.value is None:
            return "not measured"
        if self.met:
            return "met"
        ratio = self.value / self.limit if self.kind == "at most" else self.limit / (self.value or math.nan)
        return f"missed by {ratio:.2f}x"

    def to_json(self) -> dict[str, Any]:
        """As the result file has it."""
        return {
            "what": self.what,
            "value": None if self.value is None else rounded(self.value),
            self.kind.replace(" ", "_"): self.limit,
            "verdict": self.verdict,
        }


@dataclass(frozen=True)
class Found:
    """What a measurement has found: `data` as JSON, and the same for people."""

    data: dict[str, Any]
    tables: Sequence[Table] = ()
    goals: Sequence[Goal] = field(default=())


async def in_turns(
    ways: Mapping[str, Callable[[], Awaitable[T]]], repetitions: int, say: Callable[[str], None]
) -> dict[str, list[T]]:
    """Go every way once per repetition, one right after the other, each time beginning with another one.

    So whatever else the machine does falls on all of them, and ratios can be taken within each repetition.

    Returns:
        For each way what it gave, in the order of the repetitions.
    """
    names, found = list(ways), {name: list[T]() for name in ways}
    for repetition in range(repetitions):
        first = repetition % len(names)
        for name in names[first:] + names[:first]:
            say(f"repetition {repetition + 1} of {repetitions}, {name}")
            found[name].append(await ways[name]())
    return {name: found[name] for name in names}


def spread(values: Sequence[float]) -> Spread:
    """The median of `values`, the least and the greatest."""
    return {"median": rounded(median(values)), "min": rounded(min(values)), "max": rounded(max(values))}


def ratios(of: Sequence[float], to: Sequence[float]) -> Spread:
    """How many times `to` each value `of` the same repetition is."""
    return spread([a / b for a, b in zip(of, to, strict=True)])


def percentile(values: Sequence[float], percent: float) -> float:
    """The least of `values` that so many percent of them do not exceed."""
    return sorted(values)[max(0, math.ceil(len(values) * percent / 100) - 1)]


def rounded(value: float) -> float:
    """`value` with the digits that mean something."""
    return float(f"{value:.5g}")


def told(values: Spread | None, unit: str = "", digits: int = 2) -> str:
    """A spread for people: the median, and the least and the greatest in brackets."""
    if values is None:
        return "-"
    return f"{values['median']:,.{digits}f}{unit} ({values['min']:,.{digits}f}-{values['max']:,.{digits}f})"


def median_of(values: Spread | None) -> float | None:
    """The median of a spread that there may not be."""
    return None if values is None else values["median"]


def python_of(environment: Path | None = None) -> str:
    """The interpreter of a virtual environment; by default the one that runs this."""
    return str(environment / "bin" / "python") if environment else sys.executable
