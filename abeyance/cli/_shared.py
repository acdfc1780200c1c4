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
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, TypeVar

import typer

from abeyance.errors import AbeyanceError
from abeyance.settings import Settings

if TYPE_CHECKING:
    from abeyance.runs import Runs

T = TypeVar("T")
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Run = Annotated[str, typer.Argument(metavar="RUN", help="The run's id.")]


def settings() -> Settings:
    """The settings of this process."""
    return Settings.from_env(os.environ)


def call(work: Callable[[], Awaitable[T]]) -> T:
    """Run `work`; an error becomes one line on stderr and its exit status."""

    async def run() -> T:
        return await work()

    try:
        return asyncio.run(run())
    except AbeyanceError as error:
        fail(str(error), error.exit_code)
    except Exception as error:  # noqa: BLE001 - the last door: what is unknown is named, never swallowed
        fail(f"{type(error).__name__}: {error}", 1)


def with_runs(work: Callable[[Runs], Awaitable[T]]) -> T:
    """Connect, and run `work` with the runs of the configured namespace."""

    async def run() -> T:
        from abeyance.connection import connect
        from abeyance.runs import Runs

        return await work(Runs(await connect(), settings().task_queue))

    return call(run)


def fail(message: str, status: int) -> NoReturn:
    """Print one line that says what is wrong, and leave."""
    print(f"starter: {printable(message)}", file=sys.stderr)
    raise typer.Exit(status)


def say(text: str = "", hang: int | None = None) -> None:
    """Print a text for a person.

    Args:
        text: what to say.
        hang: how far its lines after the first are indented. A terminal's width then breaks them between words, too;
            commands must be left whole.
    """
    lines = printable(text).split("\n")
    if hang is not None:
        lines = [lines[0], *(" " * hang + line for line in lines[1:])]
        if sys.stdout.isatty():
            width = max(shutil.get_terminal_size().columns, hang + 20)
            lines = [textwrap.fill(line, width, subsequent_indent=" " * hang, break_on_hyphens=False) for line in lines]
    print("\n".join(lines), flush=True)


def say_json(value: Any) -> None:
    """Print `value` as one line of JSON."""
    print(json.dumps(_plain(value), ensure_ascii=False, default=str), flush=True)


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table; cells are texts, never markup."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(width=None if sys.stdout.isatty() else 200)
    grid = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for column in columns:
        grid.add_column(column, overflow="fold")
    for row in rows:
        grid.add_row(*(Text(printable(cell)) for cell in row))
    console.print(grid)


def printable(text: str) -> str:
    """`text` without the control characters that could rewrite a terminal; agents' words are not to be trusted."""
    return re.sub(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", "\N{REPLACEMENT CHARACTER}", text)


def brief(value: Any, most: int = 120) -> str:
    """A value on one line, cut to `most` characters."""
    if value is None:
        return ""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    flat = " ".join(text.split())
    return flat if len(flat) <= most else f"{flat[: most - 1]}…"


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


def user() -> str:
    """The name of who types, for the record; nothing proves it."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"


def starter() -> str:
    """How this command line is called from here, to be shown in hints."""
    return f"{_reachable('python', sys.executable)} {shlex.quote(os.path.relpath(sys.argv[0]))}"


def temporal() -> str:
    """How the `temporal` CLI is called from here, to be shown in hints."""
    from abeyance.devserver import temporal_binary

    return _reachable("temporal", temporal_binary())


def _reachable(name: str, path: str) -> str:
    return name if shutil.which(name) == path else shlex.quote(os.path.relpath(path))


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value
