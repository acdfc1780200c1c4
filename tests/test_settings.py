"""The environment, read once and strictly."""

from __future__ import annotations

from pathlib import Path

import pytest

from abeyance.errors import ConfigurationError
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
            "ABEYANCE_HEARTBEAT_TIMEOUT": "2.5",
            "ABEYANCE_SHUTDOWN_GRACE": "0",
        }
    )
    assert settings == Settings("files", ("agents", "my.agents"), "bedrock:some.model", Path("/srv/files"), 2.5, 0.0)


def test_an_empty_value_is_an_unset_one_and_blanks_around_it_do_not_count() -> None:
    settings = Settings.from_env(
        {"ABEYANCE_MODEL": "", "ABEYANCE_SHUTDOWN_GRACE": " ", "ABEYANCE_TASK_QUEUE": " files \r", "ABEYANCE_X": ""}
    )
    assert settings == Settings(task_queue="files")


def test_an_unknown_setting_is_refused_and_the_known_are_listed() -> None:
    with pytest.raises(ConfigurationError, match=r"Unknown setting ABEYANCE_MODLE.*ABEYANCE_MODEL"):
        Settings.from_env({"ABEYANCE_MODLE": "offline"})


def test_the_name_for_sessions_is_taken_already() -> None:
    assert Settings.from_env({"ABEYANCE_SESSIONS": "sessions"}) == Settings()


@pytest.mark.parametrize("value", ["soon", "-1", "0.5", "nan", "inf", "1e300", "20s", "604801"])
def test_a_heartbeat_timeout_that_cannot_be_used_is_refused(value: str) -> None:
    with pytest.raises(ConfigurationError, match=f"ABEYANCE_HEARTBEAT_TIMEOUT.*at least 1.*'{value}'"):
        Settings.from_env({"ABEYANCE_HEARTBEAT_TIMEOUT": value})


@pytest.mark.parametrize("value", ["soon", "-0.1", "nan", "inf", "1e300"])
def test_a_shutdown_grace_that_cannot_be_used_is_refused(value: str) -> None:
    with pytest.raises(ConfigurationError, match=f"ABEYANCE_SHUTDOWN_GRACE.*at least 0.*'{value}'"):
        Settings.from_env({"ABEYANCE_SHUTDOWN_GRACE": value})
