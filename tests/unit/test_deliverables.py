"""What a job is delivered as, from what its corpus and its line say."""

from typing import Any

import pytest

from scheduler import options
from storage import errors
from tests import corpus_maker, tones
from workers import deliverables


def resolved(given: dict[str, Any] | None = None, **corpus: Any) -> list[dict[str, Any]]:
    resolver = options.Resolver(tones.Spec(), options.CorpusOptions(**corpus), corpus_maker.VOICE)
    values = resolver.resolve(given or {}).values
    return list(values["deliverables"])


def brief(found: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    return [
        (each["format"], each["bitrate"], each["sample_rate"], each["loudness"], each["preset"], each["folder"])
        for each in found
    ]


def test_one_format_is_one_file() -> None:
    assert brief(resolved()) == [("mp3", "64k", None, None, None, "")]


def test_several_formats_share_what_is_said_for_all() -> None:
    found = brief(resolved(format="m4b, wav,m4b", bitrate="96k", sample_rate=48000, loudness=-16))
    assert found == [("m4b", "96k", 48000, -16.0, None, ""), ("wav", None, 48000, -16.0, None, "")]


def test_a_preset_stands_beside_a_format_in_a_folder_of_its_own() -> None:
    found = brief(resolved(format="mp3", preset="acx", bitrate="32k"))
    assert found == [("mp3", "32k", None, None, None, ""), ("mp3", "192k", 44100, None, "acx", "acx")]
    assert brief(resolved(format=None, preset="acx")) == [("mp3", "192k", 44100, None, "acx", "")]


def test_an_acx_file_has_room_tone_before_and_after() -> None:
    resolver = options.Resolver(tones.Spec(), options.CorpusOptions(preset="acx"), corpus_maker.VOICE)
    values = resolver.resolve({}).values
    assert 500 <= values["head_ms"] <= 1000
    assert 1000 <= values["tail_ms"] <= 5000


def test_a_line_overrules_its_corpus() -> None:
    assert brief(resolved({"format": "opus"}, format="m4b", loudness=-16)) == [
        ("opus", "48k", None, -16.0, None, "")
    ]
    assert brief(resolved({"preset": "acx"}, format="m4b")) == [("mp3", "192k", 44100, None, "acx", "")]
    assert brief(resolved({"bitrate": "32k", "loudness": -20}, format="mp3")) == [
        ("mp3", "32k", None, -20.0, None, "")
    ]


def test_a_line_may_spell_out_every_file() -> None:
    line = [{"format": "mp3", "bitrate": "128k"}, {"format": "mp3", "loudness": -18}, {"preset": "acx"}]
    assert brief(resolved({"deliverables": line}, sample_rate=22050)) == [
        ("mp3", "128k", 22050, None, None, ""),
        ("mp3", "64k", 22050, -18.0, None, "mp3-2"),
        ("mp3", "192k", 44100, None, "acx", "acx"),
    ]


def test_a_corpus_may_spell_out_every_file_of_lines_that_name_none() -> None:
    corpus = {"deliverables": [{"format": "m4b", "loudness": -16}, {"format": "mp3"}], "format": "wav"}
    both = [("m4b", "64k", None, -16.0, None, ""), ("mp3", "64k", None, None, None, "")]
    assert brief(resolved({"seed": 7}, **corpus)) == both
    louder = [("m4b", "64k", None, -16.0, None, ""), ("mp3", "64k", None, -20.0, None, "")]
    assert brief(resolved({"loudness": -20}, **corpus)) == louder
    assert brief(resolved({"format": "opus"}, **corpus)) == [("opus", "48k", None, None, None, "")]
    assert brief(resolved({"preset": "acx"}, **corpus)) == [("mp3", "192k", 44100, None, "acx", "")]
    line = [{"format": "flac"}]
    assert brief(resolved({"deliverables": line}, **corpus)) == [("flac", None, None, None, None, "")]


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"format": "mp4"}, "no audio format 'mp4'"),
        ({"format": ","}, "no audio format is named"),
        ({"format": "mp3", "bitrate": "999k"}, "give one from 16k to 320k"),
        ({"sample_rate": 44000}, "no sample rate of 44000 Hz"),
        ({"sample_rate": 7}, "not one from 8000 to 192000"),
        ({"sample_rate": True}, "not a whole number"),
        ({"loudness": -3}, "not one from -40 to -5 LUFS"),
        ({"loudness": "loud"}, "not a number of LUFS"),
        ({"preset": "vinyl"}, "no preset 'vinyl'; there is acx"),
        ({"deliverables": []}, "not a list of objects"),
        ({"deliverables": [{"bitrate": "64k"}]}, "needs a `format` or a `preset`"),
        ({"deliverables": [{"format": "mp3", "mood": "blue"}]}, "has no 'mood'"),
    ],
)
def test_what_cannot_be_made_is_refused_with_its_reason(given: dict[str, Any], reason: str) -> None:
    with pytest.raises(errors.InputError, match=reason):
        resolved(given)
    if "deliverables" in given:
        with pytest.raises(errors.InputError, match=reason):
            resolved(**given)


def test_every_format_knows_the_rates_that_it_takes() -> None:
    for name in ("wav", "flac"):
        assert deliverables.checked(name, sample_rate=44000).sample_rate == 44000
    with pytest.raises(errors.InputError, match="It has 8000, 12000, 16000, 24000, 48000"):
        deliverables.checked("opus", sample_rate=44100)
