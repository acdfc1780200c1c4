"""What the numbers depend on: the machine, and the versions of what runs on it."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

from abeyance.devserver import temporal_binary
from bench.contestants import COMPETITOR_PYTHON


def machine() -> dict[str, Any]:
    """The machine, how busy it is at this moment, and the versions, as JSON."""
    models = _values(Path("/proc/cpuinfo"), "model name")
    memory = _values(Path("/proc/meminfo"), "MemTotal")
    said = subprocess.run([temporal_binary(), "--version"], capture_output=True, text=True, check=True).stdout
    return {
        "cpu": models[0] if models else platform.processor(),
        "cores": os.cpu_count(),
        "memory_gib": round(int(memory[0].split()[0]) / 2**20, 1) if memory else None,
        "load_average_at_start": round(os.getloadavg()[0], 2),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "temporalio": version("temporalio"),
        "strands-agents": version("strands-agents"),
        "competitor": _competitor(),
        "temporal CLI": said.strip().removeprefix("temporal version "),
    }


def _competitor() -> dict[str, str] | None:
    """The versions in the competitor's environment, if it is installed."""
    if not COMPETITOR_PYTHON.exists():
        return None
    names = ("temporalio-strands-agents", "strands-agents", "temporalio")
    program = f"from importlib.metadata import version; print(*map(version, {names!r}))"
    said = subprocess.run([str(COMPETITOR_PYTHON), "-c", program], capture_output=True, text=True, check=True).stdout
    return dict(zip(names, said.split(), strict=True))


def _values(file: Path, name: str) -> list[str]:
    if not file.exists():
        return []
    lines = (line.partition(":") for line in file.read_text().splitlines())
    return [value.strip() for key, _, value in lines if key.strip() == name]
