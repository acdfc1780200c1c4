"""Plots of what was found: cost against tool calls, messages and waiting runs. PNG beside the results, SVG under docs/.

`python -m bench.plots` draws them anew from the result files that are there.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.contestants import ABEYANCE, BARE, COMPETITOR, FLOOR
from bench.latency import SERVERS
from tests.support import ROOT

RESULTS = ROOT / "bench" / "results"
DOCS = ROOT / "docs"
COLOURS = {ABEYANCE: "#1f6f8b", COMPETITOR: "#c8553d", FLOOR: "#8a8a8a", BARE: "#bfa14a"}

Draw = Callable[[Any, dict[str, Any]], None]
"""Draws what a result file holds into the axes of a figure."""


def draw(results: Path, docs: Path) -> list[Path]:
    """Draw every plot whose result file is there.

    Args:
        results: the directory of the result files; a PNG of each plot is written beside them.
        docs: the directory that an SVG of each plot is written to.

    Returns:
        The files that were written.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    # The same numbers give the same file.
    mpl.rcParams.update({"svg.hashsalt": "abeyance", "font.size": 9, "axes.spines.top": False})
    mpl.rcParams.update({"axes.spines.right": False, "axes.grid": True, "grid.alpha": 0.3})
    from matplotlib import pyplot

    written = []
    for name, paint in PLOTS.items():
        source = results / f"{name}.json"
        if not source.exists():
            continue
        figure, axes = pyplot.subplots(1, 2, figsize=(9, 3.4))
        paint(axes, json.loads(source.read_text()))
        figure.tight_layout()
        for target, more in (
            (results / f"{name}.png", {"dpi": 130}),
            (docs / f"bench-{name}.svg", {"metadata": {"Date": None}}),
        ):
            figure.savefig(target, **more)
            written.append(target)
        pyplot.close(figure)
    return written


def _latency(axes: Any, found: dict[str, Any]) -> None:
    rows = [row for row in found["runs"] if row["model_seconds"] == 0 and row["server"] == SERVERS[True]]
    for name in (BARE, FLOOR, ABEYANCE, COMPETITOR):
        there = [row for row in rows if name in row["ms"]]
        _line(axes[0], [row["calls"] for row in there], [row["ms"][name] for row in there], name, COLOURS[name])
        # Bare Strands is so much quicker that nothing else would be seen beside it.
        ratios = [row for row in there if name in row["ratios"] and name != BARE]
        if ratios:
            spreads = [row["ratios"][name] for row in ratios]
            _line(axes[1], [row["calls"] for row in ratios], spreads, f"to {name}", COLOURS[name])
    _label(axes[0], "A run with one approval, server unhurried", "tool calls", "ms")
    _label(axes[1], "Abeyance's time to the others'", "tool calls", "ratio")
    axes[1].axhline(1, color="black", linewidth=0.8)


def _history(axes: Any, found: dict[str, Any]) -> None:
    for axis, of in zip(axes, ("events", "bytes"), strict=True):
        for name in (FLOOR, ABEYANCE, COMPETITOR):
            rows = [row for row in found["runs"] if name in row[of]]
            if rows:
                calls, sizes = [row["calls"] for row in rows], [row[of][name] for row in rows]
                axis.plot(calls, sizes, marker="o", label=name, color=COLOURS[name])
        _label(axis, "History of a run with one approval", "tool calls", of)


def _growth(axes: Any, found: dict[str, Any]) -> None:
    messages = [row["messages"] for row in found["rows"]]
    for axis, of, unit in ((axes[0], "ms", "ms"), (axes[1], "bytes", "bytes of history")):
        _line(axis, messages, [row[of] for row in found["rows"]], ABEYANCE, COLOURS[ABEYANCE])
        _label(axis, "One more turn of the same size", "messages in the conversation", unit)


def _waiting(axes: Any, found: dict[str, Any]) -> None:
    waiting = [row["waiting"] for row in found["idle"]]
    axes[0].plot(waiting, [row["worker_mb"] for row in found["idle"]], marker="o", color=COLOURS[ABEYANCE])
    _label(axes[0], "Memory of the worker", "runs that wait", "MB", legend=False)
    axes[0].set_ylim(bottom=0)
    for part, style in (("p50", "-"), ("p99", "--")):
        times = [found["signal_to_done"][part][f"{name}_ms"] for name in ("few", "many")]
        _line(axes[1], waiting, times, part, COLOURS[ABEYANCE], style)
    _label(axes[1], "From the signal to the run's end", "runs that wait", "ms")


PLOTS: dict[str, Draw] = {"latency": _latency, "history": _history, "growth": _growth, "waiting": _waiting}


def _line(axis: Any, xs: list[int], spreads: list[dict[str, float]], label: str, colour: str, style: str = "-") -> None:
    if not xs:
        return
    axis.plot(xs, [s["median"] for s in spreads], marker="o", label=label, color=colour, linestyle=style)
    axis.fill_between(xs, [s["min"] for s in spreads], [s["max"] for s in spreads], color=colour, alpha=0.15)


def _label(axis: Any, title: str, across: str, up: str, *, legend: bool = True) -> None:
    axis.set_title(title)
    axis.set_xlabel(across)
    axis.set_ylabel(up)
    axis.set_xscale("log", base=10 if "runs" in across or "messages" in across else 2)
    axis.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axis.set_ylim(bottom=0)
    if legend:
        axis.legend()


def main() -> int:
    """Draw all plots as a program; returns its exit status."""
    for path in draw(RESULTS, DOCS):
        sys.stdout.write(f"{path}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
