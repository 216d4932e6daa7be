import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler import breaks, cutter, normalise
from scheduler.cutter import Pause, Piece
from scheduler.document import Block
from scheduler.lexicon import Lexicon

TALE = (
    "“It is a capital mistake,” said Mr. Finch, “to light a lamp before one has the match. One begins to see "
    "what one expects; one walks into doors—and, worse, one apologises to them. I have known a man (a tall man, "
    "and otherwise sensible) who bowed to the same hat-stand for 12 years… and was never once answered. No. 7, "
    "Quill Street, it was.”",
    "She laughed. “And you?”",
    "“I? I have no hat.”",
)


def cut(*texts: str | Block, **how: object) -> list[Piece]:
    blocks = [text if isinstance(text, Block) else Block(text) for text in texts]
    return list(cutter.cut(blocks, **how))  # type: ignore[arg-type]


def words(text: str) -> list[str]:
    return re.findall(r"[^\W_]+", text)


def test_a_short_paragraph_is_one_piece() -> None:
    assert cut("One. Two? Three!") == [Piece("One. Two? Three!", 0, Pause.END)]


def test_paragraphs_and_chapters_have_their_silence() -> None:
    pieces = cut(Block("Chapter I", chapter="I"), "Text.", Block("Chapter II", chapter="II"), "Text.")

    assert pieces == [
        Piece("Chapter I.", 600, Pause.PARAGRAPH, "I"),
        Piece("Text.", 1500, Pause.CHAPTER),
        Piece("Chapter II.", 600, Pause.PARAGRAPH, "II"),
        Piece("Text.", 0, Pause.END),
    ]


def test_pauses_can_be_set() -> None:
    pauses = cutter.Pauses(clause_ms=1, sentence_ms=2, paragraph_ms=3, chapter_ms=4)
    sentence = "This sentence has exactly forty-four letters. "

    pieces = cut(sentence * 2, "B.", Block("C.", chapter="C"), "word " * 30, limit=60, pauses=pauses)

    assert [piece.pause_ms for piece in pieces] == [2, 3, 4, 3, 1, 1, 0]


def test_sentences_are_packed_up_to_the_limit() -> None:
    pieces = cut("This sentence has some forty letters in it. " * 12)

    assert [len(piece.text) for piece in pieces] == [219, 219, 87]
    assert [piece.pause for piece in pieces] == [Pause.SENTENCE, Pause.SENTENCE, Pause.END]


def test_a_short_rest_takes_a_sentence_along() -> None:
    sentence = "This sentence has some forty letters in it. "

    pieces = cut(sentence * 5 + "Oh. " + sentence, limit=223)

    assert [piece.text for piece in pieces][-1].startswith("Oh. This sentence")
    pieces = cut(sentence * 4 + "This sentence has forty-odd characters too. Oh no.")
    assert [piece.text for piece in pieces][-1] == "This sentence has forty-odd characters too. Oh no."


def test_a_long_sentence_is_cut_at_its_strongest_marks() -> None:
    clause = "the lamp burned on and nobody came to see it burn"
    text = f"{clause}, {clause}; {clause}, {clause}: {clause}, {clause}."

    pieces = cut(text, limit=120)

    assert [piece.text[-1] for piece in pieces] == [";", ":", "."]
    assert [piece.pause for piece in pieces] == [Pause.CLAUSE, Pause.CLAUSE, Pause.END]


def test_without_marks_it_is_cut_evenly_at_spaces_and_gets_commas() -> None:
    pieces = cut("word " * 60, limit=220)

    assert [len(piece.text) for piece in pieces] == [150, 150]
    assert pieces[0].text.endswith("word,")
    assert pieces[1].text.endswith("word.")


def test_a_quotation_too_long_is_cut_at_the_sentences_inside() -> None:
    inner = "I have seen the lamp. It was quite out. Was it not? "
    pieces = cut(f"“{inner * 6}Go away!” he said; “for ever.”")

    assert all(re.search(r"[.?!][\"']*$", piece.text) for piece in pieces)
    assert not any(piece.text.endswith((' "', " '")) for piece in pieces)
    assert pieces[0].text.startswith('"I have')


def test_marks_that_open_stay_with_what_follows() -> None:
    pieces = cut(
        "She said: " + "(The first of them was here. The second was there.) (And again, again, again.) " * 6
    )

    assert not any(piece.text.rstrip(",.").endswith("(") for piece in pieces)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("CHAPTER ONE", "CHAPTER ONE."),
        ("He said “hello”", 'He said "hello".'),
        ("He said “hello.”", 'He said "hello."'),
        ("Well—", "Well —"),
        ("Hello <laugh>", "Hello <laugh>."),
        ("Hello! <laugh>", "Hello! <laugh>"),
        ("100%", "100%."),
        ("走了。", "走了。"),
        ("क्या।", "क्या।"),
        ("and then…", "and then..."),
    ],
)
def test_every_piece_ends_in_punctuation(text: str, expected: str) -> None:
    assert [piece.text for piece in cut(text)] == [expected]


def test_break_tags_cut_and_set_the_silence() -> None:
    pieces = cut(
        'Wait <break time="500ms"/> for it.<break time="1.2s"/><break time=".3s" />',
        "Next.",
        "<break time='2s'></break>",
        Block('Last <break time="99s"/> of <break time="0s"/> all', chapter="Last"),
        '<break time="1s"/>',
    )

    assert [(piece.text, piece.pause_ms, piece.pause) for piece in pieces] == [
        ("Wait,", 500, Pause.BREAK),
        ("for it.", 1500, Pause.BREAK),
        ("Next.", 2000, Pause.CHAPTER),
        ("Last,", 60_000, Pause.BREAK),
        ("of,", 0, Pause.BREAK),
        ("all.", 1000, Pause.END),
    ]


@pytest.mark.parametrize(
    "tag",
    [
        "<break>",
        "<break/>",
        '<break time="1"/>',
        '<break time="-1s"/>',
        "<break time=1s/>",
        '<break strength="weak"/>',
        "<break time",
        '<BREAK time="1 minute"/>',
    ],
)
def test_a_wrong_break_tag_is_an_error_that_shows_it(tag: str) -> None:
    with pytest.raises(breaks.BreakTagError) as caught:
        cut(f"Before {tag}")

    assert tag in str(caught.value)


def test_other_tags_and_signs_are_text() -> None:
    assert [piece.text for piece in cut("A <breakfast> if 3 < 4 <sigh> then.")] == [
        "A <breakfast> if 3 < 4 <sigh> then."
    ]


def test_what_cannot_be_spoken_leaves_its_silence() -> None:
    pieces = cut("One.", "* * *", Block("—", chapter="II"), "Two.", "***")

    assert pieces == [Piece("One.", 1500, Pause.CHAPTER), Piece("Two.", 0, Pause.END, "II")]
    assert [piece.pause_ms for piece in cut("One.", "* * *", "Two.")] == [1200, 0]


def test_nothing_to_speak_gives_no_piece() -> None:
    assert cut("...", "", '<break time="1s"/>') == []


def test_the_lexicon_respells() -> None:
    lexicon = Lexicon({"finch": "fintch"})

    assert [piece.text for piece in cut("Mr. Finch.", lexicon=lexicon)] == ["Mr. Fintch."]


def test_pieces_come_as_a_stream() -> None:
    def blocks():
        yield Block("One.")
        yield Block("Two.")
        pytest.fail("read further than it had to")

    assert next(cutter.cut(blocks())).text == "One."


@pytest.mark.parametrize("limit", [40, 60, 100, 220, 1000])
def test_no_word_of_a_tale_is_lost(limit: int) -> None:
    pieces = cut(*TALE, limit=limit)

    assert words(" ".join(piece.text for piece in pieces)) == words(normalise.normalise(" ".join(TALE)))
    assert max(len(piece.text) for piece in pieces) <= limit


PROSE = st.lists(
    st.sampled_from(
        [
            *"aIé7你",
            "word",
            "Mr.",
            "lamp",
            "d'or",
            "“",
            "”",
            '"',
            "'",
            "(",
            ")",
            ".",
            "!",
            "?",
            ",",
            ";",
            ":",
            "—",
            "…",
            "-",
        ]
        + [" "] * 12
        + ["\n", "\u00a0", "\u2060", "他来了。", "e\u0301", "x" * 90]
    ),
    max_size=400,
).map("".join)


@given(PROSE, st.integers(40, 230))
def test_no_word_is_lost(text: str, limit: int) -> None:
    pieces = cut(text, limit=limit)

    spoken = "".join(words("".join(piece.text for piece in pieces)))
    assert spoken == "".join(words(normalise.normalise(text)))
    assert all(0 < len(piece.text) <= limit and normalise.speakable(piece.text) for piece in pieces)
    assert all(piece.text[-1] not in " \n" for piece in pieces)


@given(st.lists(st.text(max_size=300), max_size=5))
def test_no_letter_is_lost_of_anything(texts: list[str]) -> None:
    pieces = cut(*(text.replace("<", "") for text in texts), limit=50)

    source = " ".join(normalise.normalise(text.replace("<", "")) for text in texts)
    assert "".join(words("".join(piece.text for piece in pieces))) == "".join(words(source))


HOSTILE = 'x|é|word |a, |a; |“|“Hi. |"Hi. |(a. |Mr. |他来了。|\'a. |a—|<laugh> |a 😀|a.")))'


@pytest.mark.parametrize("unit", HOSTILE.split("|"))
def test_time_is_linear_whatever_comes(unit: str) -> None:
    text = unit * (500_000 // len(unit))
    started = time.monotonic()

    count = sum(1 for _ in cutter.cut([Block(text)]))

    assert time.monotonic() - started < 20  # about a second; the square of the length would be hours
    assert count == 0 or count > 1000


def test_a_limit_too_small_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 40"):
        cut("Text.", limit=10)
