import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler import sentences


@pytest.mark.parametrize(
    ("language", "text", "expected"),
    [
        ("en", "Mr. Finch left. So did I!", ["Mr. Finch left. ", "So did I!"]),
        ("en-GB", "Really? Yes.", ["Really? ", "Yes."]),
        (None, "One. Two.", ["One. ", "Two."]),
        ("xx-unknown", "One. Two.", ["One. ", "Two."]),
        ("zh", "他来了。我走了。", ["他来了。", "我走了。"]),
        ("en", '"Go. Now!" he said. She went.', ['"Go. Now!" he said. ', "She went."]),
    ],
)
def test_split(language: str | None, text: str, expected: list[str]) -> None:
    assert sentences.split(text, language) == expected


@given(st.text())
def test_nothing_is_lost(text: str) -> None:
    assert "".join(sentences.split(text)) == text


@pytest.mark.parametrize("unit", ["Hello there. ", "word ", "x", '"Hi. ', "他来了。", "Mr. Holmes said: (a. "])
def test_nothing_is_lost_of_long_texts(unit: str) -> None:
    text = unit * (100_000 // len(unit))

    assert "".join(sentences.split(text)) == text


def test_long_texts_are_split_as_short_ones_are() -> None:
    text = "Mr. Finch lit lamp no. 5 at 5 p.m. and left. " * 500

    assert sentences.split(text) == ["Mr. Finch lit lamp no. 5 at 5 p.m. and left. "] * 500
