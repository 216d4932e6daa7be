"""Machines that listen to takes: what they make of the words, and what becomes of takes with others."""

import types
from threading import Event

import pytest
import sqlalchemy as sa

from scheduler import planner
from storage import batches
from storage.database import Database
from storage.models import Segment, Take
from storage.objects import open_store
from tests import corpus_maker, tones
from workers import render
from workers.engines import espeak
from workers.engines.engine import Request
from workers.engines.engine import Take as Rendered
from workers.quality import recogniser, words
from workers.quality.settings import ListenSettings

TEXT = "The river runs through the old town."


@pytest.fixture
def mill(sqlite_url, tmp_path):
    database = Database(sqlite_url)
    yield render.Mill(database, open_store(str(tmp_path / "store")), tones.Spec(), tones.Tones(), "me")
    database.close()


def listened(mill, hear, share=1.0):
    """Everything rendered by a worker that listens so."""
    one = render.Mill(
        mill.database, mill.store, mill.spec, mill.engine, "me", hear=recogniser.patient(hear), hear_share=share
    )
    while True:
        planner.plan(one.database, "tones", planner.Plan(workers=1, linger_seconds=0))
        with one.database.read() as connection:
            batch_id = batches.next_ready(connection, "tones")
        if batch_id is None:
            break
        render.run(one, batch_id, Event())
    with one.database.read() as connection:
        return list(connection.execute(sa.select(Segment).order_by(Segment.c.id)))


def metrics(mill):
    with mill.database.read() as connection:
        return [row.metrics for row in connection.execute(sa.select(Take.c.metrics))]


def test_other_words_are_one_more_attempt_and_then_need_a_listen(mill):
    corpus_maker.accepted(mill.database, [TEXT, "The clocks were striking thirteen."])
    rows = listened(mill, lambda pcm, rate, language: TEXT)
    assert [(row.reason, row.attempts) for row in rows] == [(None, 0), ("words", 2)]
    assert f"heard was {TEXT!r}" in rows[1].detail
    assert all(words.compare(TEXT, TEXT).as_dict().keys() == each["words"].keys() for each in metrics(mill))


def test_words_are_compared_again_wherever_the_take_is_used(mill):
    corpus_maker.accepted(mill.database, [TEXT])
    listened(mill, lambda pcm, rate, language: "something else was said here")
    corpus_maker.accepted(mill.database, [TEXT], name="another")
    heard = []
    rows = listened(mill, lambda *take: heard.append(take))
    assert [row.reason for row in rows] == ["words", "words"]
    assert heard == [], "nobody listens twice"


def test_a_share_of_takes_is_listened_to(mill):
    corpus_maker.accepted(mill.database, [f"{TEXT} It is number {n}." for n in range(40)])
    heard = []
    listened(mill, lambda *take: heard.append(take), share=0.25)
    assert 2 <= len(heard) <= 20


def test_what_fails_another_check_is_not_listened_to(mill):
    corpus_maker.accepted(mill.database, [f"QUIET: {TEXT}"])
    heard = []
    listened(mill, lambda *take: heard.append(take))
    assert heard == []


def test_a_recogniser_that_breaks_ends_no_batch(mill, caplog):
    corpus_maker.accepted(mill.database, [TEXT])

    def broken(pcm, rate, language):
        raise RuntimeError("out of memory")

    (row,) = listened(mill, broken)
    assert (row.state, row.reason) == ("done", None)
    assert "which passes unheard: RuntimeError: out of memory" in caplog.text
    assert "words" not in metrics(mill)[0]


def test_it_is_off_unless_asked_for(monkeypatch):
    assert recogniser.listening().hear is None
    monkeypatch.setenv("VOICEMILL_ASR", "pocketsphinx")
    monkeypatch.setenv("VOICEMILL_ASR_SHARE", "0.5")
    monkeypatch.setattr(recogniser, "_pocketsphinx", lambda chosen: lambda *take: "heard")
    pytest.importorskip("pocketsphinx")
    found = recogniser.listening()
    assert (found.share, found.hear(b"", 16000, None)) == (0.5, "heard")


def test_a_library_or_a_model_that_is_missing_is_told(monkeypatch):
    monkeypatch.setattr(recogniser.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(
        recogniser.RecogniserUnavailableError,
        match=r"faster_whisper is not installed \(pip install 'voicemill\[asr\]'\)",
    ):
        recogniser.load(ListenSettings(asr="whisper"))
    monkeypatch.setattr(recogniser.importlib.util, "find_spec", lambda name: types)

    def no_model(chosen):
        raise FileNotFoundError("no model in /nowhere")

    monkeypatch.setattr(recogniser, "_whisper", no_model)
    with pytest.raises(
        recogniser.RecogniserUnavailableError, match=r"no model in /nowhere\. Set VOICEMILL_ASR=off"
    ):
        recogniser.load(ListenSettings(asr="whisper"))


def test_a_real_recogniser_hears_real_speech():
    """PocketSphinx and espeak, both small and rough: half of the words is what they come to."""
    pytest.importorskip("pocketsphinx")
    hear = recogniser.load(ListenSettings(asr="pocketsphinx"))
    engine = espeak.SPEC.load()
    try:
        (take,) = engine.render([Request("key", TEXT, "en-us", 0, {"rate": 150})], Event())
    finally:
        engine.close()
    assert isinstance(take, Rendered)
    assert hear(take.pcm, take.sample_rate, "de") is None, "it knows English only"
    heard = hear(take.pcm, take.sample_rate, "en-GB")
    right = words.compare(TEXT, heard)
    wrong = words.compare("Nobody had ever written such a letter to her.", heard)
    assert right.ratio > 0.3, heard
    assert wrong.ratio < right.ratio
