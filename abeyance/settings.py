"""Settings: the environment is read here, and nowhere else."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from abeyance.errors import ConfigurationError
from abeyance.places import Place

MOST_SECONDS = 7 * 24 * 3600.0
"""The most that any time may be set to: what a turn may take."""


@dataclass(frozen=True)
class Settings:
    """What the environment says, checked.

    Attributes:
        task_queue: `ABEYANCE_TASK_QUEUE`, the Temporal task queue that workers poll. Default "abeyance".
        agents: `ABEYANCE_AGENTS`, modules or packages that register agents, comma-separated. Default "agents".
        model: `ABEYANCE_MODEL`, "offline" or "<provider>:<model id>". Default "offline".
        workspace: `ABEYANCE_WORKSPACE`, the directory that the example file tools may touch.
            Default ".abeyance/workspace".
        sessions: `ABEYANCE_SESSIONS`, a directory or "s3://bucket/prefix": where sessions are kept between runs.
            Default ".abeyance/sessions".
        storage: `ABEYANCE_STORAGE`, a directory or "s3://bucket/prefix" that all workers and clients share: where
            payloads are kept that are too large for Temporal. Default: nowhere.
        compression: `ABEYANCE_COMPRESSION`, "on" or "off": whether large payloads are compressed. Default on.
        keys: `ABEYANCE_KEYS`, the keys that payloads are encrypted with, as `abeyance.converter` reads them; never
            shown. Default: none, payloads are not encrypted.
        keys_file: `ABEYANCE_KEYS_FILE`, a file that holds them instead.
        codec_token: `ABEYANCE_CODEC_TOKEN`, what the codec server asks of those who want payloads decoded; never shown.
            Default: a new one each time that it starts.
        heartbeat_timeout: `ABEYANCE_HEARTBEAT_TIMEOUT`, in seconds: how long a silent worker is believed to
            live before its turn goes to another one. Default 20.
        shutdown_grace: `ABEYANCE_SHUTDOWN_GRACE`, in seconds: how long a worker that was asked to stop waits
            for tools that are at work. Default 30.
        ui: `ABEYANCE_UI`, where a browser finds the Temporal UI, such as "http://127.0.0.1:8233", so that runs link to
            their own pages there. Default: no links.
        worker_timeout: `ABEYANCE_WORKER_TIMEOUT`, in seconds: how long a command waits for a worker's answer before it
            goes on without one. Default 5.
        test_fault: `ABEYANCE_TEST_FAULT`, for tests only: where the worker kills itself; see `activities.faults`.
    """

    task_queue: str = "abeyance"
    agents: tuple[str, ...] = ("agents",)
    model: str = "offline"
    workspace: Path = Path(".abeyance/workspace")
    sessions: Place = field(default_factory=lambda: Place(Path(".abeyance/sessions")))
    storage: Place | None = None
    compression: bool = True
    keys: str = field(default="", repr=False)
    keys_file: Path | None = None
    codec_token: str = field(default="", repr=False)
    heartbeat_timeout: float = 20.0
    shutdown_grace: float = 30.0
    ui: str = ""
    worker_timeout: float = 5.0
    test_fault: str = ""

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> Settings:
        """Read the settings from `env`; an empty value is an unset one.

        Raises:
            ConfigurationError: if a value cannot be used, or a name that starts with `ABEYANCE_` is unknown.
        """
        known = {
            "ABEYANCE_TASK_QUEUE",
            "ABEYANCE_AGENTS",
            "ABEYANCE_MODEL",
            "ABEYANCE_WORKSPACE",
            "ABEYANCE_SESSIONS",
            "ABEYANCE_STORAGE",
            "ABEYANCE_COMPRESSION",
            "ABEYANCE_KEYS",
            "ABEYANCE_KEYS_FILE",
            "ABEYANCE_CODEC_TOKEN",
            "ABEYANCE_HEARTBEAT_TIMEOUT",
            "ABEYANCE_SHUTDOWN_GRACE",
            "ABEYANCE_UI",
            "ABEYANCE_WORKER_TIMEOUT",
            "ABEYANCE_TEST_FAULT",
        }
        given = {name: value.strip() for name, value in env.items() if name.startswith("ABEYANCE_") and value.strip()}
        if unknown := sorted(set(given) - known):
            public = sorted(known - {"ABEYANCE_TEST_FAULT"})
            close = difflib.get_close_matches(unknown[0], public, 1, cutoff=0.85)
            hint = f"Did you mean {close[0]}? " if close else ""
            raise ConfigurationError(f"Unknown setting {unknown[0]}. {hint}Known: {', '.join(public)}.")
        agents = tuple(name.strip() for name in given.get("ABEYANCE_AGENTS", "agents").split(",") if name.strip())
        return cls(
            task_queue=given.get("ABEYANCE_TASK_QUEUE", cls.task_queue),
            agents=agents,
            model=given.get("ABEYANCE_MODEL", cls.model),
            workspace=Path(given.get("ABEYANCE_WORKSPACE", cls.workspace)),
            sessions=_place(given, "ABEYANCE_SESSIONS") or Place(Path(".abeyance/sessions")),
            storage=_place(given, "ABEYANCE_STORAGE"),
            compression=_switch(given, "ABEYANCE_COMPRESSION", cls.compression),
            keys=given.get("ABEYANCE_KEYS", ""),
            keys_file=Path(given["ABEYANCE_KEYS_FILE"]) if "ABEYANCE_KEYS_FILE" in given else None,
            codec_token=given.get("ABEYANCE_CODEC_TOKEN", ""),
            heartbeat_timeout=_seconds(given, "ABEYANCE_HEARTBEAT_TIMEOUT", cls.heartbeat_timeout, at_least=1),
            shutdown_grace=_seconds(given, "ABEYANCE_SHUTDOWN_GRACE", cls.shutdown_grace, at_least=0),
            ui=_address(given, "ABEYANCE_UI"),
            worker_timeout=_seconds(given, "ABEYANCE_WORKER_TIMEOUT", cls.worker_timeout, at_least=0.1),
            test_fault=given.get("ABEYANCE_TEST_FAULT", ""),
        )


def _place(env: Mapping[str, str], name: str) -> Place | None:
    return Place.parse(env[name], name) if name in env else None


def _address(env: Mapping[str, str], name: str) -> str:
    value = env.get(name, "").rstrip("/")
    if value and not re.fullmatch(r"https?://[A-Za-z0-9._~:\[\]/%-]+", value):
        raise ConfigurationError(
            f"{name} is the address of a web page, such as http://127.0.0.1:8233, not {env[name]!r}."
        )
    return value


def _switch(env: Mapping[str, str], name: str, default: bool) -> bool:
    value = env.get(name, "on" if default else "off").lower()
    if value not in ("on", "off"):
        raise ConfigurationError(f"{name} is on or off, not {env[name]!r}.")
    return value == "on"


def _seconds(env: Mapping[str, str], name: str, default: float, *, at_least: float) -> float:
    if name not in env:
        return default
    try:
        value = float(env[name])
    except ValueError:
        value = float("nan")
    if not at_least <= value <= MOST_SECONDS:
        raise ConfigurationError(
            f"{name} must be a number of seconds, at least {at_least:g} and at most {MOST_SECONDS:g}, "
            f"not {env[name]!r}."
        )
    return value
