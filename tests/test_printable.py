"""Text of others: nothing in it is hidden, turns the rest round, or passes for another script."""

# ruff: noqa: RUF001 - letters that look like others are what this is about
from __future__ import annotations

import json
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from abeyance.printable import escaped, printable, visible

PEOPLE_WRITE = [
    "naïve façade, Łódź, Việt Nam, İstanbul, ß, ﬁne, “quotes” … №5 – ok",
    "می‌خواهم کارهای‌شان را ببینم، کار‌ها",  # Persian, with joiners that are not seen but do something
    "क्‍ष न्‌ह क्षत्रिय",  # Hindi, after a virama
    "ශ්‍රී ලංකා",
    "👨‍👩‍👧 ❤️‍🔥 1️⃣ 👩🏽‍🚀 🏳️‍🌈 ✔️",
    "Tシャツを3Dプリンタで、カタカナと漢字",
    "Kpop팬 한국어ㅋㅋ",
    "10 μm, 5 kΩ, 3Ω, 7 µs, Δt, TGFβ",
    "Сколько стоит apple? файл.txt, пример.com",
    "הWindows ใช้iPhoneได้ שָׁלוֹם",
    "Ωμέγα και alpha",
    "ℵ0 ℓ ℝ x² H₂O kª",
]


@pytest.mark.parametrize("text", PEOPLE_WRITE)
def test_what_people_write_is_shown_as_it_is(text: str) -> None:
    assert printable(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\u200bb\u200b\u200b", "a<U+200B>b<U+200B×2>"),
        ("pay \u202e1000001", "pay <U+202E>1000001"),
        ("ba\u00adnk", "ba<U+00AD>nk"),
        ("rm\U000e0020\U000e002d\U000e0072\U000e0066x", 'rm<hidden " -rf">x'),
        ("a\u2028b\u2029c\x85d\x0be", "a<U+2028>b<U+2029>c<U+0085>d<U+000B>e"),
        ("a\ufe01\ufe0f\ufe0fb", "a<U+FE01><U+FE0F×2>b"),
        ("x\U000e0100\U000e0101", "x<U+E0100><U+E0101>"),
        ("\u3164\uffa0\u115f\u2800\u034f", "<U+3164><U+FFA0><U+115F><U+2800><U+034F>"),
        ("\ue000\U000f0000\u0378", "<U+E000><U+F0000><U+0378>"),
        ("half \ud83d", "half <U+D83D>"),
        ("\x1b[2J\x00\r", "<U+001B>[2J<U+0000><U+000D>"),
        ("a\u200db\u200cc", "a<U+200D>b<U+200C>c"),
        ("日本\u200d語", "日本<U+200D>語"),
        ("\u200cمی\u200c", "<U+200C>می<U+200C>"),
        ("z" + "\u0301" * 30 + "x", "z" + "\u0301" * 6 + "<U+0301×24>x"),
        ("one\r\ntwo\tthree\u00a0four\u3000five", "one\ntwo\tthree four five"),
    ],
)
def test_what_is_not_seen_is_shown_by_a_stand_in(text: str, shown: str) -> None:
    assert visible(text) == shown
    assert printable(text) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("to p\u0430ypal now", "to p\u0430ypal<⚠ Latin, Cyrillic> now"),
        ("pay-\u0440al", "pay-\u0440al<⚠ Cyrillic, Latin>"),
        ("g\u03bfogle", "g\u03bfogle<⚠ Latin, Greek>"),
        ("/home/\u0430/x", "/home/\u0430<⚠ Cyrillic>/x"),
        ("\u0440\u0430\u0443\u0440\u0430\u0443.com", "\u0440\u0430\u0443\u0440\u0430\u0443<⚠ Cyrillic>.com"),
        ("\U0001d5badmin", "\U0001d5badmin<⚠ Mathematical, Latin>"),
        ("\u13aample", "\u13aample<⚠ Cherokee, Latin>"),
        ("漢д字", "漢д字<⚠ Cjk, Cyrillic>"),
    ],
)
def test_a_word_that_may_be_read_as_another_is_marked(text: str, shown: str) -> None:
    assert visible(text) == text
    assert printable(text) == printable(shown) == shown


@given(st.text(st.characters(codec=None)))
def test_all_of_it_is_seen(text: str) -> None:
    """Nothing that has no width or no meaning is left, but joiners and styles between what they join or style."""
    shown = visible(text)
    shown.encode()
    for at, character in enumerate(shown):
        category = unicodedata.category(character)
        if character in "\u200c\u200d\ufe0e\ufe0f":
            assert unicodedata.category(shown[at - 1])[0] in "LMSPN"
        else:
            assert category[0] != "C" or character in "\n\t"
            assert category not in ("Zl", "Zp")
            assert category != "Zs" or character == " "
    assert visible(shown) == shown


@given(st.text(st.characters(codec=None)))
def test_json_that_is_printed_is_json_of_the_same(text: str) -> None:
    """And holds nothing that is not seen, either."""
    printed = escaped(json.dumps({text: [text]}, ensure_ascii=False))
    assert printed.isprintable()
    assert json.loads(printed) == {text: [text]}
