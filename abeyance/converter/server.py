"""The codec server: decodes payloads for the Temporal UI and the `temporal` CLI, which hold no keys.

It speaks Temporal's remote codec protocol: `POST /decode` and `/encode`, each with {"payloads": [...]} in protobuf's
JSON, and `/download` for what `/decode?preserveStorageRefs=true` has left where it is stored. Whoever asks has the
token, in `Authorization: Bearer …`, or in a browser a cookie that the page `/` gives for it.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import socket
import time
from collections.abc import Awaitable, Callable, Sequence
from urllib.parse import parse_qs

import uvicorn
from google.protobuf import json_format
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send
from temporalio.api.common.v1 import Payload, Payloads
from temporalio.converter import DataConverter, WorkflowSerializationContext

from abeyance.converter.codec import LARGEST_OF_WORKFLOW, Codec, is_coded
from abeyance.converter.compression import Room
from abeyance.converter.storage import is_reference
from abeyance.errors import ConfigurationError, PayloadError, UnreadablePayloadError

LARGEST_REQUEST = 8_000_000
"""Bytes of JSON. A page of a history has at most 4 MB, in base64 a third more."""
LARGEST_SIGN_IN = 4_000
LARGEST_ANSWER = LARGEST_OF_WORKFLOW
"""Bytes that all payloads of a request may have together once they are decoded."""
MOST_PARTS = 50_000
"""Commas and brackets of a request's JSON: each of them may become an object in memory."""
BODY_SECONDS = 20.0
READ_AT_ONCE, AT_ONCE = 8, 2
"""Requests that are read, and that are answered, at once; others wait."""
MOST_CONNECTIONS = 100
COOKIE_SECONDS = 12 * 3600
SHORTEST_TOKEN = 20
COOKIE = "abeyance-codec"
PATHS = ("/decode", "/encode", "/download")
Work = Callable[[Sequence[Payload], Request], Awaitable[list[Payload]]]
PAGE = """<!doctype html><title>Codec server</title><h1>Codec server</h1>
<p>{}</p><form method="post"><label>Token <input type="password" name="token" autocomplete="off"></label>
<button>Sign in</button></form>"""
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; form-action 'self'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
}


class RefusedRequestError(Exception):
    """A request that is not served, with the words and the HTTP status that say why."""

    def __init__(self, words: str, status: int):
        super().__init__(words)
        self.status = status


def codec_app(converter: DataConverter, token: str, origins: Sequence[str]) -> Starlette:
    """The codec server as an ASGI application.

    Args:
        converter: what `abeyance.converter.data_converter` has made.
        token: what is asked of everybody.
        origins: where the pages come from that may ask, e.g. "http://127.0.0.1:8233", the Temporal UI's.

    Raises:
        ConfigurationError: if the token is short enough to be guessed.
    """
    if len(token) < SHORTEST_TOKEN:
        raise ConfigurationError(
            f"ABEYANCE_CODEC_TOKEN must have {SHORTEST_TOKEN} characters or more, so that nobody guesses it."
        )
    assert isinstance(converter.payload_codec, Codec)
    codec, for_people = converter.payload_codec, WorkflowSerializationContext(namespace="", workflow_id="")
    reading, at_work = asyncio.Semaphore(READ_AT_ONCE), asyncio.Semaphore(AT_ONCE)

    async def decoded(payloads: Sequence[Payload], request: Request) -> list[Payload]:
        room, made = Room(LARGEST_ANSWER), []
        keep = request.url.path == "/decode" and request.query_params.get("preserveStorageRefs") == "true"
        for payload in payloads:
            kept = keep and is_reference(payload)
            made.append(payload if kept else await _readable(payload, converter, codec, room))
            if room.is_full:
                words = f"Decoded, they have more than {LARGEST_ANSWER} bytes together: ask for fewer payloads."
                raise RefusedRequestError(words, 413)
        return made

    async def encoded(payloads: Sequence[Payload], _: Request) -> list[Payload]:
        return await codec.with_context(for_people).encode(payloads)

    def served(work: Work) -> Callable[[Request], Awaitable[Response]]:
        async def answer(request: Request) -> Response:
            if not _is_known(request, token):
                return _said("The token is missing or wrong: send Authorization: Bearer <token>.", 401)
            try:
                async with reading:
                    body = await _body(request)
                async with at_work:
                    given = json_format.Parse(body, Payloads(), ignore_unknown_fields=True)
                    made = await work(given.payloads, request)
                    return Response(_json(made), headers=HEADERS, media_type="application/json")
            except RefusedRequestError as error:
                return _said(str(error), error.status)
            except (json_format.ParseError, UnicodeDecodeError, RecursionError):
                return _said('This is no {"payloads": [...]} in the JSON of protobuf.', 400)
            except PayloadError as error:
                return _said(str(error), 422)

        return answer

    async def sign_in(request: Request) -> Response:
        if request.method != "POST":
            return _page("The Temporal UI may ask this server once you have given it the token.")
        try:
            body = await _body(request, LARGEST_SIGN_IN)
        except RefusedRequestError as error:
            return _said(str(error), error.status)
        typed = parse_qs(body.decode(errors="replace")).get("token", [""])[0].strip()
        if not _same(typed, token):
            return _page("That is not the token.", 401)
        hours = COOKIE_SECONDS // 3600
        page = _page(f"Signed in for {hours} hours, or until the server has another token.")
        cookie = signed_in(token, int(time.time()) + COOKIE_SECONDS)
        for path in PATHS:
            secure = request.url.scheme == "https"
            page.set_cookie(COOKIE, cookie, COOKIE_SECONDS, path=path, httponly=True, samesite="strict", secure=secure)
        return page

    return Starlette(
        routes=[
            *(Route(path, served(encoded if path == "/encode" else decoded), methods=["POST"]) for path in PATHS),
            Route("/", sign_in, methods=["GET", "POST"]),
        ],
        middleware=[
            Middleware(_KnownOrigins, origins=origins),
            Middleware(
                CORSMiddleware,
                allow_origins=origins,
                allow_methods=["POST"],
                allow_headers=["Authorization", "Content-Type", "X-Namespace"],
                allow_credentials=True,
            ),
        ],
    )


async def serve(app: Starlette, listening: socket.socket) -> None:
    """Serve until SIGTERM or SIGINT. Requests are not logged."""
    config = uvicorn.Config(
        app, log_level="warning", server_header=False, lifespan="off", limit_concurrency=MOST_CONNECTIONS
    )
    await uvicorn.Server(config).serve([listening])


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens.

    Raises:
        ConfigurationError: if it cannot.
    """
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except (OSError, OverflowError) as error:
        raise ConfigurationError(f"Nothing can listen at {host}:{port}: {error}. Choose another --port.") from error


class _KnownOrigins:
    """Refuses pages of other origins, whatever they would send."""

    def __init__(self, app: ASGIApp, origins: Sequence[str]):
        self._app, self._origins = app, {origin.encode() for origin in origins}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = dict(scope.get("headers", ()))
        origin = headers.get(b"origin")
        own = (f"{scope.get('scheme')}://".encode() + headers.get(b"host", b""), b"null")
        if origin is None or origin in self._origins or (scope.get("path") == "/" and origin in own):
            await self._app(scope, receive, send)
        else:
            await _said("This origin may not ask: start the server with --origin for it.", 403)(scope, receive, send)


async def _readable(payload: Payload, converter: DataConverter, codec: Codec, room: Room) -> Payload:
    """The payload decoded, or as it is if it only claims to be encoded, so that the others are shown all the same."""
    try:
        found = payload
        if is_reference(payload) and converter.external_storage:
            found = await converter.external_storage._retrieve_payload(payload)
            room.take(found.ByteSize())
        return codec.decoded(found, room) if is_coded(found) else found
    except UnreadablePayloadError:
        return payload


def signed_in(token: str, until: int) -> str:
    """The cookie of who has shown the token; it counts `until` that time, in seconds since 1970."""
    return f"{until}.{hmac.digest(token.encode(), f'{COOKIE}:{until}'.encode(), hashlib.sha256).hex()}"


def _is_known(request: Request, token: str) -> bool:
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and _same(given.strip(), token):
        return True
    # A cookie comes by itself: what page has sent it, only the origin tells.
    cookie = request.cookies.get(COOKIE, "")
    until = cookie.partition(".")[0]
    if "origin" not in request.headers or not (until.isascii() and until.isdecimal() and len(until) < 20):
        return False
    return _same(cookie, signed_in(token, int(until))) and time.time() < int(until)


def _same(given: str, secret: str) -> bool:
    return hmac.compare_digest(given.encode(), secret.encode())


async def _body(request: Request, most: int = LARGEST_REQUEST) -> bytes:
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for chunk in request.stream():
                body += chunk
                if len(body) > most:
                    raise RefusedRequestError(f"A request may have {most} bytes.", 413)
    except TimeoutError as error:
        raise RefusedRequestError(f"The request was not complete after {BODY_SECONDS:g} seconds.", 408) from error
    if sum(map(body.count, (b",", b"{", b"["))) > MOST_PARTS:
        raise RefusedRequestError(f"A request may have {MOST_PARTS} commas and brackets: ask for fewer payloads.", 413)
    return bytes(body)


def _json(payloads: Sequence[Payload]) -> bytes:
    """`{"payloads": [...]}` in protobuf's JSON, without the copies that its own way makes of large payloads."""
    parts = [b'{"payloads":[']
    for payload in payloads:
        if payload.external_payloads:
            parts += [b"{" if len(parts) == 1 else b",{", json_format.MessageToJson(payload).strip()[1:].encode()]
            continue
        about = {name: base64.b64encode(value).decode() for name, value in payload.metadata.items()}
        parts += [b"{" if len(parts) == 1 else b",{"]
        parts += [b'"metadata":', json.dumps(about).encode()] if about else []
        if payload.data:
            parts += [b',"data":"' if about else b'"data":"', base64.b64encode(payload.data), b'"']
        parts += [b"}"]
    return b"".join([*parts, b"]}"])


def _said(message: str, status: int) -> Response:
    return JSONResponse({"message": message}, status, HEADERS)


def _page(words: str, status: int = 200) -> Response:
    return HTMLResponse(PAGE.format(words), status, HEADERS)
