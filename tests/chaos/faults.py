"""What chaos throws beside killing workers, and which runs and crews it throws it at."""

from __future__ import annotations

import random
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

from tests.chaos.throwing import ENDINGS, EXITS, PLACES

OF_RUNS = {
    "exits": "tools, hooks, factories, models and callbacks raise what is no error of theirs",
    "endings": "the model's reply ends oddly",
    "poison": "a call ends its process whenever it is made",
    "below": "a sub-agent charges, asked about, and takes a fee, once only",
    "denials": "a person says no",
    "resets": "an operator resets the run, while it is open or when it has ended",
    "completions": "an operator completes, fails or cancels its activity by hand, with junk",
    "pauses": "an operator pauses its activity, and lets it go on",
    "cancels": "somebody cancels it",
    "terminates": "somebody terminates it",
    "junk": "somebody sends it signals that mean nothing",
    "forgeries": "other workflows call its activities in its name, and runs begin with a second argument",
}
OF_CREWS = {
    "points": "workers die at a point of the journal, not only at random moments",
    "stops": "workers are stopped with SIGTERM",
    "suspensions": "workers are suspended for some seconds and go on",
    "mixed": "one worker of the crew does not have the agents",
    "caching": "workers keep runs in their cache, so that a dead one holds tasks back",
}
FAULTS = OF_RUNS | OF_CREWS
ACTS = ["resets", "completions", "pauses", "cancels", "terminates", "junk", "forgeries"]
"""Those that are done to a run from outside, at a moment by lot."""


@dataclass(frozen=True)
class Plan:
    """What is thrown at one run.

    Attributes:
        faults: the names of its faults.
        agent: which agent runs.
        options: the run's options, which tell the agent what to throw.
        acts: what is done to it from outside: a fault, and after how many looks at the run.
        denies: whether a person says no to some of what it asks.
    """

    faults: tuple[str, ...] = ()
    agent: str = "chaos"
    options: dict[str, Any] = field(default_factory=dict)
    acts: tuple[tuple[str, int], ...] = ()
    denies: bool = False

    @property
    def ends_as_scripted(self) -> bool:
        """Whether it comes to the script's end, once it ends by itself."""
        return "endings" not in self.faults


PLAIN = Plan()
BUSY = {"longest": 0.15}
"""How many seconds a call takes at most: many deaths are to find one at work."""


def drawn(faults: Collection[str], lot: random.Random) -> Plan:
    """A plan for a run: three in four have a fault, some have two."""
    possible = [fault for fault in OF_RUNS if fault in faults]
    if not possible or lot.random() < 0.25:
        return Plan(options=BUSY)
    chosen = lot.sample(possible, min(len(possible), 1 if lot.random() < 0.7 else 2))
    if "below" in chosen:
        # Its agent throws nothing by itself.
        chosen = [fault for fault in chosen if fault not in ("exits", "endings", "poison")]
    calls: list[dict[str, Any]] = []
    options: dict[str, Any] = dict(BUSY)
    if "exits" in chosen:
        place, kind = lot.choice(PLACES), lot.choice(list(EXITS))
        if "tool" in (place, place.removeprefix("async ")):
            name = "trip" if place == "tool" else "atrip"
            calls.append({"at": lot.randrange(5), "name": name, "input": {"kind": kind}})
        else:
            options["throws"] = {place: kind}
    if "endings" in chosen:
        options |= {"ending": lot.choice(ENDINGS), "ending_at": lot.randrange(1, 4)}
    if "poison" in chosen:
        calls.append(
            {"at": lot.randrange(1, 5), "name": "die", "input": {"how": lot.choice(["kill", "abort", "exit"])}}
        )
    if "below" in chosen:
        calls.append({"at": lot.randrange(5), "name": "deputy", "input": {"input": "charge"}})
    return Plan(
        faults=tuple(chosen),
        agent="chaos-below" if "below" in chosen else "chaos",
        options=options | ({"calls": calls} if calls else {}),
        acts=tuple((fault, lot.randrange(1, 15)) for fault in chosen if fault in ACTS),
        denies="denials" in chosen,
    )
