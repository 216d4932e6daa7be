"""Webhooks from a fleet: they wait for no assembly, and a deliverer that is killed loses none."""

import json
import os
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import imageio_ffmpeg
import pytest
import sqlalchemy as sa

from storage import signing
from storage.deliveries import AT_ONCE
from storage.models import Delivery, Event, Job
from tests import fleet, receivers

pytestmark = pytest.mark.timeout(240)

PRIVATE = {"VOICEMILL_WEBHOOK_ALLOW_PRIVATE": "true"}
ENCODER = """\
#!/bin/sh
cd "{folder}"
case "$*" in *libmp3lame*)
    if [ -e began ]; then touch waits; while [ ! -e open ]; do sleep 0.1; done; fi
    touch began ;;
esac
exec "{ffmpeg}" "$@"
"""


@pytest.fixture
def receiver() -> Iterator[receivers.Receiver]:
    with receivers.Receiver() as receiver:
        yield receiver


def submit(mill: fleet.Fleet, receiver: receivers.Receiver, count: int, audio_format: str) -> None:
    """Submit a corpus as a producer would; the receiver verifies with the secret that it was told."""
    lines = [json.dumps({"id": f"job-{n}", "text": f"Sentence number {n}."}) for n in range(count)]
    (mill.folder / "corpus.jsonl").write_text("\n".join(lines))
    source = [str(mill.folder / "corpus.jsonl"), "--engine", "slow", "--name", "corpus"]
    told = mill.run("submit", *source, "--format", audio_format, "--webhook", receiver.url).stderr
    receiver.secret = secret(told)
    assert receiver.secret


def secret(told: str) -> str | None:
    """The secret among what a command has said."""
    return next((word for word in told.split() if word.startswith(signing.PREFIX)), None)


def deliveries(mill: fleet.Fleet, *states: str) -> set[str]:
    """The `webhook-id` of each delivery in one of these states; in any, where none is given."""
    query = sa.select(Event.c.message_id).join(Delivery, Delivery.c.event_id == Event.c.id)
    with mill.database.read() as connection:
        return set(connection.scalars(query.where(Delivery.c.state.in_(states)) if states else query))


def deliverer(mill: fleet.Fleet) -> int:
    """The process number of the scheduler's child, which delivers."""
    return next(number for number, line in mill.left_behind().items() if "--name scheduler-" in line)


def test_a_deliverer_killed_in_the_middle_loses_no_event_and_repeats_show_by_their_id(
    make_fleet: Callable[..., fleet.Fleet], rabbitmq_url: str, receiver: receivers.Receiver
) -> None:
    patience = {"VOICEMILL_WEBHOOK_CONNECT_SECONDS": "1", "VOICEMILL_WEBHOOK_TOTAL_SECONDS": "8"}
    mill = make_fleet(rabbitmq_url, settings={**PRIVATE, **patience})
    submit(mill, receiver, 30, "wav")

    def takes_eight(exchange: receivers.Exchange) -> None:
        (receivers.answers(204) if receiver.requests.index(exchange) < 8 else receivers.hangs)(exchange)

    receiver.behaviour = takes_eight
    scheduler = mill.start("scheduler")
    mill.worker()
    receiver.wait_for(8 + AT_ONCE, seconds=fleet.DEADLINE)
    mill.until(lambda: len(deliveries(mill, "delivered")) == 8)
    os.kill(deliverer(mill), signal.SIGKILL)
    unrecorded = deliveries(mill, "sending")
    assert unrecorded == set(receiver.ids[-AT_ONCE:]), "it was killed with events on their way"
    receiver.behaviour = receivers.answers(204)

    mill.until_ended("corpus")
    mill.until(lambda: deliveries(mill) == deliveries(mill, "delivered"))
    assert "scheduler: ended (killed by SIGKILL)" in scheduler.log()
    assert receiver.problems == []  # the public library has verified each
    assert set(receiver.ids) == deliveries(mill)
    times = Counter(receiver.ids)
    assert {message_id for message_id, count in times.items() if count > 1} == unrecorded
    events = {request.message_id: json.loads(request.body) for request in receiver.requests}
    assert all(json.loads(request.body) == events[request.message_id] for request in receiver.requests)
    assert Counter(event["type"] for event in events.values()) == {"job.completed": 30, "corpus.completed": 1}
    jobs = [event["data"]["id"] for event in events.values() if event["type"] == "job.completed"]
    assert sorted(jobs) == sorted(f"job-{n}" for n in range(30))


@pytest.fixture
def ffmpeg(tmp_path: Path) -> Iterator[Path]:
    """A folder with an `ffmpeg` that encodes once, and the next time `waits` until the folder is `open`."""
    program = tmp_path / "ffmpeg"
    program.write_text(ENCODER.format(folder=tmp_path, ffmpeg=imageio_ffmpeg.get_ffmpeg_exe()))
    program.chmod(0o755)
    return tmp_path


def test_what_has_ended_is_told_of_while_the_rest_is_assembled(
    make_fleet: Callable[..., fleet.Fleet], rabbitmq_url: str, receiver: receivers.Receiver, ffmpeg: Path
) -> None:
    """The one thread that assembles takes up 16 jobs, and is then busy; the sweep, which would ring, does not come."""
    given = {"VOICEMILL_FFMPEG": str(ffmpeg / "ffmpeg"), "VOICEMILL_SWEEP_SECONDS": "600", **PRIVATE}
    mill = make_fleet(rabbitmq_url, settings=given)
    submit(mill, receiver, 17, "mp3")
    mill.start("scheduler")
    renderer = mill.worker("--no-assemble")
    mill.until(lambda: mill.segments("corpus", "done") == 17)
    renderer.terminate()
    mill.start("worker", "--assemble-only", "--assemble-threads", "1")
    try:
        mill.until((ffmpeg / "waits").exists)
        receiver.wait_for(16)
        assert mill.scalar(sa.select(Job.c.state).where(Job.c.id == 17)) == "assembling"
    finally:
        (ffmpeg / "open").touch()
    receiver.wait_for(18)
    assert receiver.problems == []
    assert len(set(receiver.ids)) == 18


def test_a_webhook_named_when_a_corpus_is_submitted_again_is_told_of_it(
    make_fleet: Callable[..., fleet.Fleet], redis_url: str, receiver: receivers.Receiver
) -> None:
    mill = make_fleet(redis_url, settings=PRIVATE)
    (mill.folder / "corpus.jsonl").write_text(json.dumps({"id": "one", "text": "Some words."}))
    command = ["submit", str(mill.folder / "corpus.jsonl"), "--engine", "slow", "--format", "wav"]
    assert secret(mill.run(*command).stderr) is None
    receiver.secret = secret(mill.run(*command, "--webhook", receiver.url).stderr)
    assert receiver.secret
    assert secret(mill.run(*command, "--webhook", receiver.url).stderr) is None
    assert [line["url"] for line in mill.json("webhooks", "list")] == [receiver.url]
    mill.start("scheduler")
    mill.worker()
    receiver.wait_for(2, seconds=fleet.DEADLINE)
    told = sorted(json.loads(request.body)["type"] for request in receiver.requests)
    assert told == ["corpus.completed", "job.completed"]
    assert receiver.problems == []
