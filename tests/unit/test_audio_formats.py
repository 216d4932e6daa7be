import struct
import wave
from pathlib import Path

import pytest

from workers.audio import formats, metadata, riff
from workers.audio.metadata import Chapter


@pytest.mark.parametrize("name", ["mp3", "MP3", " .mp3 "])
def test_a_format_is_found_however_it_is_written(name: str) -> None:
    assert formats.by_name(name) is formats.FORMATS["mp3"]


def test_an_unknown_format_says_what_there_is() -> None:
    with pytest.raises(
        formats.UnknownFormatError, match=r"'mp33' \(did you mean 'mp3'\?\).*wav, flac, mp3, opus, m4b"
    ):
        formats.by_name("mp33")
    with pytest.raises(formats.UnknownFormatError, match=r"no audio format 'xyz'\. There are"):
        formats.by_name("xyz")


def test_bitrates() -> None:
    mp3 = formats.FORMATS["mp3"]
    assert mp3.arguments()[-2:] == ["-b:a", "64k"]
    assert mp3.arguments("96k")[-2:] == ["-b:a", "96k"]
    assert mp3.arguments("128")[-2:] == ["-b:a", "128k"]
    assert "-b:a" not in formats.FORMATS["flac"].arguments()
    for name, bitrate in [
        ("mp3", "400k"),
        ("mp3", "fast"),
        ("mp3", "-64k"),
        ("opus", "2k"),
        ("flac", "64k"),
        ("wav", "1"),
    ]:
        with pytest.raises(formats.BadBitrateError, match=name):
            formats.by_name(name).arguments(bitrate)


@pytest.mark.parametrize(
    ("name", "bitrate", "given", "expected"),
    [
        ("opus", None, 22050, 24000),
        ("opus", None, 24000, 24000),
        ("opus", None, 96000, 48000),
        ("mp3", None, 22050, 22050),
        ("mp3", "192k", 24000, 44100),  # MPEG-2 ends at 160 kbit/s
        ("m4b", None, 24000, 24000),
    ],
)
def test_sample_rates(name: str, bitrate: str | None, given: int, expected: int) -> None:
    assert formats.by_name(name).rate(given, bitrate) == expected


def test_metadata_is_escaped() -> None:
    text = metadata.text(
        {"title": "A=B; #1 \\ x", "author": "Ann\x00e", "comment": "two\nlines", "language": "en-GB"},
        [Chapter("One\n = 1", 0, 48000)],
        24000,
    )
    assert text == (
        ";FFMETADATA1\ntitle=A\\=B\\; \\#1 \\\\ x\nartist=Ann e\ncomment=two\\\nlines\nlanguage=eng\n"
        "[CHAPTER]\nTIMEBASE=1/24000\nSTART=0\nEND=48000\ntitle=One \\= 1\n"
    )


@pytest.mark.parametrize(
    ("given", "code"), [("de", "deu"), ("pt_BR", "por"), ("fra", "fra"), ("tlh", None), ("", None)]
)
def test_languages(given: str, code: str | None) -> None:
    assert metadata.language({"language": given}) == code


def test_an_unknown_tag_is_an_error() -> None:
    with pytest.raises(KeyError, match="no tag 'mood'; there are title"):
        metadata.text({"mood": "blue"}, [], 24000)


def test_a_riff_header(tmp_path: Path) -> None:
    path = tmp_path / "short.wav"
    writer = riff.Writer(path, 22050)
    writer.write(b"\x01\x02" * 1000)
    writer.finish()
    assert path.stat().st_size == riff.HEADER_BYTES + 2000
    with wave.open(str(path)) as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (1, 2, 22050)
        assert file.readframes(10_000) == b"\x01\x02" * 1000


def test_above_four_gibibytes_the_header_is_rf64() -> None:
    limit = 2**32 - 1 - (riff.HEADER_BYTES - 8)
    assert riff.header(limit - 1, 24000)[:4] == b"RIFF"
    data_bytes = 5 * 2**32 + 2
    header = riff.header(data_bytes, 24000)
    assert len(header) == riff.HEADER_BYTES
    assert header[:16] == b"RF64\xff\xff\xff\xffWAVEds64"
    sizes, whole, sound, count = struct.unpack_from("<IQQQ", header, 16)
    assert (sizes, whole, sound, count) == (28, data_bytes + riff.HEADER_BYTES - 8, data_bytes, data_bytes // 2)
    assert header[-8:] == b"data\xff\xff\xff\xff"
