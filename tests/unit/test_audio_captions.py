import itertools
import re

from hypothesis import given
from hypothesis import strategies as st

from workers.audio import captions
from workers.audio.captions import Cue

TIME = re.compile(r"(\d\d+):(\d\d):(\d\d)[.,](\d{3}) --> (\d\d+):(\d\d):(\d\d)[.,](\d{3})")
LONG = (
    "Winston Smith, his chin nuzzled into his breast in an effort to escape the vile wind, slipped quickly through the "
    "glass doors of Victory Mansions, though not quickly enough to prevent a swirl of gritty dust from entering."
)


def spans(text: str) -> list[tuple[int, int]]:
    """Start and end of every cue, in milliseconds."""
    times = []
    for match in TIME.findall(text):
        hour, minute, second, ms, *end = map(int, match)
        times.append((hour * 3600_000 + minute * 60_000 + second * 1000 + ms, end))
    return [(start, end[0] * 3600_000 + end[1] * 60_000 + end[2] * 1000 + end[3]) for start, end in times]


def texts(vtt: str) -> list[list[str]]:
    return [block.split("\n")[1:] for block in vtt.strip().split("\n\n")[1:]]


def test_vtt() -> None:
    cues = [Cue(0, 24000, "Hello."), Cue(36000, 24000 * 3725, "If a < b & c --> d.")]
    assert "".join(captions.vtt(cues, 24000)) == (
        "WEBVTT\n\n00:00:00.000 --> 00:00:01.000\nHello.\n"
        "\n00:00:01.500 --> 01:02:05.000\nIf a &lt; b &amp; c --&gt; d.\n"
    )


def test_srt() -> None:
    cues = [Cue(0, 22050, "Hello."), Cue(22050, 44100, "On --> <i>on</i>\n\nand on.")]
    assert "".join(captions.srt(cues, 22050)) == (
        "1\n00:00:00,000 --> 00:00:01,000\nHello.\n\n"
        "2\n00:00:01,000 --> 00:00:02,000\nOn → ‹i›on‹/i› and on.\n\n"
    )


def test_a_long_segment_becomes_several_cues() -> None:
    text = "".join(captions.vtt([Cue(24000, 24000 * 13, LONG)], 24000))
    blocks = texts(text)
    assert len(blocks) >= 3
    assert all(1 <= len(block) <= captions.LINES and max(map(len, block)) <= captions.LINE for block in blocks)
    assert min(len(" ".join(block)) for block in blocks) > 20, "no word is left over for a cue of its own"
    assert " ".join(line for block in blocks for line in block) == LONG
    times = spans(text)
    assert times[0][0] == 1000
    assert times[-1][1] == 13000
    assert all(before[1] == after[0] for before, after in itertools.pairwise(times))


def test_times_do_not_drift_in_thirty_hours() -> None:
    """At 22,050 Hz no segment ends on a whole millisecond; sums of rounded lengths would be seconds off by the end."""
    length, count = 22050 * 4 + 13, 27_000
    cues = (Cue(n * length, (n + 1) * length, "Yes.") for n in range(count))
    *_, last = captions.vtt(cues, 22050)
    ((start, end),) = spans(last)
    assert start == (count - 1) * length * 1000 // 22050
    assert end == count * length * 1000 // 22050
    assert end > 30 * 3600 * 1000


def test_no_cue_without_words_or_length() -> None:
    text = "".join(captions.vtt([Cue(0, 100, "  "), Cue(5, 5, "Hi")], 24000))
    assert text == "WEBVTT\n\n00:00:00.000 --> 00:00:00.001\nHi\n"


@given(
    st.lists(st.text(st.characters(codec="utf-8", categories=("L", "N", "P", "Z")), max_size=300), max_size=5),
    st.integers(1, 48000),
)
def test_any_text_keeps_its_words_and_its_order(lines: list[str], step: int) -> None:
    cues = [Cue(n * step, (n + 1) * step, line) for n, line in enumerate(lines)]
    text = "".join(captions.vtt(cues, 24000))
    assert all(len(block) <= captions.LINES for block in texts(text))
    assert all(start < end for start, end in spans(text))
    starts = [start for start, _ in spans(text)]
    assert starts == sorted(starts)
    numbered = "".join(captions.srt(cues, 24000))
    said = [character for character in "".join(lines) if not character.isspace()]
    shown = [line for block in numbered.split("\n\n") for line in block.split("\n")[2:]]
    if not set(said) & set("<>-→"):
        assert [character for character in "".join(shown) if not character.isspace()] == said
