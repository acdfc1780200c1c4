"""Text of unknown origin made visible: nothing in it is hidden, turns others round, or looks like another script.

What cannot be seen is shown by its code point, `<U+200B>`, and letters hidden in tag characters as what they spell,
`<hidden "text">`. A word that mixes scripts whose letters look alike is followed by their names, `<⚠ Latin, Cyrillic>`.
"""

# ruff: noqa: RUF001 - letters that look like others are what this is about
from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Collection, Iterable, Iterator
from functools import lru_cache

ZWNJ, ZWJ = "\N{ZERO WIDTH NON-JOINER}", "\N{ZERO WIDTH JOINER}"
EMOJI_STYLE = "\N{VARIATION SELECTOR-15}\N{VARIATION SELECTOR-16}"
KEYCAP = "\N{COMBINING ENCLOSING KEYCAP}"
SKIN_TONES = range(0x1F3FB, 0x1F400)
TAGS = range(0xE0020, 0xE007F)
MOST_MARKS = 6
"""How many marks one letter may carry; Tibetan and vocalised Hebrew need that many, and more run into other lines."""

_UNSEEN = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
_MARKS = {"Mn", "Me"}
_BLANK = re.compile(
    # Letters, marks and symbols that show nothing: fillers, joiners and variation selectors.
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U00016fe4\U0001d159\U000e0100-\U000e01ef]"
)
_JOINED = ("ARABIC", "SYRIAC", "MONGOLIAN", "NKO", "MANDAIC", "ADLAM", "HANIFI")
"""Scripts whose letters change where they meet, so that a non-joiner between two of them can be seen."""
_ALPHABETS = ("LATIN", "GREEK", "CYRILLIC", "ARMENIAN", "CHEROKEE", "COPTIC", "LISU", "MATHEMATICAL")
"""Scripts in which many letters look like those of another one here."""
_UNITS = frozenset("ΓΔΘΛΞΠΣΦΨΩβδθλμπφψω")
"""Greek letters that look like no Latin one, and stand beside those in units and formulas."""
_LATIN_LOOKALIKES = {
    "CYRILLIC": frozenset("АВЕЅІЈКМНОРСТУХҮԌԚԜаеѕіјорсухһԁԛԝҽӏѵ"),
    "GREEK": frozenset("ΑΒΕΖΗΙΚΜΝΟΡΤΥΧοναρυ"),
    "ARMENIAN": frozenset("ՕՍԼօոսհգցզ"),
}
_WORD = re.compile(r"[^\W_]+")
_PLAIN = re.compile(r"[\n\t\x20-\x7e]*")
_NOT_ASCII = re.compile(r"[^\x00-\x7e]")


@lru_cache(maxsize=1_000)
def printable(text: str) -> str:
    """`text` as a person can read it: all of it is seen, and words of mixed scripts are marked.

    Line ends and tabs stay as they are, and every other space becomes a plain one.
    """
    return text if _PLAIN.fullmatch(text) else marked(visible(text))


def visible(text: str) -> str:
    """`text` with stand-ins for whatever is not seen, turns others round or cannot be encoded; without marks.

    Joiners and variation selectors stay where scripts and emoji need them.
    """
    if _PLAIN.fullmatch(text):
        return text
    text = text.replace("\r\n", "\n")
    return "".join(_visible(text)) if any(map(_needs_care, set(text))) else text


def marked(text: str) -> str:
    """`text` with a mark behind each word that may be read as another one: of mixed scripts, or of look-alikes."""
    if text.isascii():
        return text
    disguised = _disguised(text)
    if not disguised and not _is_mixed(_scripts(set(text))):
        return text

    def with_mark(word: re.Match[str]) -> str:
        mark = _mark(word[0], disguised)
        return word[0] if text.startswith(mark, word.end()) else word[0] + mark

    return _WORD.sub(with_mark, text)


def one_line(text: str) -> str:
    """`text` with every run of white space, line ends among it, as one space."""
    return " ".join(text.split())


def escaped(json_text: str) -> str:
    """JSON of the same value, in which whatever is not seen is escaped: nothing of it is lost."""
    return json_text if _PLAIN.fullmatch(json_text) else _NOT_ASCII.sub(_escaped, json_text)


def _visible(text: str) -> Iterator[str]:
    at, marks = 0, 0
    while at < len(text):
        character = text[at]
        category = unicodedata.category(character)
        marks = marks + 1 if category in _MARKS else 0
        if category == "Zs":
            yield " "
        elif character in "\n\t" or (marks <= MOST_MARKS and not _is_unseen(character, category)) or _belongs(text, at):
            yield character
        else:
            end = at + 1
            if ord(character) in TAGS:
                while end < len(text) and ord(text[end]) in TAGS:
                    end += 1
                hidden = "".join(chr(ord(tag) - 0xE0000) for tag in text[at:end])
                yield f'<hidden "{hidden}">'
            else:
                while end < len(text) and text[end] == character:
                    end += 1
                many = f"×{end - at}" if end - at > 1 else ""
                yield f"<U+{ord(character):04X}{many}>"
            at, marks = end, marks and MOST_MARKS
            continue
        at += 1


@lru_cache(maxsize=10_000)
def _needs_care(character: str) -> bool:
    if character in " \n\t":
        return False
    category = unicodedata.category(character)
    return category == "Zs" or category in _MARKS or _is_unseen(character, category)


def _escaped(found: re.Match[str]) -> str:
    character = found[0]
    seen = character.isprintable() and not _BLANK.match(character)
    return character if seen else json.dumps(character)[1:-1]


def _is_unseen(character: str, category: str) -> bool:
    return category in _UNSEEN or bool(_BLANK.match(character))


def _belongs(text: str, at: int) -> bool:
    """Whether what is not seen at `at` does what it is for."""
    character, before, after = text[at], text[at - 1] if at else " ", text[at + 1 : at + 2] or " "
    if character in EMOJI_STYLE:
        return (
            unicodedata.category(before) in ("So", "Sm")
            or before in "‼⁉ℹ〰"
            or (before in "0123456789#*" and after == KEYCAP)
        )
    if character not in (ZWNJ, ZWJ):
        return False
    if unicodedata.combining(before) == 9:
        # After a virama, as Indic scripts write ligatures and their absence.
        return unicodedata.category(after)[0] in "LMZP" or after == " "
    if character == ZWNJ:
        return _is_joined(before) and _is_joined(after)
    emoji = text[at - 2] if at > 1 and (before in EMOJI_STYLE or ord(before) in SKIN_TONES) else before
    return unicodedata.category(emoji) == unicodedata.category(after) == "So"


def _is_joined(character: str) -> bool:
    return unicodedata.category(character)[0] in "LM" and unicodedata.name(character, "").startswith(_JOINED)


def _mark(word: str, disguised: frozenset[str]) -> str:
    if word.isascii():
        return ""
    scripts = _scripts(word)
    if len(scripts) == 1 and scripts[0] in disguised:
        return f"<⚠ {scripts[0].capitalize()}>"
    if not _is_mixed(scripts):
        return ""
    if set(scripts) == {"LATIN", "GREEK"} and all(
        character in _UNITS for character in word if _script(character) == "GREEK"
    ):
        return ""
    return f"<⚠ {', '.join(script.capitalize() for script in scripts)}>"


def _is_mixed(scripts: Collection[str]) -> bool:
    """Whether scripts are not written within one word: more than Latin and one other whose letters look different."""
    alike = [script for script in scripts if script in _ALPHABETS]
    return len(alike) > 1 or len(scripts) > 2 or (len(scripts) == 2 and "LATIN" not in scripts)


def _disguised(text: str) -> frozenset[str]:
    """Scripts of which `text` has nothing but letters that look like Latin ones, beside Latin ones."""
    letters: dict[str, set[str]] = {}
    for character in set(text):
        if script := _script(character):
            letters.setdefault(script, set()).add(character)
    if "LATIN" not in letters:
        return frozenset()
    return frozenset(script for script, alike in _LATIN_LOOKALIKES.items() if letters.get(script, {""}) <= alike)


def _scripts(letters: Iterable[str]) -> list[str]:
    """The scripts of letters, each once, in their order."""
    return list(dict.fromkeys(script for letter in letters if (script := _script(letter))))


@lru_cache(maxsize=10_000)
def _script(character: str) -> str:
    """The script of a letter as its name in Unicode begins; "" for what belongs to none.

    Those that are written together in East Asia count as one.
    """
    if unicodedata.category(character)[0] != "L":
        return ""
    names = unicodedata.name(character, "").replace("HALFWIDTH ", "").replace("FULLWIDTH ", "").split()
    if not names or names[0] in ("MODIFIER", "MICRO", "DOUBLE-STRUCK", "BLACK-LETTER", "SCRIPT"):
        return ""
    if names[0] in ("FEMININE", "MASCULINE", "KELVIN", "ANGSTROM", "LATIN"):
        return "LATIN"
    if names[0] in ("CJK", "HIRAGANA", "KATAKANA", "KATAKANA-HIRAGANA", "HANGUL", "BOPOMOFO", "IDEOGRAPHIC"):
        return "CJK"
    return "GREEK" if names[0] == "OHM" else names[0]
