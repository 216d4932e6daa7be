"""Amazon EC2: the instance metadata service, version 2 (session tokens).

`spot/instance-action` is 404 until the instance is to be interrupted, two minutes before. `rebalance` is 404 until its risk
has risen. https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/spot-instance-termination-notices.html

In a container the token's answer must make one hop more than EC2 allows by default (`HttpPutResponseHopLimit`, 1): set 2.
"""

import re
import time
from collections.abc import Callable, Iterator

from workers.spot import notice
from workers.spot.link import Answer, Link, LinkError
from workers.spot.notice import Kind, Notice

ENDPOINT = "http://169.254.169.254"
TOKEN_PATH = "/latest/api/token"  # noqa: S105 - a path
INSTANCE_PATH = "/latest/meta-data/instance-id"
ACTION_PATH = "/latest/meta-data/spot/instance-action"
REBALANCE_PATH = "/latest/meta-data/events/recommendations/rebalance"
TOKEN = re.compile(r"[\x21-\x7e]{1,1024}")
ACTIONS = {str(kind): kind for kind in (Kind.TERMINATE, Kind.STOP, Kind.HIBERNATE)}


class Aws:
    """Notices of Amazon EC2."""

    name = "aws"

    def __init__(
        self,
        endpoint: str = ENDPOINT,
        *,
        every: float = 5.0,  # seconds, as Amazon advises
        timeout: float = 2.0,  # seconds
        token_seconds: int = 21_600,  # the longest that EC2 gives
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.every, self._timeout, self._token_seconds, self._clock = every, timeout, token_seconds, clock
        self._link = Link(endpoint)
        self._token = ""
        self._token_ends = 0.0  # on that clock

    def probe(self, timeout: float) -> bool:
        """Whether a token can be had, and an instance id with it."""
        answer = self._ask(INSTANCE_PATH, timeout / 2)
        return answer.status == 200 and answer.body.startswith("i-")

    def poll(self) -> Iterator[Notice]:
        """The interruption, if there is one, else a rebalance recommendation, which is not urgent."""
        answer = self._get(ACTION_PATH)
        if answer.status == 200:
            yield self._interruption(answer)
        answer = self._get(REBALANCE_PATH)
        if answer.status == 200:
            when = str(answer.json_object().get("noticeTime"))
            detail = "rebalance recommendation: the risk of an interruption has risen"
            yield Notice(self.name, Kind.REBALANCE, None, False, detail, f"rebalance {when}")

    def acknowledge(self) -> None:
        """Nothing: Amazon does not ask."""

    def close(self) -> None:
        """End a call under way."""
        self._link.close()

    def _interruption(self, answer: Answer) -> Notice:
        found = answer.json_object()
        action, when = found.get("action"), found.get("time")
        if action not in ACTIONS:
            raise answer.fault(f"answered an unknown action {action!r}")
        left = notice.seconds_until(when)
        return Notice(
            self.name, ACTIONS[action], left, True, f"instance action {action} at {when}", f"{action} {when}"
        )

    def _get(self, path: str) -> Answer:
        """What is there, or 404. With a new token where the server no longer knows ours."""
        answer = self._ask(path, self._timeout)
        if answer.status == 401:
            self._token = ""
            answer = self._ask(path, self._timeout)
        return answer.expect(200, 404)

    def _ask(self, path: str, timeout: float) -> Answer:
        headers = {"X-aws-ec2-metadata-token": self._current_token(timeout)}
        return self._link.request("GET", path, headers, timeout=timeout)

    def _current_token(self, timeout: float) -> str:
        asked = self._clock()
        if not self._token or asked > self._token_ends:
            headers = {"X-aws-ec2-metadata-token-ttl-seconds": str(self._token_seconds)}
            try:
                answer = self._link.request("PUT", TOKEN_PATH, headers, timeout=timeout).expect(200)
            except LinkError as error:
                advice = "; in a container the instance's metadata hop limit must be 2"
                raise LinkError(url=error.fields["url"], reason=error.fields["reason"] + advice) from error
            if not TOKEN.fullmatch(answer.body):
                raise answer.fault("answered what is no token")
            self._token, self._token_ends = answer.body, asked + 0.9 * self._token_seconds
        return self._token
