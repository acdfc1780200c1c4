"""Sessions on S3: what a person has to mend there is said in words, and what passes by itself is raised as it is."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError, EndpointConnectionError

from abeyance.errors import ConfigurationError
from abeyance.places import Place
from abeyance.sessions import Sessions
from activities.failures import as_application_error
from tests.sessions import BUCKET, s3_env, s3_server, snapshot  # noqa: F401 - fixtures among them


@pytest.fixture
def bare_aws(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    return monkeypatch


async def test_s3_without_credentials(bare_aws: pytest.MonkeyPatch) -> None:
    bare_aws.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:1")
    with pytest.raises(ConfigurationError, match=r"ABEYANCE_SESSIONS is s3://b-b/p, .*credentials.* AWS variables"):
        await Sessions(Place(bucket="b-b", prefix="p")).load("s", "a")


@pytest.mark.usefixtures("s3_env")
async def test_a_bucket_that_is_not_there() -> None:
    sessions = Sessions(Place(bucket="no-such-bucket"))
    for doing in (
        sessions.load("s", "a"),
        sessions.listed(),
        sessions.forget("s"),
        sessions.save("s", "a", snapshot(), after=None, mark="m"),
        sessions.save("s", "a", snapshot(), after='"x"', mark="m"),
    ):
        with pytest.raises(ConfigurationError, match=r"s3://no-such-bucket, which cannot be used: .*Create the bucket"):
            await doing


@pytest.mark.usefixtures("s3_env")
async def test_s3_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Passes by itself, and so comes through as it is."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with pytest.raises(EndpointConnectionError):
        await Sessions(Place(bucket=BUCKET)).load("s", "a")


@contextmanager
def answering(status: int, code: str) -> Iterator[str]:
    """An S3 server that has one answer."""

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            body = f"<Error><Code>{code}</Code><Message>said so</Message></Error>".encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_PUT = do_DELETE = answer

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize(
    ("status", "code", "how"),
    [
        (403, "AccessDenied", "s3:PutObject"),
        (403, "InvalidAccessKeyId", "AWS variables"),
        (404, "NoSuchBucket", "Create"),
    ],
)
@pytest.mark.usefixtures("s3_env")
async def test_what_a_person_has_to_mend_at_s3(
    monkeypatch: pytest.MonkeyPatch, status: int, code: str, how: str
) -> None:
    with answering(status, code) as address:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", address)
        sessions = Sessions(Place(bucket="b-b"))
        for doing in (
            sessions.load("s", "a"),
            sessions.listed(),
            sessions.save("s", "a", snapshot(), after=None, mark="m"),
            sessions.save("s", "a", snapshot(), after="v", mark="m"),
        ):
            with pytest.raises(ConfigurationError, match=f"s3://b-b, .*said so.*{how}"):
                await doing


@pytest.mark.parametrize(("status", "code"), [(409, "ConditionalRequestConflict"), (400, "RequestTimeout")])
@pytest.mark.usefixtures("s3_env")
async def test_what_passes_by_itself_at_s3(monkeypatch: pytest.MonkeyPatch, status: int, code: str) -> None:
    """It is raised as it is, for whoever retries to see; a write that another one has held up is among it."""
    with answering(status, code) as address:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", address)
        with pytest.raises(ClientError) as raised:
            await Sessions(Place(bucket="b-b")).save("s", "a", snapshot(), after="v", mark="m")
    assert not as_application_error(raised.value, 1).non_retryable
