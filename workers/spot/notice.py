"""What a cloud says before it takes a machine away."""

from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import StrEnum


class Kind(StrEnum):
    """What is going to happen to this machine."""

    TERMINATE = "terminate"  # it is deleted
    STOP = "stop"  # it is switched off; its disk stays
    HIBERNATE = "hibernate"  # it is frozen, at once, and may go on some day
    PREEMPT = "preempt"  # it is evicted: deleted or switched off, as its owner has set
    REBALANCE = "rebalance"  # the risk has risen, nothing is decided yet


@dataclass(frozen=True, slots=True)
class Notice:
    """One notice. The same `identity` from the same provider is the same notice, however often it is read."""

    provider: str
    kind: Kind
    deadline: float | None  # seconds left when it was read, None where the cloud does not say
    urgent: bool  # False: only a warning, the worker may go on
    detail: str  # in words, for the log
    identity: str

    def line(self) -> str:
        """In one line, for people."""
        left = "" if self.deadline is None else f", {self.deadline:.0f} s left"
        return f"{self.provider} {self.kind}{left}: {self.detail}"


def seconds_until(moment: object) -> float | None:
    """Seconds from now to a time as clouds write it: ISO 8601 or RFC 1123, UTC where no zone is given.

    0 for a time gone by, None for what is no time.
    """
    if not isinstance(moment, str):
        return None
    parsed = _parsed(moment.strip())
    if parsed is None:
        return None
    if parsed.tzinfo is None:
        parsed = parsed.replace(tzinfo=UTC)
    return max(0.0, (parsed - datetime.now(UTC)).total_seconds())


def _parsed(moment: str) -> datetime | None:
    for parse in (datetime.fromisoformat, parsedate_to_datetime):
        try:
            return parse(moment)
        except (ValueError, OverflowError):
            continue
    return None
