"""What a file says of itself: tags and chapters, as the text that ffmpeg reads (`ffmetadata`)."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

TAGS = ("title", "artist", "album", "track", "comment", "language")
TOO_LONG = 2**31  # samples: a chapter that MP4 cannot count; it gets its times in milliseconds
_SPELLINGS = {"author": "artist"}
_SPECIAL = re.compile(r"([=;#\\\n])")
_CONTROLS = re.compile("[\x00-\x09\x0b-\x1f\x7f]")

# ISO 639-2 codes, which MP4 wants, of the languages most read aloud. Others go untagged.
_LANGUAGES = {
    "ar": "ara", "bn": "ben", "bg": "bul", "ca": "cat", "cs": "ces", "da": "dan", "de": "deu", "el": "ell", "en": "eng",
    "es": "spa", "et": "est", "fa": "fas", "fi": "fin", "fr": "fra", "gu": "guj", "he": "heb", "hi": "hin", "hr": "hrv",
    "hu": "hun", "id": "ind", "it": "ita", "ja": "jpn", "kn": "kan", "ko": "kor", "lt": "lit", "lv": "lav", "ml": "mal",
    "mr": "mar", "nb": "nob", "nl": "nld", "no": "nor", "pa": "pan", "pl": "pol", "pt": "por", "ro": "ron", "ru": "rus",
    "sk": "slk", "sl": "slv", "sr": "srp", "sv": "swe", "ta": "tam", "te": "tel", "th": "tha", "tr": "tur", "uk": "ukr",
    "ur": "urd", "vi": "vie", "zh": "zho",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Chapter:
    """A chapter mark, in samples of the sound that is written."""

    title: str
    start_sample: int
    end_sample: int


def text(tags: Mapping[str, str], chapters: Iterable[Chapter], sample_rate: int) -> str:
    """The ffmetadata file. Raises KeyError for a tag that is none of TAGS."""
    chapters, ticks = list(chapters), sample_rate
    if any(chapter.end_sample - chapter.start_sample >= TOO_LONG for chapter in chapters):
        ticks = 1000
        chapters = [
            Chapter(
                each.title, each.start_sample * ticks // sample_rate, each.end_sample * ticks // sample_rate
            )
            for each in chapters
        ]
    return "".join(f"{line}\n" for line in _lines(tags, chapters, ticks))


def language(tags: Mapping[str, str]) -> str | None:
    """The three letters that MP4 and ID3 have for the tagged language (BCP 47), None where there are none."""
    code = tags.get("language", "").lower().replace("_", "-").partition("-")[0]
    return code if code in _LANGUAGES.values() else _LANGUAGES.get(code)


def _lines(tags: Mapping[str, str], chapters: Iterable[Chapter], sample_rate: int) -> Iterator[str]:
    yield ";FFMETADATA1"
    for name, value in tags.items():
        name = _SPELLINGS.get(name, name)
        if name not in TAGS:
            raise KeyError(f"no tag {name!r}; there are {', '.join(TAGS)}")
        if name != "language":
            yield f"{name}={_escaped(value)}"
    if (code := language(tags)) is not None:
        yield f"language={code}"
    for chapter in chapters:
        yield "[CHAPTER]"
        yield f"TIMEBASE=1/{sample_rate}"
        yield f"START={chapter.start_sample}"
        yield f"END={chapter.end_sample}"
        yield f"title={_escaped(' '.join(chapter.title.split()))}"


def _escaped(value: str) -> str:
    return _SPECIAL.sub(r"\\\1", _CONTROLS.sub(" ", value))
