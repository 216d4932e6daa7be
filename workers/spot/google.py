"""Google Compute Engine: the metadata key `preempted`, which the server holds back until it changes.

It becomes TRUE about 30 s before the power goes, or earlier where the machine was made with a notice duration.
https://cloud.google.com/compute/docs/instances/create-use-spot and .../metadata/querying-metadata
"""

from collections.abc import Iterator
from urllib.parse import urlencode

from workers.spot.link import Answer, Link
from workers.spot.notice import Kind, Notice

ENDPOINT = "http://169.254.169.254"  # metadata.google.internal, without asking a name server
PATH = "/computeMetadata/v1/instance/preempted"
FLAVOR = {"Metadata-Flavor": "Google"}
LEAD_SECONDS = 30.0  # at least so long, says Google: best effort
NO_ETAG = "0"  # which no answer has: the server answers at once


class Google:
    """Notices of Google Compute Engine."""

    name = "google"

    def __init__(
        self,
        endpoint: str = ENDPOINT,
        *,
        every: float = 1.0,  # seconds; between two waits, in which a change is not missed
        wait: int = 20,  # seconds that the server may hold an answer back
        timeout: float = 2.0,  # seconds, beyond that wait
    ) -> None:
        self.every, self._wait, self._timeout = every, wait, timeout
        self._link = Link(endpoint)
        self._etag = NO_ETAG

    def probe(self, timeout: float) -> bool:
        """Whether a server answers that signs itself as Google's, and knows the key."""
        self._value(self._get(PATH, timeout))
        return True

    def poll(self) -> Iterator[Notice]:
        """The preemption, if there is one, after a wait for a change."""
        query = urlencode({"wait_for_change": "true", "timeout_sec": self._wait, "last_etag": self._etag})
        answer = self._get(f"{PATH}?{query}", self._wait + self._timeout)
        value = self._value(answer)
        self._etag = answer.headers.get("ETag", NO_ETAG)
        if value == "TRUE":
            yield Notice(
                self.name, Kind.PREEMPT, LEAD_SECONDS, True, "this instance is being preempted", "preempted"
            )

    def acknowledge(self) -> None:
        """Nothing: Google does not ask."""

    def close(self) -> None:
        """End a call under way."""
        self._link.close()

    def _get(self, path: str, timeout: float) -> Answer:
        answer = self._link.request("GET", path, FLAVOR, timeout=timeout)
        if answer.headers.get("Metadata-Flavor") != "Google":
            raise answer.fault(f"answered {answer.status} without Metadata-Flavor: it is not Google's server")
        return answer.expect(200)

    def _value(self, answer: Answer) -> str:
        value = answer.body.strip()
        if value not in ("TRUE", "FALSE"):
            raise answer.fault(f"answered neither TRUE nor FALSE: {value[:40]!r}")
        return value
