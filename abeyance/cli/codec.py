"""The command that lets the Temporal UI and the `temporal` CLI read what is encoded."""

from __future__ import annotations

import ipaddress
import secrets
from typing import Annotated

import typer

from abeyance.cli._shared import Json, call, say, say_json, settings

ORIGINS = ["http://127.0.0.1:8233", "http://localhost:8233"]


def register(app: typer.Typer) -> None:
    """Add the command of this module to `app`."""
    app.command("codec-server")(codec_server)


def codec_server(
    host: Annotated[str, typer.Option(help="Where to listen.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="The port to listen on; 0 for any.")] = 8081,
    origin: Annotated[
        list[str] | None, typer.Option(help=f"Where the Temporal UI is; by default {' and '.join(ORIGINS)}.")
    ] = None,
    json_: Json = False,
) -> None:
    """Decode payloads for the Temporal UI and the temporal CLI, for whoever has the token, until Ctrl-C."""

    async def work() -> None:
        from abeyance.converter import data_converter
        from abeyance.converter.server import codec_app, listen, serve

        given = settings()
        token = given.codec_token or secrets.token_urlsafe(32)
        app = codec_app(data_converter(given), token, origin or ORIGINS)
        with listen(host, port) as listening:
            address = f"http://{f'[{host}]' if ':' in host else host}:{listening.getsockname()[1]}"
            if json_:
                say_json({"endpoint": address, "token": None if given.codec_token else token})
            else:
                _introduce(address, host, None if given.codec_token else token)
            await serve(app, listening)

    call(work)


def _introduce(address: str, host: str, token: str | None) -> None:
    shown = "<ABEYANCE_CODEC_TOKEN>" if token is None else token
    say(f"The codec server is up at {address} until Ctrl-C.")
    if token:
        say(f"Its token, until it ends: {token}")
    say(f'The temporal CLI: --codec-endpoint {address} --codec-auth "Bearer {shown}"')
    say(f"The Temporal UI: sign in at {address} with the token; then set that as the codec endpoint in the UI, by the")
    say('glasses at its top, choose "Use my browser setting", and include cross-origin credentials.')
    if not _is_loopback(host):
        say("It is reachable from other machines, and speaks plain HTTP: put TLS in front of it.")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
