from pathlib import PurePosixPath as Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler import custom_ids


@pytest.mark.parametrize(
    "custom_id", ["a", "a-b_c.d", "line 12", "Ærø", "第1章", "x" * 200, "com10", "console", "a.b.c"]
)
def test_valid(custom_id: str) -> None:
    assert custom_ids.check(custom_id) is None


@pytest.mark.parametrize(
    ("custom_id", "word"),
    [
        ("", "empty"),
        ("x" * 201, "201 bytes"),
        ("é" * 101, "202 bytes"),
        *((f"a{character}b", "character") for character in '/\\:*?"<>|\n\x00\x7f\x85'),
        (".hidden", "dot"),
        ("ends.", "dot"),
        (" a", "space"),
        ("a ", "space"),
        ("con", "Windows"),
        ("NUL", "Windows"),
        ("aux.txt", "Windows"),
        ("Com1", "Windows"),
        ("LPT9.mp3", "Windows"),
        ("cafe\u0301", "NFC"),
        ("a\ud800", "surrogate"),
    ],
)
def test_invalid(custom_id: str, word: str) -> None:
    reason = custom_ids.check(custom_id)

    assert reason is not None
    assert reason.startswith("the id ")
    assert word in reason


@pytest.mark.parametrize(
    ("path", "root", "expected"),
    [
        ("books/emma.epub", None, "emma"),
        ("shelf/part1/ch2.txt", "shelf", "part1-ch2"),
        ("shelf/a.b.txt", "shelf", "a.b"),
        ("what?.txt", None, "what-"),
        ("aux.txt", None, "_aux"),
        ("...txt", None, "text"),
    ],
)
def test_from_path(path: str, root: str | None, expected: str) -> None:
    assert custom_ids.from_path(Path(path), Path(root) if root else None) == expected


@given(st.text())
def test_any_name_can_be_made_valid(name: str) -> None:
    assert custom_ids.check(custom_ids.made_valid(name)) is None


def test_long_names_stay_apart() -> None:
    one, other = custom_ids.made_valid("é" * 150 + "1"), custom_ids.made_valid("é" * 150 + "2")

    assert one != other


@pytest.mark.parametrize(
    ("title", "expected"),
    [
        ("A Scandal in Bohemia", "a-scandal-in-bohemia"),
        ("The Engineer’s Thumb", "the-engineers-thumb"),
        ("  I. — Début! ", "i-début"),
        ("第1章", "第1章"),
        ("***", ""),
        (
            "one two three four five six seven eight nine ten eleven twelve",
            "one-two-three-four-five-six-seven-eight-nine-ten-eleven",
        ),
    ],
)
def test_slug(title: str, expected: str) -> None:
    assert custom_ids.slug(title) == expected


@given(st.text())
def test_a_slug_fits_any_custom_id(title: str) -> None:
    assert custom_ids.check(f"book-01{custom_ids.slug(title) and '-'}{custom_ids.slug(title)}") is None
