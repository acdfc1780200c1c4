"""What names a call beyond doubt: the SHA-256 of its canonical JSON."""

from __future__ import annotations

import hashlib
import json
from typing import Any


def digest_of(value: Any) -> str:
    """The SHA-256, in hexadecimal, of the canonical JSON (RFC 8785) of a JSON value."""
    import rfc8785

    try:
        canonical = rfc8785.dumps(value)
    except rfc8785.CanonicalizationError:
        # Integers beyond 2^53 have no canonical form in RFC 8785.
        canonical = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    return hashlib.sha256(canonical).hexdigest()
