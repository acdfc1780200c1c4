"""A Bedrock Runtime in this process: ConverseStream over HTTP, in AWS' binary framing, after a script.

Each call takes the next reply of the script. A call that finds none left is refused as invalid, so that a test
that counts its calls notices, instead of one that hangs.
"""

from __future__ import annotations

import json
import socket
import struct
import threading
import time
from binascii import crc32
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal
from urllib.parse import unquote

Ending = Literal["whole", "closed", "reset", "silent"]
"""How a body ends: as HTTP wants it, with the connection closed before that, with it reset, or not at all."""


@dataclass(frozen=True)
class Reply:
    """What the server answers to one call: `chunks` are sent one by one, then the body ends as `ending` says."""

    chunks: tuple[bytes, ...]
    status: int = 200
    headers: tuple[tuple[str, str], ...] = (("Content-Type", "application/vnd.amazon.eventstream"),)
    ending: Ending = "whole"


@dataclass(frozen=True)
class Call:
    """A call that arrived: `at` is the monotonic clock's time, `access_key` the id of the key that signed it."""

    at: float
    model: str
    body: dict[str, Any]
    access_key: str

    @property
    def tool_results(self) -> list[dict[str, Any]]:
        """The tool results of the conversation, oldest first."""
        blocks = [block for message in self.body["messages"] for block in message["content"]]
        return [block["toolResult"] for block in blocks if "toolResult" in block]


@dataclass
class Bedrock:
    """The server as tests see it: where it listens, what it was asked, and what it answers next."""

    url: str
    calls: list[Call] = field(default_factory=list)
    _script: list[Reply] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _closing: threading.Event = field(default_factory=threading.Event)

    def will(self, *replies: Reply) -> None:
        """Answer the next calls with `replies`, after those that the script holds already."""
        with self._lock:
            self._script.extend(replies)

    def take(self, call: Call) -> Reply:
        """Record a call and take the reply to it."""
        with self._lock:
            self.calls.append(call)
            return self._script.pop(0) if self._script else refused(400, "ValidationException", "The script is over.")


def said(text: str, *, tokens: tuple[int, int] = (10, 5)) -> Reply:
    """The model ends its turn with `text`; `tokens` are the input's and the output's."""
    return Reply((*_opening(text), *_closing("end_turn", tokens)))


def called(tool: str, arguments: dict[str, Any], *, use: str, tokens: tuple[int, int] = (10, 5)) -> Reply:
    """The model says a word and calls a tool (tool use id `use`), its arguments in pieces as Bedrock streams them."""
    written = json.dumps(arguments)
    pieces = [written[start : start + 7] for start in range(0, len(written), 7)]
    start = {"contentBlockIndex": 1, "start": {"toolUse": {"toolUseId": use, "name": tool}}}
    return Reply(
        (
            *_opening("Let me see."),
            frame("contentBlockStart", start),
            *[
                frame("contentBlockDelta", {"contentBlockIndex": 1, "delta": {"toolUse": {"input": piece}}})
                for piece in pieces
            ],
            frame("contentBlockStop", {"contentBlockIndex": 1}),
            *_closing("tool_use", tokens),
        )
    )


def refused(status: int, code: str, message: str) -> Reply:
    """An HTTP error as AWS sends it."""
    headers = (("Content-Type", "application/json"), ("x-amzn-ErrorType", code))
    return Reply((json.dumps({"message": message}).encode(),), status, headers)


def page(status: int, html: str) -> Reply:
    """An HTTP error as a proxy or load balancer before AWS sends it."""
    return Reply((html.encode(),), status, (("Content-Type", "text/html"),))


def failed_in_stream(code: str, message: str) -> Reply:
    """A stream that starts well and then holds an exception."""
    return Reply((*_started("Let me"), frame(code, {"message": message}, kind="exception")))


def broken(ending: Ending, *, inside_a_frame: bool = False) -> Reply:
    """A stream that ends as `ending` says after its first words, between two frames or inside one."""
    started = _started("This is only the beg")
    return Reply((*started[:-1], started[-1][:-9]) if inside_a_frame else started, ending=ending)


def corrupted() -> Reply:
    """A whole reply of which one byte of text was changed on its way, so that a CRC does not fit."""
    chunks = list(said("Something is rotten.").chunks)
    chunks[1] = chunks[1].replace(b"rotten", b"gotten")
    return Reply(tuple(chunks))


def frame(name: str, payload: dict[str, Any], *, kind: Literal["event", "exception"] = "event") -> bytes:
    """One message of an AWS event stream.

    Args:
        name: the type of the event or exception.
        payload: its members.
        kind: what it is.
    """
    named = {":message-type": kind, f":{kind}-type": name, ":content-type": "application/json"}
    headers = b"".join(
        struct.pack("!B", len(key)) + key.encode() + struct.pack("!BH", 7, len(value)) + value.encode()
        for key, value in named.items()
    )
    body = json.dumps(payload).encode()
    lengths = struct.pack("!II", 12 + len(headers) + len(body) + 4, len(headers))
    message = lengths + struct.pack("!I", crc32(lengths)) + headers + body
    return message + struct.pack("!I", crc32(message))


@contextmanager
def serving() -> Iterator[Bedrock]:
    """A server on a free port of 127.0.0.1."""

    class Handler(_Handler):
        bedrock: Bedrock

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        bedrock = Handler.bedrock = Bedrock(f"http://127.0.0.1:{server.server_address[1]}")
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield bedrock
        finally:
            bedrock._closing.set()
            server.shutdown()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    bedrock: Bedrock
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        _, kind, model, operation = self.path.split("/")
        assert (kind, operation) == ("model", "converse-stream"), self.path
        access_key = self.headers["Authorization"].partition("Credential=")[2].partition("/")[0]
        reply = self.bedrock.take(Call(time.monotonic(), unquote(model), body, access_key))
        # One call per connection: nothing that a broken reply leaves behind can touch the next one.
        self.close_connection = True
        with suppress(ConnectionError):
            self.send_response(reply.status)
            for name, value in (*reply.headers, ("Transfer-Encoding", "chunked"), ("Connection", "close")):
                self.send_header(name, value)
            self.end_headers()
            self._send(reply.chunks)
            self._end(reply.ending)

    def _send(self, chunks: Iterable[bytes]) -> None:
        for chunk in chunks:
            self.wfile.write(f"{len(chunk):x}\r\n".encode() + chunk + b"\r\n")
            self.wfile.flush()

    def _end(self, ending: Ending) -> None:
        if ending == "whole":
            self.wfile.write(b"0\r\n\r\n")
        elif ending == "silent":
            self.bedrock._closing.wait()
        elif ending == "reset":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            # `shutdown`, which the server calls at the end, would send an orderly FIN first.
            self.connection.close()

    def log_message(self, *args: Any) -> None:
        """Keep quiet."""


def _started(text: str) -> tuple[bytes, ...]:
    delta = {"contentBlockIndex": 0, "delta": {"text": text}}
    return frame("messageStart", {"role": "assistant"}), frame("contentBlockDelta", delta)


def _opening(text: str) -> tuple[bytes, ...]:
    return (*_started(text), frame("contentBlockStop", {"contentBlockIndex": 0}))


def _closing(reason: str, tokens: Sequence[int]) -> tuple[bytes, ...]:
    usage = {"inputTokens": tokens[0], "outputTokens": tokens[1], "totalTokens": sum(tokens)}
    return (
        frame("messageStop", {"stopReason": reason}),
        frame("metadata", {"usage": usage, "metrics": {"latencyMs": 1}}),
    )
