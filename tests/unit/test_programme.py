"""A programme laid out in samples, and cut into stretches."""

import itertools
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage import segments
from workers import deliverables, reels
from workers.audio import splice
from workers.programme import Programme

RATE = 22050


def programme(lengths: list[tuple[int, int]], head_ms: int = 0, tail_ms: int = 0) -> Programme:
    parts = [
        segments.Part(
            at, f"Text {at}.", "One" if at == 0 else None, pause, f"take-{at}", samples, RATE, None, None
        )
        for at, (samples, pause) in enumerate(lengths)
    ]
    return Programme.of(parts, head_ms, tail_ms)


def heard(strips: list) -> list[tuple[str | None, int]]:
    """Every sample by where it comes from: silence or a take's own sample number."""
    found: list[tuple[str | None, int]] = []
    for strip in strips:
        found += [(strip.take_key, at) for at in range(strip.skip, strip.samples)] if strip.take_key else []
        found += [(None, 0)] * strip.silence
    return found


@given(
    st.lists(st.tuples(st.integers(1, 9), st.integers(0, 2)), min_size=1, max_size=6),
    st.integers(0, 1),
    st.integers(0, 1),
    st.data(),
)
def test_any_two_stretches_are_the_whole(
    lengths: list[tuple[int, int]], head: int, tail: int, data: st.DataObject
) -> None:
    it = programme(lengths, head, tail)
    whole = heard(it.strips())
    assert len(whole) == it.samples == sum(strip.length for strip in it.strips())
    in_takes = {
        at
        for start, part in zip(it.starts, it.parts, strict=True)
        for at in range(start + 1, start + part.samples)
    }
    cut = data.draw(st.integers(0, it.samples).filter(lambda at: at not in in_takes))
    assert heard(it.strips(0, cut)) + heard(it.strips(cut)) == whole
    start = data.draw(st.integers(0, it.samples))  # which may lie inside a take, as a lead-in does
    assert heard(it.strips(start)) == whole[start:]


def test_silence_before_the_sound_moves_cues_and_belongs_to_the_first_chapter() -> None:
    it = programme([(100, 10), (50, 0)], head_ms=1000)
    assert [cue.start_sample for cue in it.cues()] == [RATE, RATE + 100 + 220]
    assert [(chapter.start_sample, chapter.end_sample) for chapter in it.chapters()] == [(0, it.samples)]


@pytest.mark.parametrize("name", ["m4b", "mp3", "opus"])
@pytest.mark.parametrize("file_rate", [None, 48000])
def test_reels_meet_in_silence_at_whole_frames(name: str, file_rate: int | None) -> None:
    it = programme([(RATE * 7 + at * 13, (80, 250, 600)[at % 3]) for at in range(200)])
    wanted = deliverables.checked(name, sample_rate=file_rate)
    planned = reels.plan(it, wanted, None)
    kind = splice.of_format(name)
    assert kind is not None
    assert len(planned) == 5
    rate = planned[0].file_rate
    frame = kind.frame(rate)
    ends = list(itertools.accumulate(reel.count * frame for reel in planned[:-1] if reel.count is not None))
    assert ends[-1] + planned[-1].samples - planned[-1].skip * frame == reels.file_samples(it, rate)
    silences = list(it.silences())
    for end in ends:
        at = Fraction(end * RATE, rate)
        assert any(quiet + (kind.guard - 1) * frame * RATE / rate <= at <= heard for quiet, heard in silences)
    for before, after in itertools.pairwise(planned):
        assert before.strips[-1].silence > 0
        assert after.skip == kind.lead_in
    total = sum(strip.length for reel in planned for strip in reel.strips)
    lead = sum(Fraction(reel.skip * frame * RATE, rate) for reel in planned)
    assert abs(total - lead - it.samples) < len(planned)


def test_no_reels_where_one_encoder_will_do() -> None:
    short = programme([(RATE * 10, 250)] * 50)
    long = programme([(RATE * 10, 250)] * 100)
    assert reels.plan(short, deliverables.checked("m4b"), None) == []
    assert reels.plan(long, deliverables.checked("m4b"), None)
    assert reels.plan(long, deliverables.checked("flac"), None) == []
    assert reels.plan(long, deliverables.checked("wav"), None) == []


def test_a_recipe_is_all_of_a_reel() -> None:
    it = programme([(RATE * 10, 250)] * 100)
    for reel in reels.plan(it, deliverables.checked("mp3", "192k", 44100, -16), 3.5):
        assert reels.Reel.of(reel.recipe()) == reel
    assert (
        reels.plan(it, deliverables.checked("mp3"), 1.0)[0].key
        != reels.plan(it, deliverables.checked("mp3"), None)[0].key
    )


def test_a_programme_without_a_silence_that_is_long_enough_has_one_reel() -> None:
    it = programme([(RATE * 10, 0)] * 100)
    assert len(reels.plan(it, deliverables.checked("m4b"), None)) == 1
