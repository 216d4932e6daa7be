"""What was heard beside what should have been said."""

import json

import pytest

from workers.engines.engine import Reason
from workers.engines.limits import WIDE
from workers.quality import words

TEXT = "She went down to the harbour before the sun was up, and nobody was there to see her go."


def verdict(text, heard):
    found = words.compare(text, heard)
    if found is None:
        return None
    told = words.judge(json.loads(json.dumps(found.as_dict())), WIDE)
    if told is None:
        return None
    assert told.reason is Reason.WORDS
    assert told.excess > 0
    return told.detail


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Don't STOP!", ["dont", "stop"]),
        ("<laugh> Café, naïve — Ærø", ["cafe", "naive", "ærø"]),
        ("1,984 at 12:45", ["1984", "at", "1245"]),
        ("straße STRASSE", ["strasse", "strasse"]),
        ("ﬁne", ["fine"]),
        ("你好 world", ["你", "好", "world"]),
        ("snake_case ice-cream", ["snake", "case", "ice", "cream"]),
        ("?!… —", []),
    ],
)
def test_words_as_they_are_compared(text, found):
    assert words.words(text) == found


@pytest.mark.parametrize(
    "heard",
    [
        TEXT,
        TEXT.upper(),
        "she went down to the harbor before the sun was up and nobody was there to see her go",
        "She went down to the harbour, before the sun was up and no body was there to see her go",
        "he went down to the harbour before the sun was up and nobody was their to see her go",
    ],
)
def test_spelling_is_no_difference(heard):
    assert verdict(TEXT, heard) is None


@pytest.mark.parametrize(
    ("heard", "ratio", "run"),
    [
        (TEXT, 1.0, 0),
        ("She went down to the harbour, and nobody was there to see her go.", 14 / 19, 5),  # a clause is lost
        (TEXT + " to see her go to see her go", 11 / 19, 8),  # a loop at its end
        ("She went down to the harbour", 6 / 19, 13),
        ("", 0.0, 19),
        ("A warm male voice in his fifties", 0.0, 19),
    ],
)
def test_what_is_lost_or_added_counts(heard, ratio, run):
    found = words.compare(TEXT, heard)
    assert found.ratio == pytest.approx(ratio, abs=0.06)
    assert found.run == pytest.approx(run, abs=1)


def test_a_lost_clause_is_found_although_most_words_are_there():
    text = " ".join(f"word{'abcdefghij'[n % 10] * (n // 10 + 1)}" for n in range(40))
    heard = " ".join(text.split()[:20] + text.split()[26:])
    assert words.compare(text, heard).ratio == pytest.approx(34 / 40)
    assert "6 words in a row were not heard as written, more than 4" in verdict(text, heard)
    scattered = " ".join(word for n, word in enumerate(text.split()) if n % 7)
    assert words.compare(text, scattered).ratio == pytest.approx(34 / 40)
    assert verdict(text, scattered) is None, "as many words, but never two in a row"


def test_too_few_words_are_told_with_what_was_heard():
    assert verdict(TEXT, "something else altogether") == (
        "0% of its words were heard, less than 60%; heard was 'something else altogether'"
    )


@pytest.mark.parametrize(
    ("text", "heard"),
    [
        ("It happened in 1984, they say.", "it happened in nineteen eighty four they say"),
        ("It happened in nineteen eighty-four, they say.", "It happened in 1984, they say."),
        ("They paid £3.50 for it at once.", "they paid three pounds fifty for it at once"),
        ("At 12:45 the clock struck again.", "at twelve forty five the clock struck again"),
        ("An everyday thing to say aloud.", "an every day thing to say aloud"),
        ("Ice-cream for everybody, at last!", "icecream for everybody at last"),
    ],
)
def test_numbers_and_compounds_may_be_written_either_way(text, heard):
    assert words.compare(text, heard).ratio == 1.0


def test_a_number_excuses_no_more_than_a_number():
    heard = "it happened " + "and again " * 20 + "they say"
    assert verdict("It happened in 1984, they say.", heard)


@pytest.mark.parametrize("text", ["No!", "Oh dear me.", "<laugh>", ""])
def test_of_a_few_words_nothing_can_be_said(text):
    assert words.compare(text, "anything") is None


def test_what_was_heard_is_kept_in_part():
    found = words.compare(TEXT, "la " * 1000)
    assert len(found.heard) <= words.HEARD_CHARACTERS
    assert json.loads(json.dumps(found.as_dict()))["run"] > 900
