"""Encryption of payloads with AES-256-GCM, under keys that have names, so that they can be changed while runs wait."""

from __future__ import annotations

import base64
import binascii
import os
import re
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from google.protobuf.message import DecodeError
from temporalio.api.common.v1 import Payload

from abeyance.errors import ConfigurationError, UnknownKeyError, UnreadablePayloadError

ENCRYPTED = b"binary/encrypted"
KEY_ID = "encryption-key-id"
NAME = re.compile(r"[A-Za-z0-9._-]{1,32}")
KEY_BYTES, NONCE_BYTES, TAG_BYTES = 32, 12, 16
FORM = "A key is written as name:base64, with a name of up to 32 letters, digits and .-_, and the base64 of 32 bytes"


class Keys:
    """The keys that payloads are encrypted with.

    Args:
        keys: 32 bytes by name. The first one encrypts, all of them decrypt; without any, nothing is encrypted.
    """

    def __init__(self, keys: Mapping[str, bytes]):
        self._keys = {name: AESGCM(key) for name, key in keys.items()}
        self._first = next(iter(keys), None)

    @classmethod
    def of(cls, text: str, file: Path | None) -> Keys:
        """Read the keys as they are set.

        Args:
            text: the value of `ABEYANCE_KEYS`: "name:base64", more of them after commas.
            file: that of `ABEYANCE_KEYS_FILE`: a file with a key per line, and comments after "#".

        Raises:
            ConfigurationError: if both are set, or one cannot be used. No message holds anything of a key.
        """
        if text and file:
            raise ConfigurationError("Set ABEYANCE_KEYS or ABEYANCE_KEYS_FILE, not both.")
        if not file:
            return cls(_parsed("ABEYANCE_KEYS", enumerate(text.split(","), 1), "entry") if text else {})
        lines = ((number, line.partition("#")[0]) for number, line in enumerate(_read(file).splitlines(), 1))
        keys = _parsed(f"The file {file}", ((number, line) for number, line in lines if line.strip()), "line")
        if not keys:
            raise ConfigurationError(f"The file {file} (ABEYANCE_KEYS_FILE) holds no key. {FORM}, one per line.")
        return cls(keys)

    def __bool__(self) -> bool:
        """Whether anything is encrypted."""
        return self._first is not None

    def encrypted(self, payload: Payload) -> Payload:
        """The payload encrypted with the first key."""
        assert self._first is not None
        nonce = os.urandom(NONCE_BYTES)
        name = self._first.encode()
        sealed = self._keys[self._first].encrypt(nonce, payload.SerializeToString(), _bound(name))
        return Payload(metadata={"encoding": ENCRYPTED, KEY_ID: name}, data=nonce + sealed)

    def decrypted(self, payload: Payload) -> Payload:
        """Undo `encrypted`.

        Raises:
            UnreadablePayloadError: if it was not made with the key that it names. What has another shape than
                encrypted payloads have is found out without any key, so that all workers say the same of it.
            UnknownKeyError: if the key that it names is not known here.
        """
        given = payload.metadata.get(KEY_ID, b"")
        name = given.decode(errors="replace")
        if not NAME.fullmatch(name) or len(payload.data) < NONCE_BYTES + TAG_BYTES:
            raise UnreadablePayloadError("It says that it is encrypted, and it does not have the shape of that.")
        key = self._keys.get(name)
        if key is None:
            raise UnknownKeyError(
                f"A payload is encrypted with the key {name!r}, which is not known here. "
                "Add it to ABEYANCE_KEYS or ABEYANCE_KEYS_FILE, behind the key that is to encrypt.",
                name,
            )
        try:
            nonce, sealed = payload.data[:NONCE_BYTES], payload.data[NONCE_BYTES:]
            return Payload.FromString(key.decrypt(nonce, sealed, _bound(given)))
        except (InvalidTag, DecodeError) as error:
            raise UnreadablePayloadError(
                f"It says that it is encrypted with the key {name!r}, and it does not open with it: it was altered, "
                "or made with another key of that name."
            ) from error


def _bound(name: bytes) -> bytes:
    """What is authenticated beside the payload: none can be passed off as made with another key."""
    return ENCRYPTED + b":" + name


def _parsed(where: str, entries: Iterable[tuple[int, str]], unit: str) -> dict[str, bytes]:
    keys: dict[str, bytes] = {}
    for number, entry in entries:
        # Nothing of the entry is shown: who mixes up the halves would have the key shown as the name.
        name, _, encoded = entry.strip().partition(":")
        try:
            key = base64.b64decode(encoded.strip(), validate=True)
        except (binascii.Error, ValueError):
            key = b""
        if not NAME.fullmatch(name) or len(key) != KEY_BYTES:
            raise ConfigurationError(f"{where}, {unit} {number}: this is no key. {FORM}.")
        if name in keys:
            raise ConfigurationError(f"{where}, {unit} {number}: an earlier key has the same name.")
        keys[name] = key
    return keys


def _read(file: Path) -> str:
    try:
        with file.open(encoding="utf-8") as opened:
            _require_private(file, os.fstat(opened.fileno()))
            return opened.read()
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"The file {file} (ABEYANCE_KEYS_FILE) is no text. {FORM}, one per line.") from error
    except OSError as error:
        raise ConfigurationError(
            f"The keys in {file} (ABEYANCE_KEYS_FILE) cannot be read: {error.strerror}."
        ) from error


def _require_private(file: Path, about: os.stat_result) -> None:
    """Refuse keys that others may read, or could replace by keys of their own."""
    mode, directory = stat.S_IMODE(about.st_mode), file.resolve().parent
    around = stat.S_IMODE(directory.stat().st_mode)
    if mode & (stat.S_IROTH | stat.S_IWOTH):
        may = "read" if mode & stat.S_IROTH else "write"
        raise ConfigurationError(f"Everybody may {may} the keys in {file} (ABEYANCE_KEYS_FILE): chmod o= {file}")
    if mode & stat.S_IWGRP:
        raise ConfigurationError(f"A group may write the keys in {file} (ABEYANCE_KEYS_FILE): chmod g-w {file}")
    if around & stat.S_IWOTH and not around & stat.S_ISVTX:
        raise ConfigurationError(
            f"Everybody may replace the keys in {file} (ABEYANCE_KEYS_FILE): chmod o-w {directory}"
        )
