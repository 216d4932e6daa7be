"""`voicemill webhooks`, as it is typed."""

import functools
import json
import os
import signal
import subprocess
import sys

import pytest

from cli import main
from storage import deliveries, outbox
from tests import receivers, servers


@pytest.fixture
def run(tmp_path, sqlite_url, capsys):
    """Run a command in an embedded home: exit code, standard output, standard error."""

    def run(*arguments):
        with pytest.raises(SystemExit) as ended:
            main.main(["--home", str(tmp_path), "webhooks", *arguments])
        told = capsys.readouterr()
        return int(ended.value.code or 0), told.out, told.err

    return run


@pytest.fixture
def told(run):
    """Run a command that must go well: its JSON."""

    def told(*arguments):
        code, out, _ = run(*arguments, "--json")
        assert code == 0
        return json.loads(out)

    return told


@pytest.fixture
def database(sqlite):
    return sqlite


@pytest.fixture
def receiver(monkeypatch):
    monkeypatch.setenv("VOICEMILL_WEBHOOK_ALLOW_PRIVATE", "true")
    with receivers.Receiver() as receiver:
        yield receiver


def happen(database, event_type=outbox.EventType.JOB_FAILED):
    with database.write() as connection:
        return outbox.write(connection, event_type, {"id": "job-1"}, corpus_id=1)


def test_a_secret_is_shown_when_it_is_made_and_never_again(run, told, receiver):
    made = told("add", receiver.url, "--events", "job.failed,corpus.completed")
    assert made["endpoint"] == 1
    rotated = told("rotate", "1")
    assert made["secret"].startswith("whsec_")
    assert rotated["secret"].startswith("whsec_")
    assert made["secret"] != rotated["secret"]
    code, out, _ = run("add", receiver.url + "&again=1")
    assert (code, out.count("whsec_")) == (0, 1)
    shown = [
        run(*words, *style) for words in (["list"], ["deliveries"], ["test", "1"]) for style in ([], ["--json"])
    ]
    assert receiver.url in shown[0][1]
    for code, out, err in shown:
        assert code == 0
        assert "whsec_" not in out + err


def test_a_trial_is_signed_and_tells_what_was_answered(run, told, receiver):
    receiver.secret = told("add", receiver.url)["secret"]
    assert told("test", "1") == {"accepted": True, "status": 204, "error": None, "answer": ""}
    receiver.behaviour = receivers.answers(500, body=b"no disk")
    code, _, err = run("test", "1")
    assert code == 1
    assert "endpoint 1 did not take it: it answered 500. no disk" in err
    assert receiver.problems == []
    assert [json.loads(request.body)["type"] for request in receiver.requests] == ["webhook.test"] * 2
    assert told("deliveries") == []


def test_what_failed_is_listed_and_delivered_again(run, told, receiver, database):
    receiver.secret = told("add", receiver.url)["secret"]
    message_id = happen(database)
    receiver.behaviour = receivers.answers(410, body=b"gone fishing")
    assert told("redeliver", "1") == {"deliveries": 1}
    (failed,) = told("deliveries", "--failed")
    assert (failed["message_id"], failed["status"], failed["answer"]) == (message_id, 410, "gone fishing")
    assert "it answered 410" in run("deliveries", "--failed", "--endpoint", "1")[1]
    assert "disabled: it answered 410 Gone" in run("list")[1]
    code, _, err = run("redeliver", "1")
    assert code == 2
    assert "`voicemill webhooks enable 1` first" in err
    told("enable", "1")
    receiver.behaviour = receivers.answers(200)
    assert told("redeliver", "--failed", "1") == {"deliveries": 1}
    assert told("deliveries")[0]["state"] == deliveries.State.DELIVERED
    assert receiver.ids == [message_id] * 2
    assert told("remove", "1") == {"endpoint": 1, "removed": True}
    assert told("list") == []


def test_what_is_being_sent_is_not_counted_as_delivered_again(told, receiver, database):
    told("add", receiver.url)
    happen(database)
    happen(database)
    with database.write() as connection:
        (claimed,) = deliveries.claim(connection, 1, 60.0)
    assert told("redeliver", str(claimed.id)) == {"deliveries": 0}
    other = str(claimed.id + 1)
    assert told("redeliver", str(claimed.id), other, other) == {"deliveries": 1}


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["add", "https://me:hunter2@example.com/"], "a user name or password"),
        (
            ["add", "https://example.com/", "--events", "job.done"],
            "There is no event 'job.done'. There are job.completed",
        ),
        (["test", "7"], "There is no webhook endpoint 7."),
        (["rotate", "7"], "There is no webhook endpoint 7."),
        (["remove", "7"], "There is no webhook endpoint 7."),
        (["enable", "7"], "There is no webhook endpoint 7."),
        (["redeliver", "7"], "There is no delivery 7."),
        (["redeliver", "--failed", "7"], "There is no webhook endpoint 7."),
        (["redeliver"], "Say which: DELIVERY"),
        (["listen", "--secret", "hunter2"], "That is no webhook secret."),
        (["listen", "--secret", "whsec_"], "That is no webhook secret."),
    ],
)
def test_each_refusal_is_one_line_with_its_reason(run, words, reason):
    code, out, err = run(*words)
    assert (code, out) == (2, "")
    assert reason in err
    assert "hunter2" not in err


def test_a_url_is_listed_as_it_is(run, told):
    told("add", "http://[2001:db8::1]:9000/[b]")
    assert "http://[2001:db8::1]:9000/[b]" in run("list")[1]


def test_an_address_that_is_refused_says_so(run, told, receiver, monkeypatch):
    monkeypatch.delenv("VOICEMILL_WEBHOOK_ALLOW_PRIVATE")
    told("add", receiver.url)
    code, _, err = run("test", "1")
    assert code == 1
    assert "127.0.0.1 is at 127.0.0.1, and webhooks are not sent to private addresses" in err
    assert receiver.connections == 0


def test_what_is_listened_for_is_verified_and_printed(told, receiver, monkeypatch):
    port = servers.free_port()
    made = told("add", f"http://127.0.0.1:{port}/")
    told("add", f"http://127.0.0.1:{port}/other")
    code = "import sys; from cli.main import main; main(sys.argv[1:])"
    command = [sys.executable, "-c", code, "webhooks", "listen", "--port", str(port), "--json"]
    environment = {**os.environ, "VOICEMILL_WEBHOOK_SECRET": made["secret"], "PYTHONUNBUFFERED": "1"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    heed = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # whoever runs us may ignore Ctrl-C
    with subprocess.Popen(command, env=environment, preexec_fn=heed, **pipes) as process:
        assert "listening on" in process.stderr.readline()
        assert told("test", "1")["status"] == 204
        line = process.stdout.readline()
        with pytest.raises(AssertionError):
            told("test", "2")  # signed with another secret
        refused = json.loads(process.stdout.readline())
        process.send_signal(signal.SIGINT)
        assert process.wait() == 130
    assert json.loads(line)["event"]["data"] == {"endpoint": 1}
    assert (refused["event"], refused["refused"]) == (None, "No matching signature found")
    assert made["secret"] not in line
