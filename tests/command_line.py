"""The command line as tests run it."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

from tests.forks import WITHOUT_STRANDS, run
from tests.support import PATIENCE, ROOT


class Cli:
    """Runs `starter.py` against a server; commands that only talk to Temporal are kept from importing Strands."""

    def __init__(self, env: Mapping[str, str]):
        self.bare = dict(env)
        self.env = self.bare | {WITHOUT_STRANDS: "1"}

    async def __call__(
        self, *arguments: str, status: int = 0, given: str = "", **env: str
    ) -> subprocess.CompletedProcess[str]:
        done = await asyncio.to_thread(
            run, [sys.executable, "starter.py", *arguments], self.env | env, ROOT, PATIENCE, given
        )
        assert done.returncode == status, f"{arguments} gave {done.returncode}: {done.stdout}{done.stderr}"
        assert "Traceback" not in done.stderr
        assert "STRANDS" not in done.stderr
        if "--json" in arguments and status:
            assert all("error" in line or "warning" in line for line in map(json.loads, done.stderr.splitlines()))
        elif status not in (0, 2):
            assert done.stderr.startswith("starter: ")
            assert len(done.stderr.splitlines()) == 1
        return done

    async def json(self, *arguments: str, status: int = 0, **env: str) -> Any:
        """Run a command with --json and read its last line."""
        return json.loads((await self(*arguments, "--json", status=status, **env)).stdout.splitlines()[-1])
