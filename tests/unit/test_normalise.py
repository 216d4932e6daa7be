import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler import normalise


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("“Hello,” she said.", '"Hello," she said.'),
        ("don’t ’tis the boys’", "don't 'tis the boys'"),
        ("«\u00a0Bonjour\u202f», dit-il", '"Bonjour", dit-il'),
        ("»Guten Tag«, sagte er", '"Guten Tag", sagte er'),
        ("wait—what", "wait — what"),
        ("wait\u2060—what", "wait — what"),
        ("wait -- what --- no", "wait — what — no"),
        ("“But—” he said", '"But —" he said'),
        ("he said:—“I”", 'he said: —"I"'),
        ("1914–18 and London–Paris", "1914-18 and London-Paris"),
        ("yes – no", "yes — no"),
        ("well-known non\u2011breaking 5 \u2212 3", "well-known non-breaking 5 - 3"),
        ("wait…what", "wait... what"),
        ("wait . . . what", "wait ... what"),
        ("wait.....", "wait..."),
        ("co\u00adoper\u200bate", "cooperate"),
        ("\ufeffstart\u200e", "start"),
        ("a\x07b\x00c\ttab\r\nline\x0bfeed", "abc tab line feed"),
        ("10\u00a0000\u2009km\u3000far", "10 000 km far"),
        ("Great 😀! See 👩‍👩‍👧‍👦 and 👍🏽 and ❤️.", "Great! See and and."),
        ("Hello👍world", "Hello world"),
        ("1️⃣ first", "1 first"),
        ("20\u00a0°C, 5㎏ ⌘ №7", "20 °C, 5kg No. 7"),
        ("\ufb01ne 𝐁𝐨𝐥𝐝", "fine Bold"),
        ("cafe\u0301", "café"),
        ("می\u200cخواهم", "می\u200cخواهم"),
        ("<break time=“500ms”/> <laugh> 3 < 4", '<break time="500ms"/> <laugh> 3 < 4'),
        ("  plain  ascii \n text ", "plain ascii text"),
        ("", ""),
        ("  ", ""),
    ],
)
def test_spellings(text: str, expected: str) -> None:
    assert normalise.normalise(text) == expected


@given(st.text())
def test_twice_is_once(text: str) -> None:
    once = normalise.normalise(text)

    assert normalise.normalise(once) == once
    assert unicodedata.is_normalized("NFC", once)
    assert once == " ".join(once.split())


SEPARATORS = st.sampled_from(
    [" ", "—", "…", " – ", "--", "\u00a0", ", ", "😀", "”", " “", ". . . ", "\u2060—\u2060"]
)


@given(st.lists(st.tuples(st.from_regex(r"[a-zé]{1,6}", fullmatch=True), SEPARATORS), min_size=1))
def test_words_never_join_nor_vanish(parts: list[tuple[str, str]]) -> None:
    text = "".join(word + separator for word, separator in parts)
    quotes_touch = "(?<=[a-zé])”(?=[a-zé])"  # a quote inside a word parts nothing, before or after

    spoken = normalise.normalise(re.sub(quotes_touch, "” ", text))

    assert re.findall(r"\w+", spoken) == [word for word, _ in parts]


@pytest.mark.parametrize("text", ["a", "1", "…é…", "你", "'t"])
def test_letters_and_digits_can_be_spoken(text: str) -> None:
    assert normalise.speakable(text)


@pytest.mark.parametrize("text", ["", " ", "* * *", "—", "...", '"?!"', "_", "\u0301"])
def test_marks_alone_cannot_be_spoken(text: str) -> None:
    assert not normalise.speakable(text)
