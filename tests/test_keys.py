"""Keys as they are set: strictly read, and never shown."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from abeyance.converter.encryption import Keys
from abeyance.errors import ConfigurationError
from abeyance.settings import Settings
from tests.support import a_key

A, B = a_key("a"), a_key("b")
SECRET = base64.b64encode(bytes(range(32))).decode()


@pytest.mark.parametrize(
    "text",
    [
        "a",
        SECRET,
        f":{SECRET}",
        f"{SECRET}:a",
        f"{SECRET.rstrip('=')}:{SECRET}",
        f"a:{SECRET[:-4]}",
        f"a:{SECRET}{SECRET}",
        f"a:{SECRET.replace('=', '!')}",
        f"a:{SECRET},a:{SECRET}",
        f"a:{SECRET},",
        f"a b:{SECRET}",
        f"ä:{SECRET}",
    ],
    ids=str,
)
def test_what_is_no_key_is_refused_without_being_shown(text: str, tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text(text.replace(",", "\n") or "#")
    file.chmod(0o600)
    for wrong in (("", file), (text, None)):
        if text.endswith(",") and wrong[1]:
            continue  # an empty line is none
        with pytest.raises(ConfigurationError) as refused:
            Keys.of(*wrong)
        assert ("ABEYANCE_KEYS" if wrong[0] else str(file)) in str(refused.value)
        assert SECRET[:6] not in str(refused.value)


def test_a_file_holds_a_key_per_line(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text(f"# the new one\n\n{B}  # since May\n{A}\n")
    file.chmod(0o640)
    assert Keys.of("", file)
    for broken, words in (
        (0o644, "Everybody may read .*: chmod o= "),
        (0o602, "Everybody may write .*: chmod o= "),
        (0o660, "A group may write .*: chmod g-w "),
        (0o620, "A group may write .*: chmod g-w "),
    ):
        file.chmod(broken)
        with pytest.raises(ConfigurationError, match=words):
            Keys.of("", file)
    file.chmod(0o600)
    tmp_path.chmod(0o777)
    with pytest.raises(ConfigurationError, match=r"Everybody may replace .*: chmod o-w "):
        Keys.of("", file)
    tmp_path.chmod(0o1777)
    assert Keys.of("", file)
    with pytest.raises(ConfigurationError, match="not both"):
        Keys.of(A, file)
    with pytest.raises(ConfigurationError, match="cannot be read: No such file"):
        Keys.of("", tmp_path / "none")
    file.write_text("# nothing\n")
    with pytest.raises(ConfigurationError, match="holds no key"):
        Keys.of("", file)
    file.write_bytes(b"\xff")
    with pytest.raises(ConfigurationError, match="is no text"):
        Keys.of("", file)


def test_settings_do_not_show_keys() -> None:
    assert SECRET not in repr(Settings(keys=f"a:{SECRET}", codec_token=SECRET))
