"""`sessions`: what is remembered, shown and forgotten, as the programs that people run; nothing imports Strands."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import boto3
import pytest
from temporalio.client import Client
from typer.testing import CliRunner

from abeyance.cli import app
from abeyance.contracts import Origin
from abeyance.jsonable import jsonable
from abeyance.origins import ORIGINS, entries
from abeyance.places import Place
from abeyance.session_names import session_run_id
from abeyance.sessions import Sessions
from tests.command_line import Cli
from tests.conftest import Start
from tests.processes import address_of, environment, free_port
from tests.sessions import BUCKET, s3, snapshot

SECRET = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "sessions"


@pytest.fixture
def sessions(place: Path) -> Sessions:
    return Sessions(Place(place))


@pytest.fixture
def cli(client: Client, place: Path, tmp_path: Path) -> Cli:
    return Cli(environment(address_of(client), ABEYANCE_SESSIONS=str(place)))


@pytest.fixture
def nowhere(place: Path, tmp_path: Path) -> Cli:
    """A command line that finds no server."""
    return Cli(environment(f"127.0.0.1:{free_port()}", ABEYANCE_SESSIONS=str(place)))


async def test_sessions_are_listed_and_shown(nowhere: Cli, sessions: Sessions, place: Path) -> None:
    """Who remembers how much, since which run, and which values. It takes no server."""
    assert f"Nothing is remembered in {place}." in (await nowhere("sessions")).stdout
    assert "no session 'ann'" in (await nowhere("sessions", "show", "ann", status=3)).stderr
    kept = snapshot("1", "2", **{"files-trust": "t"})
    version = await sessions.save("ann", "files", kept, after=None, mark="session-ann/3")
    kept = snapshot("1")
    kept["data"]["interrupt_state"]["activated"] = True
    await sessions.save("ann", "mail", kept, after=None, mark="session-ann/4")
    await sessions.save("bob", "files", snapshot(), after=None, mark="session-bob/1")

    for command in (["sessions"], ["sessions", "list"]):
        listed = await nowhere.json(*command)
        assert [(i["name"], i["agent"]) for i in listed] == [("ann", "files"), ("ann", "mail"), ("bob", "files")]
        assert "ann" in (await nowhere(*command)).stdout

    shown = (await nowhere("sessions", "show", "ann")).stdout
    assert "files: 2 messages, 0.5 kB, written " in shown
    assert "by session-ann/3" in shown
    assert "files-trust: t" in shown
    assert "left with a question open" in shown
    [files] = (await nowhere.json("sessions", "show", "ann", "--agent", "files"))["agents"]
    assert (files["messages"], files["state"], files["version"]) == (2, {"files-trust": "t"}, version)
    assert (files["written_by"], files["interrupted"]) == ("session-ann/3", False)
    assert "session 'ann' of 'x'" in (await nowhere("sessions", "show", "ann", "--agent", "x", status=3)).stderr


async def test_each_value_says_where_it_comes_from(nowhere: Cli, sessions: Sessions) -> None:
    kept = snapshot("1", trust="t", mode="fast", odd=1)
    granted = Origin("session-ann", "0af1", 2, "2026-11-01T10:00:00+00:00", ["the answer t to 1 pay {} by bob"])
    noted = entries({"trust": "t", "mode": "fast"}, {"trust": granted}, replace(granted, turn=None, answers=[]))
    kept["app_data"] = {ORIGINS: noted}
    await sessions.save("ann", "files", kept, after=None, mark="session-ann/3")
    out = " ".join((await nowhere("sessions", "show", "ann")).stdout.split())
    when = "on 2026-11-01 10:00:00 UTC"
    set_ = f"trust: t It was set {when} in turn 2 of run session-ann (0af1), after the answer t to 1 pay {{}} by bob."
    assert set_ in out
    assert f"mode: fast It was saved {when} by run session-ann (0af1); who had answered what" in out
    assert "odd: 1 No run has written it as it stands" in out
    [files] = (await nowhere.json("sessions", "show", "ann"))["agents"]
    assert files["unknown"] == ["odd"]
    assert files["origins"]["trust"]["answers"] == ["the answer t to 1 pay {} by bob"]


async def test_what_an_agent_remembers_cannot_rewrite_the_terminal(nowhere: Cli, sessions: Sessions) -> None:
    evil = "\x1b[2J\u202e\ud800\x9b"
    await sessions.save("ann", "files", jsonable(snapshot(**{f"k{evil}": f"owned{evil}"})), after=None, mark=evil)
    out = (await nowhere("sessions", "show", "ann")).stdout
    assert "owned" in out
    assert not {"\x1b", "\u202e", "\x9b"} & set(out)
    [agent] = (await nowhere.json("sessions", "show", "ann"))["agents"]
    assert agent["state"] == {f"k{evil}": f"owned{evil}"}


async def test_a_damaged_session_is_named(nowhere: Cli, sessions: Sessions, place: Path) -> None:
    await sessions.save("ann", "files", snapshot(), after=None, mark="m")
    [path] = place.rglob("snapshot_latest.json")
    path.write_text("{")
    assert str(path) in (await nowhere("sessions", "show", "ann", status=1)).stderr
    assert await nowhere.json("sessions", "forget", "ann", "--offline")
    assert not path.exists()


async def test_one_value_is_forgotten(cli: Cli, sessions: Sessions) -> None:
    """A trust goes from all agents that have it, or from one; the conversations stay."""
    for agent in ("a", "b"):
        await sessions.save("ann", agent, snapshot("hello", trust="t", other=1), after=None, mark="m")
    said = await cli.json("sessions", "forget", "ann", "--agent", "a", "--key", "trust")
    assert said == {"session": "ann", "agent": "a", "key": "trust", "forgotten": True}
    assert "Forgot trust in session ann." in (await cli("sessions", "forget", "ann", "--key", "trust")).stdout
    for agent in ("a", "b"):
        stored = await sessions.load("ann", agent)
        assert stored and (stored.state, len(stored.messages)) == ({"other": 1}, 1)
    assert "holds no value 'trust'" in (await cli("sessions", "forget", "ann", "--key", "trust", status=3)).stderr
    assert "no session 'bob'" in (await cli("sessions", "forget", "bob", "--key", "trust", status=3)).stderr


async def test_a_session_is_forgotten(cli: Cli, sessions: Sessions) -> None:
    for agent in ("a", "b"):
        await sessions.save("ann", agent, snapshot(), after=None, mark="m")
    assert "Forgot session ann of a." in (await cli("sessions", "forget", "ann", "--agent", "a")).stdout
    assert [info.agent for info in await sessions.listed()] == ["b"]
    assert "Forgot session ann." in (await cli("sessions", "forget", "ann")).stdout
    assert await sessions.listed() == []
    assert "no session 'ann'" in (await cli("sessions", "forget", "ann", status=3)).stderr


async def test_nothing_is_forgotten_while_a_run_is_open(cli: Cli, sessions: Sessions, start_world: Start) -> None:
    """Neither all nor a value; once the run has ended, both go."""
    name = f"ann-{uuid4().hex[:6]}"
    await sessions.save(name, "file-manager", snapshot(trust="t"), after=None, mark="m")
    async with start_world() as world:
        run = await world.start("file-manager", "Delete a.txt", run=session_run_id(name))
        await run.reaches("waiting")
        for more in ([], ["--key", "trust"]):
            refused = await cli("sessions", "forget", name, *more, status=4)
            assert f"Run '{run.id}' of session '{name}' is waiting" in refused.stderr
        stored = await sessions.load(name, "file-manager")
        assert stored and stored.state == {"trust": "t"}
        await run.handle.cancel()
        await run.reaches("cancelled")
    await cli("sessions", "forget", name, "--key", "trust")
    await cli("sessions", "forget", name)
    assert await sessions.listed() == []


async def test_without_a_server_nothing_is_forgotten_unless_one_says_so(nowhere: Cli, sessions: Sessions) -> None:
    await sessions.save("ann", "a", snapshot(), after=None, mark="m")
    said = (await nowhere("sessions", "forget", "ann", status=1)).stderr
    assert "No Temporal server answers" in said
    assert "add --offline" in said
    assert len(await sessions.listed()) == 1
    await nowhere("sessions", "forget", "ann", "--offline")
    assert await sessions.listed() == []


@pytest.mark.parametrize("command", ["show", "forget"])
async def test_a_name_that_no_session_can_have(nowhere: Cli, command: str) -> None:
    assert "must not hold /" in (await nowhere("sessions", command, "../x", status=2)).stderr


async def test_sessions_on_s3(nowhere: Cli) -> None:
    """Listed and forgotten there; without credentials the command says what to set."""
    prefix = f"cli-{uuid4().hex[:6]}"
    place = f"s3://{BUCKET}/{prefix}"
    with s3() as env:
        boto3.client("s3", region_name="us-east-1", endpoint_url=env["AWS_ENDPOINT_URL_S3"], **SECRET).put_object(
            Bucket=BUCKET,
            Key=f"{prefix}/session/ann/scopes/agent/a/snapshots/snapshot_latest.json",
            Body=json.dumps(snapshot("hello")),
        )
        nowhere.env |= env | {"ABEYANCE_SESSIONS": place}
        assert [(i["name"], i["agent"]) for i in await nowhere.json("sessions")] == [("ann", "a")]
        await nowhere("sessions", "forget", "ann", "--offline")
        assert await nowhere.json("sessions") == []
        nowhere.env |= {name: "" for name in env if "KEY" in name} | {"AWS_SHARED_CREDENTIALS_FILE": "/none"}
        said = (await nowhere("sessions", status=1)).stderr
        assert f"ABEYANCE_SESSIONS is {place}, which cannot be used" in said
        assert "Set the usual AWS variables" in said


@pytest.mark.parametrize("command", [[], ["list"], ["show"], ["forget"]], ids=str)
def test_help(command: list[str]) -> None:
    shown = CliRunner().invoke(app, ["sessions", *command, "--help"])
    assert shown.exit_code == 0
    assert "--json" in shown.output


def test_json_goes_to_the_end() -> None:
    """Before the command it would be overlooked."""
    done = CliRunner().invoke(app, ["sessions", "--json", "list"])
    assert done.exit_code == 2
    assert "sessions list … --json" in done.stderr
