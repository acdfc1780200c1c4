"""Which code an agent is: what its author calls its version, or a hash of the package that registered it."""

from __future__ import annotations

import hashlib
import sys
from functools import cache
from pathlib import Path

HASH_DIGITS = 12


@cache
def code_version(module: str) -> str:
    """A name for the code of the top-level package, or the single module, that `module` belongs to.

    Args:
        module: a module's full name, imported already.

    Returns:
        "code-" and the first 12 hexadecimal digits of a SHA-256 over the paths and contents of its Python files;
        "unknown" where there are none to be read, as for code that was typed in.
    """
    top = sys.modules.get(module.partition(".")[0])
    file = getattr(top, "__file__", None)
    roots = [Path(root) for root in getattr(top, "__path__", [])]
    files = sorted({path for root in roots for path in root.rglob("*.py")} or ({Path(file)} if file else set()))
    hashed, read = hashlib.sha256(), 0
    for path in files:
        root = next((root for root in roots if path.is_relative_to(root)), path.parent)
        try:
            content = path.read_bytes()
        except OSError:
            continue
        hashed.update(f"{path.relative_to(root).as_posix()}\0{len(content)}\0".encode() + content)
        read += 1
    return f"code-{hashed.hexdigest()[:HASH_DIGITS]}" if read else "unknown"
