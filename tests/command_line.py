"""The command line as tests run it."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.support import PATIENCE, ROOT

NO_STRANDS = """
import sys


class NoStrands:
    def find_spec(self, name, path=None, target=None):
        if name == "strands" or name.startswith("strands."):
            sys.stderr.write("STRANDS WAS IMPORTED")
            raise ImportError("a command that only talks to Temporal must not import Strands")


sys.meta_path.insert(0, NoStrands())
"""


class Cli:
    """Runs `starter.py` against a server; commands that only talk to Temporal are kept from importing Strands."""

    def __init__(self, env: Mapping[str, str], guard: Path):
        (guard / "sitecustomize.py").write_text(NO_STRANDS)
        self.bare = dict(env)
        self.env = self.bare | {"PYTHONPATH": os.pathsep.join([str(guard), str(ROOT)])}

    async def __call__(self, *arguments: str, status: int = 0, **env: str) -> subprocess.CompletedProcess[str]:
        done = await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "starter.py", *arguments],
            cwd=ROOT,
            env=self.env | env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        assert done.returncode == status, f"{arguments} gave {done.returncode}: {done.stdout}{done.stderr}"
        assert "Traceback" not in done.stderr
        assert "STRANDS" not in done.stderr
        if status not in (0, 2):
            assert done.stderr.startswith("starter: ")
            assert len(done.stderr.splitlines()) == 1
        return done

    async def json(self, *arguments: str, status: int = 0, **env: str) -> Any:
        """Run a command with --json and read its last line."""
        return json.loads((await self(*arguments, "--json", status=status, **env)).stdout.splitlines()[-1])
