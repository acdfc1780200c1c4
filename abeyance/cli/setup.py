"""The command that prepares a server."""

from __future__ import annotations

from dataclasses import asdict

import typer

from abeyance.cli._shared import Json, call, fail, say, say_json, settings, table


def register(app: typer.Typer) -> None:
    """Add the command of this module to `app`."""
    app.command()(setup)


def setup(json_: Json = False) -> None:
    """Register the search attributes in the configured namespace. Doing it again changes nothing."""

    async def work() -> None:
        from abeyance import attributes
        from abeyance.connection import connect

        standing = await attributes.register(await connect(settings()))
        if json_:
            say_json(asdict(standing) | {"complete": standing.complete, "commands": standing.commands()})
        else:
            rows = [(a.name, a.type, a.state, a.found or "") for a in standing.attributes]
            table(("search attribute", "type", "state", "found as"), rows)
        if not standing.complete:
            if not json_:
                say("An operator may register them with:")
                for command in standing.commands():
                    say(f"  {command}")
            fail(standing.words(), 1)

    call(work)
