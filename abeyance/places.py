"""Where things are kept beside Temporal: a directory of this machine, or a prefix of an S3 bucket."""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from abeyance.errors import ConfigurationError

HOME = Path(".abeyance")
"""What the embedded server and the defaults of the settings keep on this machine: prompts, results, sessions, logs."""
SHAPE = re.compile(r"s3://(?P<bucket>[a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?:/(?P<prefix>.*?))?/?")


@dataclass(frozen=True)
class Place:
    """A directory, or a bucket with a prefix that is empty or ends without a slash; the other is `None`."""

    directory: Path | None = None
    bucket: str | None = None
    prefix: str = ""

    @classmethod
    def parse(cls, text: str, setting: str) -> Place:
        """Read a place as it is set: a directory, or "s3://bucket/prefix".

        Args:
            text: what was set, not empty.
            setting: the setting's name, for the error's words.

        Raises:
            ConfigurationError: if it is an address of another kind, or names no bucket.
        """
        if "://" not in text:
            return cls(directory=Path(text))
        fits = SHAPE.fullmatch(text)
        if not fits:
            raise ConfigurationError(f"{setting} must be a directory or s3://bucket/prefix, not {text!r}.")
        return cls(bucket=fits["bucket"], prefix=fits["prefix"] or "")

    def __str__(self) -> str:
        """The place as it is set."""
        return str(self.directory) if self.directory else f"s3://{self.bucket}/{self.prefix}".rstrip("/")

    def key(self, name: str) -> str:
        """The key of `name` in the bucket."""
        return f"{self.prefix}/{name}" if self.prefix else name


def s3_client() -> Any:
    """An S3 client as the usual AWS variables and files say, the endpoint included; safe to use from threads."""
    from boto3.session import Session
    from botocore.config import Config

    # Not boto3's default session, which threads must not share while they create clients.
    return Session().client("s3", config=Config(retries={"mode": "standard", "max_attempts": 4}, connect_timeout=10))


def sync(directory: Path) -> None:
    """Have the names in a directory survive a loss of power: a file that was renamed into it is safe only then."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_private(directory: Path) -> None:
    """Make a directory, and those that lead to it, for this user alone; it is still there after a power cut.

    Those that exist are left as they are.
    """
    if directory.is_dir():
        return
    make_private(directory.parent)
    directory.mkdir(mode=0o700, exist_ok=True)
    sync(directory.parent)


def close_home(home: Path = HOME) -> None:
    """Take `home` and the files right in it from everybody but this user; what is below is out of reach with that.

    Raises:
        ConfigurationError: if everybody may look into it, and it belongs to somebody else.
    """
    for path in (home, *(path for path in home.iterdir() if path.is_file() and not path.is_symlink())):
        mode = stat.S_IMODE(path.stat().st_mode)
        try:
            if mode & 0o077:
                path.chmod(mode & 0o700)
        except FileNotFoundError:
            continue
        except PermissionError as error:
            if mode & 0o007:
                raise ConfigurationError(
                    f"Everybody may read {path}, which holds what runs say. Have its owner close it: chmod go= {path}"
                ) from error
