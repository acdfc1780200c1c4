"""The one way to a Temporal server, for workers and commands alike."""

from __future__ import annotations

import asyncio
from typing import Any

from temporalio.client import Client
from temporalio.envconfig import ClientConfig
from temporalio.service import RPCError

from abeyance.errors import ConfigurationError

DEFAULT_ADDRESS = "localhost:7233"


def connect_config() -> dict[str, Any]:
    """The arguments for `Client.connect`, from Temporal's own environment variables and TOML profile.

    Raises:
        ConfigurationError: if Temporal's configuration cannot be read.
    """
    try:
        config = dict(ClientConfig.load_client_connect_config())
    except Exception as error:
        what = " ".join(str(error).split())
        raise ConfigurationError(f"Temporal's client configuration cannot be read: {what}") from error
    config.setdefault("target_host", DEFAULT_ADDRESS)
    return config


async def connect(*, timeout: float = 10.0) -> Client:
    """Connect to the configured server.

    Args:
        timeout: how long to try, in seconds.

    Raises:
        ConfigurationError: if no server answers there; the message says where, and how to start one.
    """
    config = connect_config()
    address, namespace = config["target_host"], config.get("namespace", "default")
    try:
        return await asyncio.wait_for(Client.connect(**config), timeout)
    except (RuntimeError, RPCError, TimeoutError) as error:
        raise ConfigurationError(
            f"No Temporal server answers at {address} (namespace {namespace}). "
            "Start one with `python starter.py up`, or set TEMPORAL_ADDRESS to yours. "
            f"[{str(error).splitlines()[0] if str(error) else type(error).__name__}]"
        ) from error
