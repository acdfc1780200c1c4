"""What a worker tells its workflows beside their input.

These values only reach the attributes of commands that a replay does not compare, so they may differ between
workers and change between deployments.
"""

from __future__ import annotations

from abeyance.settings import Settings

heartbeat_timeout: float = Settings.heartbeat_timeout


def configure(settings: Settings) -> None:
    """Set the values for this process, once, before its worker starts."""
    global heartbeat_timeout  # noqa: PLW0603 - the workflow's module has no other door, see above
    heartbeat_timeout = settings.heartbeat_timeout
