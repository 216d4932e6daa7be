"""The account of lost work: what was rendered twice, and which fault is to blame."""

import json
from pathlib import Path

from tests.faults import ledger
from tests.faults.place import Event


def log(folder: Path, *lines: tuple[float, int, str, dict[str, object]]) -> list[ledger.Call]:
    path = folder / "rendered.jsonl"
    path.write_text(
        "".join(json.dumps({"t": at, "pid": pid, "call": call, **told}) + "\n" for at, pid, call, told in lines)
    )
    return ledger.read(path)


def test_a_killed_worker_costs_what_it_had_not_written_down_and_celery_the_batch(tmp_path: Path) -> None:
    calls = log(
        tmp_path,
        (10, 1, "a", {"begin": ["x", "y", "z"]}),
        (11, 1, "a", {"take": "x"}),
        (12, 1, "a", {"take": "y"}),
        (20, 2, "b", {"begin": ["y", "z"]}),
        (21, 2, "b", {"take": "y"}),
        (22, 2, "b", {"take": "z"}),
        (22, 2, "b", {"end": "complete"}),
    )
    account = ledger.account(
        calls, [Event(12.5, "kill -9", "", frozenset({1})), Event(12.4, "broker", "", frozenset())]
    )
    assert (account.takes, account.keys, account.calls, account.cut) == (4, 3, 2, 1)
    assert account.again == {"kill -9": 1}
    assert account.celery == {"kill -9": 2}


def test_tokens_since_the_last_checkpoint_are_lost_and_no_others(tmp_path: Path) -> None:
    calls = log(
        tmp_path,
        (10, 1, "a", {"begin": ["x", "y"]}),
        (10, 1, "a", {"start": "x", "tokens": 0}),
        (10, 1, "a", {"start": "y", "tokens": 0}),
        (11, 1, "a", {"at": {"x": 50, "y": 70}}),
        (20, 2, "b", {"begin": ["x", "y"]}),
        (20, 2, "b", {"start": "x", "tokens": 40}),
        (20, 2, "b", {"start": "y", "tokens": 70}),
        (21, 2, "b", {"at": {"x": 100, "y": 100}}),
        (21, 2, "b", {"take": "x"}),
        (21, 2, "b", {"take": "y"}),
        (21, 2, "b", {"end": "complete"}),
    )
    account = ledger.account(calls, [Event(11.5, "kill -9", "", frozenset({1}))])
    assert account.tokens == 200
    assert account.tokens_again == {"kill -9": 10}
    assert account.worst == {"kill -9": 1.0}
    assert account.celery_tokens == {"kill -9": 120}
    assert not account.again
    assert list(ledger.broken_promises(account, interval=1)) == []


def test_a_notice_is_not_to_blame_for_what_another_had_begun_before(tmp_path: Path) -> None:
    """Two jobs with the same words: the second batch came to them before the first one was told to stop."""
    calls = log(
        tmp_path,
        (10, 1, "a", {"begin": ["x", "y"]}),
        (10, 1, "a", {"start": "x", "tokens": 0}),
        (11, 1, "a", {"at": {"x": 24}}),
        (11.1, 2, "b", {"begin": ["x"]}),
        (11.5, 1, "a", {"at": {"x": 28}}),
        (11.6, 1, "a", {"end": "stopped"}),
        (12, 2, "b", {"start": "x", "tokens": 0}),
        (13, 2, "b", {"at": {"x": 100}}),
        (13, 2, "b", {"take": "x"}),
        (13, 2, "b", {"end": "complete"}),
    )
    account = ledger.account(calls, [Event(11.4, "notice of 30 seconds", "", frozenset({1}))])
    assert account.tokens_again == {ledger.AT_ONCE: 28}
    assert not list(ledger.broken_promises(account, interval=3))


def test_the_lease_that_was_slept_through_is_to_blame_before_what_came_after(tmp_path: Path) -> None:
    calls = log(tmp_path, (10, 1, "a", {"begin": ["x"]}), (20, 1, "a", {"end": "stopped"}))
    events = [Event(11, "stopped", "", frozenset({1})), Event(19.5, "SIGTERM", "", frozenset({1}))]
    assert ledger.cause(calls[0], events) == "stopped"
    assert ledger.cause(calls[0], events[1:]) == "SIGTERM"
    assert ledger.cause(calls[0], []) == "unknown"


def test_what_costs_more_than_it_may_is_a_finding(tmp_path: Path) -> None:
    calls = log(
        tmp_path,
        (10, 1, "a", {"begin": ["x", "y"]}),
        (10, 1, "a", {"start": "x", "tokens": 0}),
        (11, 1, "a", {"at": {"x": 40}}),
        (30, 1, "a", {"at": {"x": 80}}),
        (40, 2, "b", {"begin": ["x", "y"]}),
        (40, 2, "b", {"start": "x", "tokens": 40}),
        (41, 2, "b", {"at": {"x": 100}}),
        (41, 2, "b", {"take": "x"}),
        (41, 2, "b", {"end": "complete"}),
    )
    struck = frozenset({1})
    killed = ledger.account(calls, [Event(30.5, "kill -9", "", struck)])
    assert killed.worst == {"kill -9": 19.0}
    assert len(list(ledger.broken_promises(killed, interval=3))) == 1
    assert not list(ledger.broken_promises(killed, interval=20))
    told = ledger.account(calls, [Event(30.5, "notice of 2 minutes", "", struck)])
    assert len(list(ledger.broken_promises(told, interval=20))) == 1
    away = [Event(30.5, "notice of 2 minutes", "", struck), Event(28, "S3: no answer at all", "", frozenset())]
    assert not list(ledger.broken_promises(ledger.account(calls, away), interval=20))
