"""What was rendered, by whom, how often, and which fault was to blame: the account of lost work."""

import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.faults.place import Event

BLAME_SECONDS = 40.0  # a fault may be the cause of what ends so much later
NOTICES = ("SIGTERM", "notice of 2 minutes", "notice of 30 seconds")
ENDS = frozenset({*NOTICES, "SIGTERM twice", "kill -9", "stopped"})  # of the process that it strikes
AWAY = ("S3: ", "Postgres ")  # so begin the kinds that keep a worker from storing anything
AWAY_BEFORE, AWAY_AFTER = 15.0, 10.0  # seconds around the end of a process in which that matters
AT_ONCE = "the same words in two batches at once"
BESIDE = ", with the store or the database away"
SLACK = 5.0  # seconds that a busy machine may add to the interval between two checkpoints


@dataclass
class Call:
    """A batch, or what was left of it, at the engine."""

    number: str
    process: int
    begun: float
    keys: list[str]
    last: float = 0.0  # when it was last heard of
    end: str = "killed"  # complete, stopped, left (whoever took the results gave up), or never told
    takes: dict[str, float] = field(default_factory=dict)  # when each was made
    started: dict[str, int] = field(default_factory=dict)  # tokens that a sequence went on from
    reached: dict[str, int] = field(default_factory=dict)  # tokens that it got to
    steps: dict[str, list[tuple[float, int]]] = field(default_factory=dict)  # when, and tokens by then

    @property
    def is_cut(self) -> bool:
        return len(self.takes) < len(set(self.keys))

    @property
    def made(self) -> int:
        """Tokens that it made itself."""
        return sum(tokens - self.started[key] for key, tokens in self.reached.items())

    def seconds_beyond(self, key: str, tokens: int) -> float:
        """How long it worked on a sequence beyond so many tokens."""
        steps = self.steps[key]
        since = max((at for at, by_then in steps if by_then <= tokens), default=steps[0][0])
        return steps[-1][0] - since

    def reach(self, key: str, tokens: int, at: float) -> None:
        """A sequence has so many tokens now."""
        self.reached[key] = tokens
        self.steps.setdefault(key, []).append((at, tokens))


@dataclass
class Account:
    """Work that was done more than once, by cause."""

    calls: int
    cut: int
    takes: int  # made, all told
    keys: int  # that were to be made
    again: Counter[str]  # takes that were made again, by cause
    tokens: int  # of sequences that were needed
    tokens_again: Counter[str]  # that were made again, by cause
    worst: dict[str, float]  # seconds of work on one sequence that were lost at once, by cause
    celery: Counter[str]  # takes that plain Celery would have made again, by cause
    celery_tokens: Counter[str]  # and tokens


def read(path: Path) -> list[Call]:
    """The engines' log."""
    calls: dict[str, Call] = {}
    for line in path.read_text().splitlines():
        told = json.loads(line)
        number, at = told["call"], told["t"]
        if "begin" in told:
            calls[number] = Call(number, told["pid"], at, told["begin"])
        call = calls[number]
        call.last = at
        if "take" in told:
            call.takes[told["take"]] = at
        elif "start" in told:
            call.started[told["start"]] = told["tokens"]
            call.reach(told["start"], told["tokens"], at)
        elif "at" in told:
            for key, tokens in told["at"].items():
                call.reach(key, tokens, at)
        elif "end" in told:
            call.end = told["end"]
    return sorted(calls.values(), key=lambda call: call.begun)


def account(calls: Sequence[Call], events: Sequence[Event]) -> Account:
    """Who is to blame for what was rendered twice; and what plain Celery would have rendered twice, for the same faults.

    Plain Celery: `acks_late`, one message a batch, no leases and no takes: a delivery that is lost or cut short is
    rendered again from its beginning. Counted is what it had rendered by then.
    """
    again: Counter[str] = Counter()
    celery: Counter[str] = Counter()
    tokens_again: Counter[str] = Counter()
    celery_tokens: Counter[str] = Counter()
    worst: dict[str, float] = {}
    makers: defaultdict[str, list[Call]] = defaultdict(list)
    reached: dict[str, int] = {}
    blamed: dict[str, Call] = {}
    for call in calls:
        if call.is_cut or call.end == "killed":
            blame = cause(call, events)
            celery[blame] += len(call.takes)
            celery_tokens[blame] += call.made
        for key in call.takes:
            if makers[key]:
                again[_cause_of_double(makers[key][-1], call, events)] += 1
            makers[key].append(call)
        for key, start in call.started.items():
            lost = reached.get(key, 0) - start
            if lost > 0:
                blame = _cause_of_double(blamed[key], call, events)
                tokens_again[blame] += lost
                worst[blame] = max(worst.get(blame, 0.0), blamed[key].seconds_beyond(key, start))
            if call.reached[key] >= reached.get(key, 0):
                reached[key], blamed[key] = call.reached[key], call
    return Account(
        calls=len(calls),
        cut=sum(call.is_cut for call in calls),
        takes=sum(len(call.takes) for call in calls),
        keys=len(makers),
        again=again,
        tokens=sum(reached.values()),
        tokens_again=tokens_again,
        worst=worst,
        celery=celery,
        celery_tokens=celery_tokens,
    )


def broken_promises(account: Account, interval: float) -> Iterator[str]:
    """What cost more than it may: a notice anything at all, a kill more than the seconds between two checkpoints."""
    for kind in NOTICES:
        if account.again[kind] or account.tokens_again[kind]:
            yield f"{kind}: {account.again[kind]} takes and {account.tokens_again[kind]} tokens were rendered again"
    if account.worst.get("kill -9", 0.0) > interval + SLACK:
        yield f"kill -9 cost {account.worst['kill -9']:.1f} s of a sequence, with a checkpoint every {interval:g} s"


def cause(call: Call, events: Sequence[Event]) -> str:
    """The fault that ended a call: one that struck its process, where there is one, else the nearest that struck all.

    A process that slept too long had lost its lease by then, whatever came after.
    """
    until = call.last + 1.0
    mine = [
        event
        for event in events
        if event.kind in ENDS and call.begun - 1 < event.at <= until and call.process in event.processes
    ]
    if mine:
        slept = [event for event in mine if event.kind == "stopped" and call.end != "killed"]
        blamed = (slept or mine)[-1]
        return blamed.kind + (BESIDE if _anything_away(blamed, events) else "")
    after = until + BLAME_SECONDS if call.end == "left" else until
    everybody = [
        event
        for event in events
        if event.kind not in ENDS and call.begun - BLAME_SECONDS < event.at <= after
        if not event.processes or call.process in event.processes
    ]
    nearest = min(everybody, key=lambda event: abs(event.at - call.last), default=None)
    return nearest.kind if nearest is not None else "unknown"


def _anything_away(ending: Event, events: Sequence[Event]) -> bool:
    """Whether a worker that was ended may not have been able to store anything just then."""
    first, last = ending.at - AWAY_BEFORE, ending.at + AWAY_AFTER
    return any(event.kind.startswith(AWAY) and first < event.at < last for event in events)


def _cause_of_double(first: Call, second: Call, events: Sequence[Event]) -> str:
    """Why the second call did what the first has done. When it began it had read how far others were, and no later."""
    blame = cause(first, events)
    at_once = second.begun < first.last
    return AT_ONCE if at_once and (not first.is_cut or blame in NOTICES) else blame
