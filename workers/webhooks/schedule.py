"""When a failed delivery is tried again, and for how long a failing endpoint is left alone. All in seconds."""

import random

# Standard Webhooks' example: after each failed attempt the wait for the next one; about 75 hours and a half in all.
ATTEMPTS = (0.0, 5.0, 300.0, 1800.0, 7200.0, 18_000.0, 36_000.0, 50_400.0, 72_000.0, 86_400.0)
JITTER = 0.2  # of a wait, added by chance, so that what failed together does not come back together
LONGEST_RETRY_AFTER = 86_400.0  # an endpoint may ask for a day, and no more

THROTTLED = frozenset({429, 502, 503, 504})  # the endpoint is there and has too much to do
THROTTLE = 30.0  # without a Retry-After
OPENS_AT = 5  # failures in a row that open an endpoint's circuit: one probe at a time from then on
FIRST_OPEN = 60.0  # doubled with each probe that fails
LONGEST_OPEN = 3600.0


def retry_in(attempts: int, retry_after: float | None = None) -> float | None:
    """The wait before the next attempt after so many have failed, None after the last."""
    if attempts >= len(ATTEMPTS):
        return None
    return max(_jittered(ATTEMPTS[attempts]), asked(retry_after))


def block_for(failures: int, status: int | None, retry_after: float | None = None) -> float:
    """For how long nothing is sent to an endpoint after so many failures in a row, the last with this status."""
    wait = asked(retry_after)
    if status in THROTTLED and retry_after is None:
        wait = _jittered(THROTTLE)
    if failures < OPENS_AT:
        return wait if status in THROTTLED else 0.0
    return max(wait, _jittered(min(FIRST_OPEN * 2.0 ** min(failures - OPENS_AT, 20), LONGEST_OPEN)))


def asked(retry_after: float | None) -> float:
    """The wait that an endpoint asked for, if it is to be believed."""
    return min(retry_after or 0.0, LONGEST_RETRY_AFTER)


def _jittered(seconds: float) -> float:
    return seconds * random.uniform(1.0, 1.0 + JITTER)
