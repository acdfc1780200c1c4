"""A worker that runs workflows and no turns, so that it can die while another worker runs one: `python -m` this."""

from __future__ import annotations

import asyncio
import os

from abeyance.connection import connect
from abeyance.registry import load_agents
from abeyance.settings import Settings
from worker import build_worker


async def serve() -> None:
    """Run workflows until the process is killed."""
    settings = Settings.from_env(os.environ)
    client = await connect(settings)
    async with build_worker(client, settings, load_agents(settings.agents), activities=[]):
        print("ready", flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve())
