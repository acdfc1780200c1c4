"""The environment, read once and strictly."""

from __future__ import annotations

from pathlib import Path

import pytest

from abeyance.errors import ConfigurationError
from abeyance.places import Place
from abeyance.settings import Settings


def test_an_empty_environment_gives_the_defaults() -> None:
    settings = Settings.from_env({"PATH": "/bin", "OTHER": "1"})
    assert settings == Settings()
    assert (settings.task_queue, settings.agents, settings.model) == ("abeyance", ("agents",), "offline")
    assert settings.workspace == Path(".abeyance/workspace")
    assert (settings.heartbeat_timeout, settings.shutdown_grace) == (20.0, 30.0)


def test_every_setting_is_read() -> None:
    settings = Settings.from_env(
        {
            "ABEYANCE_TASK_QUEUE": "files",
            "ABEYANCE_AGENTS": "agents, my.agents ,,",
            "ABEYANCE_MODEL": "bedrock:some.model",
            "ABEYANCE_WORKSPACE": "/srv/files",
            "ABEYANCE_SESSIONS": "s3://our-bucket/agents/sessions/",
            "ABEYANCE_STORAGE": "/srv/payloads",
            "ABEYANCE_COMPRESSION": "Off",
            "ABEYANCE_KEYS": "k1:secret",
            "ABEYANCE_KEYS_FILE": "/run/secrets/keys",
            "ABEYANCE_HEARTBEAT_TIMEOUT": "2.5",
            "ABEYANCE_SHUTDOWN_GRACE": "0",
            "ABEYANCE_UI": "https://temporal.example.com/ui/",
            "ABEYANCE_WORKER_TIMEOUT": "0.5",
        }
    )
    assert settings == Settings(
        task_queue="files",
        agents=("agents", "my.agents"),
        model="bedrock:some.model",
        workspace=Path("/srv/files"),
        sessions=Place(bucket="our-bucket", prefix="agents/sessions"),
        storage=Place(directory=Path("/srv/payloads")),
        compression=False,
        keys="k1:secret",
        keys_file=Path("/run/secrets/keys"),
        heartbeat_timeout=2.5,
        shutdown_grace=0.0,
        ui="https://temporal.example.com/ui",
        worker_timeout=0.5,
    )
    assert "secret" not in repr(settings).replace("/run/secrets/", "")


def test_an_empty_value_is_an_unset_one_and_blanks_around_it_do_not_count() -> None:
    settings = Settings.from_env(
        {"ABEYANCE_MODEL": "", "ABEYANCE_SHUTDOWN_GRACE": " ", "ABEYANCE_TASK_QUEUE": " files \r", "ABEYANCE_X": ""}
    )
    assert settings == Settings(task_queue="files")


def test_an_unknown_setting_is_refused_and_the_known_are_listed() -> None:
    with pytest.raises(ConfigurationError, match=r"Unknown setting ABEYANCE_MODLE.*ABEYANCE_MODEL"):
        Settings.from_env({"ABEYANCE_MODLE": "offline"})


@pytest.mark.parametrize("value", ["s3://", "s3:///prefix", "s3://A", "gs://bucket", "https://bucket.example/x"])
def test_a_place_that_is_none_is_refused(value: str) -> None:
    with pytest.raises(ConfigurationError, match="ABEYANCE_SESSIONS must be a directory or s3://bucket/prefix"):
        Settings.from_env({"ABEYANCE_SESSIONS": value})


def test_a_switch_is_on_or_off() -> None:
    with pytest.raises(ConfigurationError, match="ABEYANCE_COMPRESSION is on or off, not 'yes'"):
        Settings.from_env({"ABEYANCE_COMPRESSION": "yes"})


@pytest.mark.parametrize("value", ["soon", "-1", "0.5", "nan", "inf", "1e300", "20s", "604801"])
def test_a_heartbeat_timeout_that_cannot_be_used_is_refused(value: str) -> None:
    with pytest.raises(ConfigurationError, match=f"ABEYANCE_HEARTBEAT_TIMEOUT.*at least 1.*'{value}'"):
        Settings.from_env({"ABEYANCE_HEARTBEAT_TIMEOUT": value})


@pytest.mark.parametrize("value", ["soon", "-0.1", "nan", "inf", "1e300"])
def test_a_shutdown_grace_that_cannot_be_used_is_refused(value: str) -> None:
    with pytest.raises(ConfigurationError, match=f"ABEYANCE_SHUTDOWN_GRACE.*at least 0.*'{value}'"):
        Settings.from_env({"ABEYANCE_SHUTDOWN_GRACE": value})
