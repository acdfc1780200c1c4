"""The one way to a Temporal server, for workers and commands alike."""

from __future__ import annotations

import asyncio
import re
from typing import Any

from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest
from temporalio.client import Client
from temporalio.envconfig import ClientConfig
from temporalio.runtime import Runtime
from temporalio.service import RPCError, RPCStatusCode

from abeyance.converter import data_converter
from abeyance.errors import ConfigurationError
from abeyance.settings import Settings

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


async def connect(settings: Settings, *, timeout: float = 10.0, runtime: Runtime | None = None) -> Client:
    """Connect to the configured server.

    Args:
        settings: they say how payloads are encoded.
        timeout: how long to try, in seconds.
        runtime: of the SDK's core; by default the process's own.

    Raises:
        ConfigurationError: if the keys cannot be used, or no server answers there; the message says where, and how to
            start one.
    """
    converter = data_converter(settings)
    config = connect_config()
    address, namespace = config["target_host"], config.get("namespace") or "default"
    try:
        client = await asyncio.wait_for(Client.connect(**config, data_converter=converter, runtime=runtime), timeout)
    except (RuntimeError, RPCError, TimeoutError) as error:
        raise ConfigurationError(
            f"No Temporal server answers at {address} (namespace {namespace}). "
            "Start one with `python starter.py up`, or set TEMPORAL_ADDRESS to yours. "
            f"[{_said(error)}]"
        ) from error
    try:
        await client.workflow_service.describe_namespace(DescribeNamespaceRequest(namespace=namespace))
    except RPCError as error:
        # Whoever may not look at the namespace may still use it.
        if error.status == RPCStatusCode.NOT_FOUND:
            raise ConfigurationError(
                f"There is no namespace {namespace!r} at {address}. Set TEMPORAL_NAMESPACE, or create it with: "
                f"temporal operator namespace create -n {namespace}"
            ) from error
    return client


def _said(error: Exception) -> str:
    """The last words of a connection error, which repeats itself in several layers."""
    layers = re.findall(r'message: "([^"]*)"', str(error))
    return layers[-1] if layers else (str(error).splitlines() or [type(error).__name__])[0]
