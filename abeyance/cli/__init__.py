"""The command line, `abeyance` or `starter.py`: one module per kind of command, put together here.

Exit statuses: 0 done, 1 something is wrong (the message says what), 2 wrong usage, 3 not found, 4 refused,
5 the run failed, 6 the run's budget is spent, 130 interrupted.
"""

from __future__ import annotations

import os
import sys
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any

import typer

from abeyance.cli import chat, codec, decide, doctor, inbox, local, runs, sessions, setup
from abeyance.cli._shared import tell_error, wants_json
from abeyance.cli.examples import WithExamples
from abeyance.cli.layout import Sections

EPILOG = (
    "Exit status: 0 done, 1 something is wrong, 2 wrong usage, 3 not found, 4 refused, 5 the run failed, "
    "6 the run's budget is spent, 130 interrupted."
)

BROKEN_PIPE = 141
"""What a shell says of a program whose reader, such as `head`, has had enough."""

app = typer.Typer(
    epilog=EPILOG,
    cls=Sections,
    context_settings={"help_option_names": ["-h", "--help"]},
    no_args_is_help=True,
    add_completion=not sys.argv[0].endswith(".py"),  # a shell completes programs, and no arguments of Python's
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for module in (runs, chat, inbox, decide, doctor, sessions, setup, codec, local):
    module.register(app)
for part in (app, *(group.typer_instance for group in app.registered_groups)):
    for command in part.registered_commands if part else ():
        command.cls = WithExamples


def _tell_version(wanted: bool) -> None:
    if wanted:
        try:
            version = metadata.version("abeyance")
        except metadata.PackageNotFoundError:
            version = "(a checkout that is not installed)"
        print(f"abeyance {version}, temporalio {metadata.version('temporalio')}, Python {sys.version.split()[0]}")
        raise typer.Exit


@app.callback()
def options(
    version_: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_tell_version, help="Say which version this is.")
    ] = False,
) -> None:
    """Strands agents as durable Temporal workflows that stop and wait for people."""


def program() -> None:
    """Run the command line as the installed program `abeyance`, which finds agents in this folder as Python does."""
    sys.path.insert(0, str(Path.cwd()))
    main()


def main() -> None:
    """Run the command line as a program; it never returns."""
    status = 1
    try:
        status = app(standalone_mode=False) or 0
    except typer.TyperException as error:
        # A wrong usage; its class is none of Typer's public ones.
        wrong: Any = error
        status = wrong.exit_code
        if wants_json():
            tell_error(wrong.format_message(), status)
        else:
            wrong.show()
    except typer.Abort:
        print("Aborted!", file=sys.stderr)
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
