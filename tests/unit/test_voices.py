import re
from pathlib import Path

import pytest

from workers import voices
from workers.engines.espeak import SPEC, speaker
from workers.voices import Voice

REALISTIC = re.compile(
    r"Realistic (male|female) voice in the \d0s age with (american|british|indian) accent\. (Low|Normal|High) pitch, "
    r"(deep|warm|gravelly|smooth|raspy|nasally|throaty|harsh) timbre, (very_slow|slow|conversational|brisk|fast) pacing, "
    r"(neutral|energetic|excited|sad|sarcastic|dry) tone delivery at (low|med|high) intensity, \w+ domain, \w+ role, "
    r"(formal|neutral|casual) delivery\."
)
CREATIVE = re.compile(
    r"Creative, \w+ character\. (Male|Female) voice in their \d0s with american accent\. .*\."
)


@pytest.fixture(scope="module")
def table() -> dict[str, Voice]:
    return voices.load()


def test_descriptions_keep_to_the_form_that_maya1_was_tuned_on(table: dict[str, Voice]) -> None:
    assert 8 <= len(table) <= 16
    for voice in table.values():
        assert REALISTIC.fullmatch(voice.description) or CREATIVE.fullmatch(voice.description), voice.name


def test_every_voice_has_an_espeak_voice_of_its_own(table: dict[str, Voice]) -> None:
    assert len({SPEC.voice(voice) for voice in table.values()}) == len(table)


def test_resolve(table: dict[str, Voice]) -> None:
    assert voices.resolve(" narrator ", table) is table["narrator"]
    made = voices.resolve('A "deep"  voice, tired', table)
    assert made == Voice("", "A 'deep' voice, tired.")
    with pytest.raises(voices.UnknownVoiceError, match=r"'narator' \(did you mean 'narrator'\?\)"):
        voices.resolve("narator", table)


def test_a_users_file_goes_over_the_built_in_one(tmp_path: Path) -> None:
    path = tmp_path / "voices.toml"
    path.write_text('[narrator]\ndescription = "Mine"\n[new]\ndescription = "New"\nespeak = "en-us"\n')
    table = voices.load(path)
    assert table["narrator"] == Voice("narrator", "Mine.")
    assert table["new"].espeak == "en-us"
    assert "storyteller" in table


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[a", "voices.toml is wrong"),
        ("[a]\nespeak = 'en'", "needs a `description`"),
        ("a = 1", "needs a `description`"),
        ("[a]\ndescription = 'x'\npitch = 1", "has 'pitch'; known are description and espeak"),
        ("['a b']\ndescription = 'x'", "name without spaces"),
        ("[a]\ndescription = ' '", "description with words"),
        ("[a]\ndescription = 'x'\nespeak = 3", "no string"),
    ],
)
def test_a_wrong_file_says_where(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "voices.toml"
    path.write_text(content)
    with pytest.raises(voices.VoiceFileError, match=message):
        voices.load(path)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(voices.VoiceFileError, match=r"none\.toml"):
        voices.load(tmp_path / "none.toml")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("en-us", "en-us"),
        ("EN-US+F3", "en-us+f3"),
        ("en-gb", "en"),
        ("en+andrea", "en+Andrea"),
        (" fr + m2 ", "fr+m2"),
    ],
)
def test_an_espeak_voice_by_name(name: str, expected: str) -> None:
    assert speaker.named(name) == expected


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("en-uss", "espeak has no language 'en-uss' \\(did you mean 'en-us'\\?\\)"),
        ("en-us+f33", "espeak has no variant 'f33' \\(did you mean 'f3'\\?\\)"),
        ("", "no language ''"),
        ("en-us+", "no variant ''"),
        ("../en", "no language"),
        ("en+f1+f2", "no variant"),
    ],
)
def test_an_espeak_voice_that_there_is_not(name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SPEC.voice(Voice("mine", "A voice.", name))


@pytest.mark.parametrize(
    ("description", "language", "variants"),
    [
        (
            "Realistic female voice in the 30s age with british accent. High pitch.",
            "en",
            {"f3", "Annie", "belinda"},
        ),
        (
            "Realistic male voice in the 40s age with american accent. Low pitch.",
            "en-us",
            {"m8", "quincy", "adam"},
        ),
        ("An old Scottish woman with a low voice.", "en-gb-scotland", {"grandma", "f1"}),
        ("A man at high intensity, normal pitch.", "en-us", {"m3", "m7", "Alex", "michel"}),
        ("A middle-aged man from New York with a high-pitched voice.", "en-us-nyc", {"rob", "Mario", "Reed"}),
        ("She whispers: a breathy woman.", "en-us", {"whisperf"}),
        ("Male, asian_american accent.", "en-us", {"m3", "m7", "Alex", "michel"}),
        ("Female, middle_eastern accent.", "en", {"f2", "steph", "f5"}),
    ],
)
def test_an_espeak_voice_by_description(description: str, language: str, variants: set[str]) -> None:
    chosen = SPEC.voice(Voice("", description))
    assert chosen == SPEC.voice(Voice("other", description)), "the same words, the same voice"
    spoken, _, variant = chosen.partition("+")
    assert spoken == language
    assert variant in variants


def test_any_description_gives_a_voice_that_exists() -> None:
    descriptions = [
        f"{gender} {kind} {n}" for gender in ("", "man", "woman") for kind in speaker._KINDS for n in range(9)
    ]
    chosen = {speaker.described(description) for description in descriptions}
    assert len(chosen) > 15
    assert {speaker.named(name) for name in chosen} == chosen


@pytest.mark.parametrize(
    ("text", "prepared"),
    [
        ("Well <laugh> then.", "Well then."),
        ("<sigh><laugh_harder> No.", "No."),
        ("a <b> c [[d]]", "a <b> c [[d]]"),
        ("tab\tand\x01command\x00end", "tab and command end"),
        ("half \ud83d pair", "half pair"),
        ("a" * 150, f"{'a' * 70} {'a' * 70} {'a' * 10}"),
        ("好" * 150, "好" * 150),
        ("<laugh>", ""),
    ],
)
def test_what_espeak_gets_to_read(text: str, prepared: str) -> None:
    assert SPEC.prepare(text, SPEC.options()) == prepared
