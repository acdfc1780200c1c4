"""`starter.py`: one module per kind of command, put together here.

Exit statuses: 0 done, 1 something is wrong (the message says what), 2 wrong usage, 3 not found, 4 refused,
5 the run failed, 6 the run's budget is spent, 130 interrupted.
"""

from __future__ import annotations

import os
import sys

import typer

from abeyance.cli import chat, codec, decide, doctor, inbox, local, runs, sessions, setup

EPILOG = (
    "Exit status: 0 done, 1 something is wrong, 2 wrong usage, 3 not found, 4 refused, 5 the run failed, "
    "6 the run's budget is spent, 130 interrupted."
)

BROKEN_PIPE = 141
"""What a shell says of a program whose reader, such as `head`, has had enough."""

app = typer.Typer(
    name="starter.py",
    help="Strands agents as durable Temporal workflows that stop and wait for people.",
    epilog=EPILOG,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for module in (runs, chat, inbox, decide, doctor, sessions, setup, codec, local):
    module.register(app)


def main() -> None:
    """Run the command line as a program; it never returns."""
    status = 1
    try:
        app(standalone_mode=True)
    except SystemExit as leaving:
        status = leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None)
    except KeyboardInterrupt:
        status = 130
    except BrokenPipeError:
        status = BROKEN_PIPE
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except BrokenPipeError:
        status = BROKEN_PIPE
    # Temporal's native client may crash an ordinary exit of a short program (temporalio/sdk-python#300).
    os._exit(status)
