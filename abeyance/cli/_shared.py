"""What all commands share: the connection, the errors, and the two ways of printing."""

from __future__ import annotations

import asyncio
import getpass
import json
import os
import re
import shlex
import shutil
import sys
import textwrap
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, is_dataclass
from datetime import UTC, datetime, timedelta
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, TypeVar

import typer

from abeyance.cli.completion import runs_named
from abeyance.errors import AbeyanceError
from abeyance.printable import escaped, one_line, printable
from abeyance.settings import Settings
from abeyance.shortened import cut

if TYPE_CHECKING:
    from abeyance.runs import Runs

T = TypeVar("T")
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
RED, GREEN, YELLOW, CYAN = 31, 32, 33, 36
COLOURS = {
    "waiting": YELLOW,
    "listening": YELLOW,
    "parked": RED,
    "failed": RED,
    "timed_out": RED,
    "running": CYAN,
    "completed": GREEN,
}
"""Of a run's state; the others have none."""
FOREIGN = "│ "
"""Stands before each line of somebody else's words that does not begin as a line of ours."""
Run = Annotated[str, typer.Argument(metavar="RUN", help="The run's id.", autocompletion=runs_named)]


def settings() -> Settings:
    """The settings of this process."""
    return Settings.from_env(os.environ)


def call(work: Callable[[], Awaitable[T]]) -> T:
    """Run `work`; an error becomes one line on stderr and its exit status."""

    async def run() -> T:
        return await work()

    try:
        return asyncio.run(run())
    except (typer.Exit, BrokenPipeError):
        raise
    except AbeyanceError as error:
        fail(str(error), error.exit_code)
    except Exception as error:  # noqa: BLE001 - the last door: what is unknown is named, never swallowed
        fail(f"{type(error).__name__}: {error}", 1)


def with_runs(work: Callable[[Runs], Awaitable[T]]) -> T:
    """Connect, and run `work` with the runs of the configured namespace."""

    async def run() -> T:
        from abeyance.connection import connect
        from abeyance.runs import Runs

        given = settings()
        return await work(Runs(await connect(given), given.task_queue, given.worker_timeout))

    return call(run)


def fail(message: str, status: int) -> NoReturn:
    """Print one line that says what is wrong, and leave."""
    if wants_json():
        tell_error(message, status)
    else:
        remark(message)
    raise typer.Exit(status)


def remark(text: str) -> None:
    """Tell something beside the output, on stderr."""
    text = typed_here(text)
    if wants_json():
        print(escaped(json.dumps({"warning": text}, ensure_ascii=False)), file=sys.stderr, flush=True)
    else:
        print(f"{Path(sys.argv[0]).stem}: {one_line(printable(text))}", file=sys.stderr, flush=True)


def tell_error(message: str, status: int) -> None:
    """Say on stderr, as one line of JSON, what is wrong and with which exit status the program leaves."""
    message = typed_here(message)
    print(escaped(json.dumps({"error": message, "status": status}, ensure_ascii=False)), file=sys.stderr, flush=True)


def wants_json() -> bool:
    """Whether a program reads what this one says."""
    return "--json" in sys.argv[1:]


def text_of(given: str) -> str:
    """A text as people give it on the command line: itself, "-" for what stdin says, "@FILE" for what a file says."""
    if given == "-":
        if sys.stdin.isatty():
            remark("Type the text, and end it with Ctrl-D.")
        return sys.stdin.read().strip()
    if not given.startswith("@"):
        return given
    try:
        return Path(given[1:]).read_text(encoding="utf-8").strip()
    except (OSError, ValueError) as error:
        instead = "To send a text that begins with @, pipe it in and give - as the text."
        fail(f"{given!r} names a file that cannot be read: {error}. {instead}", 2)


def say(text: str = "", hang: int | None = None, state: str = "") -> None:
    """Print a text for a person.

    A line end in it stands in somebody's words, and what follows is marked, so that no words of others can look like a
    line of ours: a line of ours is said by a call of its own.

    Args:
        text: what to say.
        hang: how far its lines after the first are indented. A terminal's width then breaks them between words, too;
            commands must be left whole.
        state: of a run, to be coloured on a terminal where the first line says "is STATE".
    """
    indent = " " * (hang or 0)
    first, *more = printable(text).split("\n")
    lines = [("", first, indent), *((indent + FOREIGN, line, indent + FOREIGN) for line in more)]
    _put(lines, whole=hang is None, state=state)


def say_quoted(text: str, indent: int = 2) -> None:
    """Print what somebody else wrote, every line of it marked."""
    mark = " " * indent + FOREIGN
    _put([(mark, line, mark) for line in printable(text).split("\n")], whole=False)


def say_json(value: Any) -> None:
    """Print `value` as one line of JSON."""
    text = json.dumps(_plain(value), ensure_ascii=False, default=str)
    # What is not seen, and what cannot be printed, is escaped: that is JSON for the same.
    print(escaped(text), flush=True)


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table, which fits a terminal by folding its widest column; elsewhere a row is a line."""
    from rich.cells import cell_len, chop_cells

    cells = [[one_line(printable(cell)) for cell in row] for row in (columns, *rows)]
    widths = [max(map(cell_len, column)) for column in zip(*cells, strict=True)]
    excess = sum(widths) + 2 * len(widths) - shutil.get_terminal_size().columns
    if sys.stdout.isatty() and excess > 0:
        widest = widths.index(max(widths))
        widths[widest] = max(widths[widest] - excess, 20)
    cells.insert(1, ["─" * width for width in widths])
    for row in cells:
        folded = [chop_cells(cell, width) or [""] for cell, width in zip(row, widths, strict=True)]
        for line in zip_longest(*folded, fillvalue=""):
            # What somebody has named "failed" has no colour.
            shown = [
                coloured(cell, cell) if name == "state" else cell for name, cell in zip(columns, line, strict=True)
            ]
            gaps = [" " * (width - cell_len(cell)) for cell, width in zip(line, widths, strict=True)]
            padded = [cell + gap for cell, gap in zip(shown, gaps, strict=True)]
            print("  ".join(padded).rstrip())
    sys.stdout.flush()


def brief(value: Any, most: int = 120, more: int = 0) -> str:
    """A value on one line, cut to `most` characters; what is left out is counted, with `more` that was before."""
    if value is None:
        return ""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return cut(one_line(text), most, more=more)


def asked_from(path: Sequence[str] | None) -> str:
    """Which sub-agent asks, before what it asks about: "mid > charger: ", or "" for the run's own agent."""
    return f"{' > '.join(path)}: " if path else ""


def age(since: str) -> str:
    """How long ago an ISO 8601 time was, in its largest unit."""
    return span(since, datetime.now(UTC).isoformat())


def span(start: str, end: str) -> str:
    """How long it was from one ISO 8601 time to another, in its largest unit."""
    seconds = max(0, int((datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds()))
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"


def duration(text: str) -> timedelta:
    """An age as people type it: "90s", "30min", "2h", "3d".

    Raises:
        ValueError: if it is none.
    """
    units = {"s": 1, "m": 60, "min": 60, "h": 3_600, "d": 86_400}
    typed = re.fullmatch(r"\s*(\d{1,9})\s*([a-z]+)\s*", text)
    if not typed or typed[2] not in units:
        raise ValueError(f"an age is a number and s, min, h or d, e.g. 2h, not {text!r}.")
    return timedelta(seconds=int(typed[1]) * units[typed[2]])


def user() -> str:
    """The name of who types, for the record; nothing proves it."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"


def starter() -> str:
    """How this command line is called from here, to be shown in hints."""
    program = Path(sys.argv[0])
    if program.suffix != ".py":
        return _reachable(program.name, str(program))
    return f"{_reachable('python', sys.executable)} {shlex.quote(os.path.relpath(sys.argv[0]))}"


def typed_here(text: str) -> str:
    """A message with its commands as they are typed here: those who write it do not know how it is called."""
    return re.sub(r"`(?:python )?starter\.py(?= )", lambda _: f"`{starter()}", text)


def quoted(text: str) -> str:
    """A run's id or another name as a shell takes it, to be shown in hints."""
    return shlex.quote(text)


def temporal() -> str:
    """How the `temporal` CLI is called from here, to be shown in hints."""
    from abeyance.devserver import temporal_binary

    return _reachable("temporal", temporal_binary())


def coloured(state: str, text: str) -> str:
    """`text` in the colour of a run's state, on a terminal whose user has not set NO_COLOR (https://no-color.org)."""
    colour = COLOURS.get(state)
    if not colour or not sys.stdout.isatty() or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return text
    return f"\x1b[{colour}m{text}\x1b[0m"


def _put(lines: Sequence[tuple[str, str, str]], *, whole: bool, state: str = "") -> None:
    """Print lines, each with what stands before it and, where a terminal's width breaks it, before its rest."""
    if whole or not sys.stdout.isatty():
        print("\n".join(before + line for before, line, _ in lines), flush=True)
        return
    from rich.cells import cell_len, chop_cells

    out = list[str]()
    for before, line, before_rest in lines:
        room = shutil.get_terminal_size().columns - cell_len(before_rest)
        if cell_len(line) > len(line):
            # Wide characters: a terminal would break the line where it likes, and somebody's words begin a line of it.
            out += [(before_rest if at else before) + part for at, part in enumerate(chop_cells(line, max(room, 20)))]
        else:
            width = max(room, 20) + len(before_rest)
            wrapped = textwrap.wrap(
                line, width, initial_indent=before, subsequent_indent=before_rest, break_on_hyphens=False
            )
            out += wrapped or [before.rstrip()]
    if state:
        out[0] = out[0].replace(f" is {state}", f" is {coloured(state, state)}", 1)
    print("\n".join(out), flush=True)


def _reachable(name: str, path: str) -> str:
    return name if shutil.which(name) == path else shlex.quote(os.path.relpath(path))


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value
