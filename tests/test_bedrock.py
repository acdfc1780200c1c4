"""Strands' real BedrockModel and botocore, on a server that speaks ConverseStream, in real runs."""

from __future__ import annotations

import importlib.metadata
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import pytest
from botocore.exceptions import ClientError
from strands.models import BedrockModel
from temporalio.client import WorkflowFailureError
from temporalio.exceptions import ApplicationError, TemporalError

import abeyance.models
from abeyance.contracts import RunResult, RunStatus, Usage
from abeyance.errors import ConfigurationError
from abeyance.models import build_model
from tests.bedrock_server import (
    Bedrock,
    Ending,
    Reply,
    broken,
    called,
    corrupted,
    failed_in_stream,
    page,
    refused,
    said,
    serving,
)
from tests.conftest import Start
from tests.support import StartedRun, World, until

MODEL_ID = "anthropic.claude-test"
ACCESS_KEY = "AKIAABEYANCETEST0001"
SECRET = "dummy/secret+access/key/that/no/history/may/hold"
PROMPT = "Delete a.txt, please"
DELETION = called("delete_files", {"paths": ["a.txt"]}, use="tool-delete")
THROTTLED = refused(429, "ThrottlingException", "Too many requests, please wait before trying again.")
ALL = {"a.txt", "b.txt", "c.txt", "d.txt"}


@dataclass
class BedrockWorld(World):
    """A worker whose model is on a server of the test; it remembers its runs."""

    bedrock: Bedrock
    runs: list[StartedRun] = field(default_factory=list)

    async def start(self, agent: str = "file-manager", prompt: str = PROMPT, **more: Any) -> StartedRun:
        run = await super().start(agent, prompt, **more)
        self.runs.append(run)
        return run


@pytest.fixture
def credentials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The worker's credentials file; nothing else on the machine gives botocore a key, a region or a proxy."""
    path = tmp_path / "credentials"
    write_key(path, ACCESS_KEY)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(path))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "no-config"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    # The session is one per process; each test's keys need one of their own.
    monkeypatch.setattr(abeyance.models, "_session", None)
    return path


@pytest.fixture
def bedrock(credentials: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bedrock]:
    with serving() as bedrock:
        monkeypatch.setenv("AWS_ENDPOINT_URL_BEDROCK_RUNTIME", bedrock.url)
        yield bedrock


@pytest.fixture
async def world(start_world: Start, bedrock: Bedrock) -> AsyncIterator[BedrockWorld]:
    """A worker on the test's Bedrock. At the end no event of any run's history may hold the secret key."""
    async with start_world(model=f"bedrock:{MODEL_ID}") as plain:
        world = BedrockWorld(plain.client, plain.settings, bedrock)
        yield world
        assert world.runs
        for run in world.runs:
            history = await raw_history(run)
            assert PROMPT.encode() in history, "a payload's text must be readable here, or the next line proves nothing"
            assert SECRET.encode() not in history


def write_key(path: Path, access_key: str) -> None:
    path.write_text(f"[default]\naws_access_key_id = {access_key}\naws_secret_access_key = {SECRET}\n")


async def raw_history(run: StartedRun) -> bytes:
    """All events and the memo as protobuf bytes, in which payloads stand as their JSON, not in base64 as in to_json."""
    events = [event.SerializeToString() async for event in run.handle.fetch_history_events()]
    described = await run.handle.describe()
    return b"\n".join([*events, described.raw_description.SerializeToString()])


async def attempts(run: StartedRun) -> list[int]:
    """At which attempt each activity of the run was last started."""
    return [
        event.activity_task_started_event_attributes.attempt
        async for event in run.handle.fetch_history_events()
        if event.HasField("activity_task_started_event_attributes")
    ]


async def settled(run: StartedRun, state: str) -> RunStatus:
    """Wait until the run is at rest; unless it is in `state` then, the test fails at once and shows its status."""

    async def look() -> RunStatus | None:
        try:
            status = await run.status()
        except TemporalError:
            return None
        return None if status.state == "running" else status

    status = await until(look, what=f"{run.id} to be {state}")
    assert status.state == state, status
    return status


async def completed(run: StartedRun) -> RunResult:
    """The result of a run that must not stop before its end."""
    await settled(run, "completed")
    return await run.result()


async def parked(run: StartedRun, *, because: str) -> RunStatus:
    """The status of a run that must be parked, with `because` in its problem."""
    status = await settled(run, "parked")
    assert because in (status.problem or "")
    return status


async def test_a_run_with_an_approval(world: BedrockWorld) -> None:
    """Bedrock's tool calls are run, a person approves the deletion, and tokens of both turns are added up."""
    world.bedrock.will(
        called("inspect_files", {"paths": ["a.txt", "b.txt"]}, use="tool-inspect", tokens=(100, 20)),
        called("delete_files", {"paths": ["a.txt", "b.txt"]}, use="tool-delete", tokens=(150, 30)),
        said("Both files are gone.", tokens=(200, 7)),
    )
    run = await world.start()
    status = await settled(run, "waiting")
    assert status.approvals[0].tool == "delete_files"
    assert status.approvals[0].input == {"paths": ["a.txt", "b.txt"]}
    assert world.files() == ALL
    assert len(world.bedrock.calls) == 2
    await run.handle.signal("approve")
    result = await completed(run)
    assert world.files() == ALL - {"a.txt", "b.txt"}
    assert (result.stop_reason, result.message) == ("end_turn", "Both files are gone.")
    assert result.usage == Usage(model_calls=3, input_tokens=450, output_tokens=57, total_tokens=507)
    first, second, third = world.bedrock.calls
    assert {call.model for call in world.bedrock.calls} == {MODEL_ID}
    assert first.body["messages"] == [{"role": "user", "content": [{"text": PROMPT}]}]
    tools = [tool["toolSpec"]["name"] for tool in first.body["toolConfig"]["tools"]]
    assert tools == ["inspect_files", "delete_files"]
    assert [block["toolUseId"] for block in second.tool_results] == ["tool-inspect"]
    assert "a.txt: file, 15 bytes" in second.tool_results[0]["content"][0]["text"]
    assert [block["toolUseId"] for block in third.tool_results] == ["tool-inspect", "tool-delete"]
    assert third.tool_results[1]["status"] == "success"
    assert third.tool_results[1]["content"] == [{"text": "Deleted a.txt, b.txt."}]
    assert await attempts(run) == [1, 1]


async def test_a_denial_reaches_the_model(world: BedrockWorld) -> None:
    """After `deny` the files stay, and Bedrock is told in the tool's result."""
    world.bedrock.will(DELETION, said("Then I leave it."))
    run = await world.start()
    await settled(run, "waiting")
    await run.handle.signal("deny")
    await completed(run)
    assert world.files() == ALL
    (told,) = world.bedrock.calls[1].tool_results
    assert told["status"] == "error"
    assert "denied" in told["content"][0]["text"]


@pytest.mark.parametrize(
    "throttled",
    [THROTTLED, failed_in_stream("throttlingException", "Too many tokens, please wait.")],
    ids=["http-429", "in-stream"],
)
async def test_throttling_is_waited_out_by_temporal(throttled: Reply, world: BedrockWorld) -> None:
    """Every attempt of the activity makes one HTTP call; between them Temporal waits two seconds, then four."""
    world.bedrock.will(throttled, throttled, said("At last."))
    run = await world.start()
    result = await completed(run)
    assert result.message == "At last."
    assert await attempts(run) == [3]
    assert len(world.bedrock.calls) == 3
    first, second = (later.at - earlier.at for earlier, later in pairwise(world.bedrock.calls))
    assert first >= 2.0
    assert second >= 4.0
    # A failed attempt must leave nothing in the conversation that the next one sends.
    assert [call.body["messages"] for call in world.bedrock.calls] == [world.bedrock.calls[0].body["messages"]] * 3
    assert result.usage.model_calls == 1


DENIED = refused(403, "AccessDeniedException", "You don't have access to the model with the specified model ID.")
INVALID = refused(400, "ValidationException", "The provided model identifier is invalid.")
FOR_PEOPLE = {
    "denied": (DENIED, "You don't have access to the model", "Grant the worker's credentials access to the model."),
    "invalid": (INVALID, "The provided model identifier is invalid.", "Check the model id"),
    "unknown": (
        refused(404, "ResourceNotFoundException", "Could not resolve the foundation model."),
        "Could not resolve the foundation model.",
        "Check the model id and the region.",
    ),
    "in-stream": (
        failed_in_stream("validationException", "The model returned an invalid tool call."),
        "The model returned an invalid tool call.",
        "Check the model id, and that the model accepts this conversation and its tools.",
    ),
}


@pytest.mark.parametrize("case", FOR_PEOPLE)
async def test_what_a_person_must_mend_parks_the_run(case: str, world: BedrockWorld) -> None:
    """One call, no retry: the status names cause and remedy, and `retry` completes the run once it is mended."""
    reply, cause, remedy = FOR_PEOPLE[case]
    world.bedrock.will(reply)
    run = await world.start()
    status = await parked(run, because=cause)
    assert remedy in (status.problem or "")
    assert len(world.bedrock.calls) == 1
    world.bedrock.will(said("Now it works."))
    await run.handle.signal("retry")
    assert (await completed(run)).message == "Now it works."
    assert len(world.bedrock.calls) == 2
    assert await attempts(run) == [1, 1]


@pytest.mark.parametrize("case", ["denied", "invalid"])
async def test_a_parked_run_can_be_given_up(case: str, world: BedrockWorld) -> None:
    """`abort` fails the run with the reason it was parked for, without another call."""
    reply, cause, remedy = FOR_PEOPLE[case]
    world.bedrock.will(reply)
    run = await world.start()
    await parked(run, because=cause)
    await run.handle.signal("abort")
    with pytest.raises(WorkflowFailureError) as failure:
        await run.result()
    assert isinstance(failure.value.cause, ApplicationError)
    assert failure.value.cause.type == "Aborted"
    assert cause in failure.value.cause.message
    assert remedy in failure.value.cause.message
    assert (await run.status()).state == "failed"
    assert len(world.bedrock.calls) == 1


async def test_a_turn_that_failed_midway_still_asks(world: BedrockWorld) -> None:
    """A run that was parked between two tool calls of one turn comes to its approval after `retry`."""
    world.bedrock.will(called("inspect_files", {"paths": ["a.txt"]}, use="tool-inspect"), DENIED)
    run = await world.start()
    await parked(run, because="You don't have access")
    assert len(world.bedrock.calls) == 2
    world.bedrock.will(DELETION)
    await run.handle.signal("retry")
    await settled(run, "waiting")
    assert world.files() == ALL
    world.bedrock.will(said("It is gone."))
    await run.handle.signal("approve")
    result = await completed(run)
    assert world.files() == ALL - {"a.txt"}
    assert [decision.response for decision in result.decisions if decision.approval] == ["y"]


async def test_a_worker_without_credentials_parks_and_recovers(credentials: Path, world: BedrockWorld) -> None:
    """No call is made without keys; once there are some, `retry` is enough."""
    credentials.unlink()
    run = await world.start()
    await parked(run, because="Give the worker credentials")
    assert world.bedrock.calls == []
    write_key(credentials, ACCESS_KEY)
    world.bedrock.will(said("Now it works."))
    await run.handle.signal("retry")
    assert (await completed(run)).message == "Now it works."


async def test_renewed_credentials_are_used(credentials: Path, world: BedrockWorld) -> None:
    """After a refusal of expired keys, `retry` signs with what the credentials file holds by then."""
    world.bedrock.will(refused(403, "ExpiredTokenException", "The security token included in the request is expired"))
    run = await world.start()
    await parked(run, because="Renew the worker's credentials.")
    write_key(credentials, "AKIAABEYANCETEST0002")
    world.bedrock.will(said("Now it works."))
    await run.handle.signal("retry")
    await completed(run)
    assert [call.access_key for call in world.bedrock.calls] == [ACCESS_KEY, "AKIAABEYANCETEST0002"]


PASSING = {
    "closed": broken("closed"),
    "closed-inside-a-frame": broken("closed", inside_a_frame=True),
    "reset": broken("reset"),
    "ended-early": broken("whole"),
    "ended-early-inside-a-frame": broken("whole", inside_a_frame=True),
    "corrupted": corrupted(),
    "failed-in-stream": failed_in_stream("modelStreamErrorException", "The model broke off."),
    "internal-error": refused(500, "InternalServerException", "An internal error."),
    "internal-failure": refused(500, "InternalFailure", "An internal error."),
    "unavailable": refused(503, "ServiceUnavailableException", "Try again later."),
    "not-ready": refused(429, "ModelNotReadyException", "The model is not ready."),
    "gateway": page(502, "<html><h1>502 Bad Gateway</h1></html>"),
}


@pytest.mark.parametrize("case", PASSING)
async def test_what_passes_is_retried_at_once(case: str, world: BedrockWorld) -> None:
    """The broken reply counts for nothing: the next attempt makes the same call and its reply is the result."""
    world.bedrock.will(PASSING[case], said("Whole."))
    run = await world.start()
    result = await completed(run)
    assert result.message == "Whole."
    assert result.usage == Usage(model_calls=1, input_tokens=10, output_tokens=5, total_tokens=15)
    assert await attempts(run) == [2]
    first, second = world.bedrock.calls
    assert first.body["messages"] == second.body["messages"]


@pytest.mark.parametrize("ending", ["closed", "whole"])
async def test_a_tool_call_that_was_cut_off_is_never_run(ending: Ending, world: BedrockWorld) -> None:
    """A reply that ends after half of a tool's arguments asks nobody and deletes nothing; the next attempt does."""
    cut = DELETION.chunks[: len(DELETION.chunks) // 2]
    world.bedrock.will(Reply(cut, ending=ending), DELETION, said("It is gone."))
    run = await world.start()
    status = await settled(run, "waiting")
    assert status.approvals[0].input == {"paths": ["a.txt"]}
    assert world.files() == ALL
    await run.handle.signal("approve")
    await completed(run)
    assert world.files() == ALL - {"a.txt"}
    assert await attempts(run) == [2, 1]


async def test_a_stream_that_falls_silent_is_retried(world: BedrockWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the read timeout without a byte the call is given up and made again."""
    monkeypatch.setattr(abeyance.models, "MODEL_READ_TIMEOUT", 1)
    world.bedrock.will(broken("silent"), said("Whole."))
    run = await world.start()
    assert (await completed(run)).message == "Whole."
    assert await attempts(run) == [2]


async def test_a_server_that_is_down_is_retried(world: BedrockWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """While nothing listens the turn keeps being tried, without a person; then it completes."""
    with serving() as gone:
        pass
    monkeypatch.setenv("AWS_ENDPOINT_URL_BEDROCK_RUNTIME", gone.url)
    run = await world.start()

    async def failed_once() -> bool:
        pending = (await run.handle.describe()).raw_description.pending_activities
        return any(activity.attempt >= 2 for activity in pending)

    await until(failed_once, what="a failed attempt")
    monkeypatch.setenv("AWS_ENDPOINT_URL_BEDROCK_RUNTIME", world.bedrock.url)
    world.bedrock.will(said("Back again."))
    assert (await completed(run)).message == "Back again."


async def test_throttling_after_a_deletion_does_not_delete_twice(world: BedrockWorld) -> None:
    """A tool that ran before its turn failed is not run again: the model hears of the deletion, not of an error."""
    world.bedrock.will(DELETION)
    run = await world.start()
    await settled(run, "waiting")
    world.bedrock.will(THROTTLED, said("It is gone."))
    await run.handle.signal("approve")
    await completed(run)
    assert world.files() == ALL - {"a.txt"}
    assert [call.tool_results[0]["status"] for call in world.bedrock.calls[1:]] == ["success", "success"]


def test_bedrock_is_asked_once(bedrock: Bedrock, monkeypatch: pytest.MonkeyPatch) -> None:
    """The client makes one call and reports its failure, even where the environment wants botocore to retry."""
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "5")
    monkeypatch.setenv("AWS_RETRY_MODE", "standard")
    model = build_model(f"bedrock:{MODEL_ID}")
    assert isinstance(model, BedrockModel)
    bedrock.will(refused(503, "ServiceUnavailableException", "Try again later."), said("Too late."))
    with pytest.raises(ClientError):
        model.client.converse_stream(modelId=MODEL_ID, messages=[{"role": "user", "content": [{"text": "Hello"}]}])
    assert len(bedrock.calls) == 1
    assert model.client.meta.config.retries["total_max_attempts"] == 1
    assert model.client.meta.config.read_timeout == abeyance.models.MODEL_READ_TIMEOUT
    assert model.config["model_id"] == MODEL_ID


@pytest.mark.parametrize("setting", ["", "gpt-5", "Bedrock:x", "openapi:gpt-5", ":x"])
def test_an_unknown_model(setting: str) -> None:
    """The error repeats the setting and lists the providers."""
    with pytest.raises(ConfigurationError) as refusal:
        build_model(setting)
    assert repr(setting) in str(refusal.value)
    for provider in ("anthropic", "bedrock", "ollama", "openai"):
        assert provider in str(refusal.value)


@pytest.mark.parametrize("setting", ["bedrock", "bedrock:"])
def test_a_provider_without_a_model(setting: str) -> None:
    """The error says what to write."""
    with pytest.raises(ConfigurationError, match="write bedrock:<model id>"):
        build_model(setting)


NEEDED = {
    "anthropic": ("anthropic", "anthropic"),
    "gemini": ("google.genai", "gemini"),
    "litellm": ("litellm", "litellm"),
    "llamaapi": ("llama_api_client", "llamaapi"),
    "mistral": ("mistralai", "mistral"),
    "ollama": ("ollama", "ollama"),
    "openai": ("openai", "openai"),
    "openai-responses": ("openai", "openai"),
    "sagemaker": ("mypy_boto3_sagemaker_runtime", "sagemaker"),
    "writer": ("writerai", "writer"),
}


@pytest.mark.parametrize("provider", NEEDED)
def test_a_provider_that_is_not_installed(provider: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the extra to install, and Strands has an extra of that name."""
    package, extra = NEEDED[provider]
    # Whatever is installed here: the package cannot be imported, and nothing that imported it is left.
    monkeypatch.setitem(cast("dict[str, Any]", sys.modules), package, None)
    for module in [name for name in sys.modules if name.startswith("strands.models.")]:
        if module.partition("strands.models.")[2] in {"openai", "openai_responses", provider.replace("-", "_")}:
            monkeypatch.delitem(sys.modules, module)
    with pytest.raises(ConfigurationError) as refusal:
        build_model(f"{provider}:some-model")
    assert f"pip install 'strands-agents[{extra}]'" in str(refusal.value)
    assert extra in importlib.metadata.metadata("strands-agents").get_all("Provides-Extra", [])


def test_an_address_that_is_none(credentials: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a provider's client refuses is a configuration error that says where its settings come from."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_BEDROCK_RUNTIME", "not an address")
    with pytest.raises(ConfigurationError, match=r"cannot be set up: .*environment variables"):
        build_model(f"bedrock:{MODEL_ID}")


async def test_a_model_that_is_not_installed_parks_the_run(start_world: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that is set up wrongly loses no run: the status says what to install."""
    monkeypatch.setitem(cast("dict[str, Any]", sys.modules), "anthropic", None)
    monkeypatch.delitem(sys.modules, "strands.models.anthropic", raising=False)
    async with start_world(model="anthropic:some-model") as world:
        run = await world.start("file-manager", PROMPT)
        await parked(run, because="pip install 'strands-agents[anthropic]'")
        assert await attempts(run) == [1]
