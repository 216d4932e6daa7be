from pathlib import Path

from scheduler import custom_ids, cutter, lexicon, readers
from scheduler.document import Document
from workers import voices

EXAMPLES = Path(__file__).parents[2] / "examples"


def test_the_story_has_chapters_a_pause_and_a_few_minutes_of_text() -> None:
    (story,) = readers.read([str(EXAMPLES / "the-lamplighter.md")])
    assert isinstance(story, Document)

    pieces = list(cutter.cut(story.blocks, language=story.language))

    assert (story.title, story.language) == ("The Lamplighter of Quill Street", "en-GB")
    assert sum(piece.chapter is not None for piece in pieces) == 4
    assert sum(piece.pause is cutter.Pause.BREAK for piece in pieces) == 1
    assert 400 < len(" ".join(piece.text for piece in pieces).split()) < 500


def test_the_lines_can_all_be_spoken() -> None:
    table = voices.load()

    lines = list(readers.read([str(EXAMPLES / "lines.jsonl")]))

    assert len(lines) == 9
    for line in lines:
        assert isinstance(line, Document), line
        assert custom_ids.check(line.custom_id) is None
        assert voices.resolve(line.options["voice"], table)
        assert list(cutter.cut(line.blocks))
    assert any("options" in line.options for line in lines if isinstance(line, Document))


def test_the_lexicon_respells_what_the_story_says() -> None:
    words = lexicon.Lexicon.load(EXAMPLES / "lexicon.toml")

    assert words.apply("Orla and Nuadha, 5 km away.") == "Or-la and Noo-ah-ha, 5 kilometres away."
