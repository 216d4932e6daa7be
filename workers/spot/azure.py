"""Azure: Scheduled Events, at least 30 s before an eviction, and their acknowledgement.

All machines of a scale set see each other's events, so an event is ours only where its resources name this machine.
The first request of all enables the service, which may take two minutes.
https://learn.microsoft.com/azure/virtual-machines/linux/scheduled-events
"""

import json
from collections.abc import Iterator
from typing import Any

from workers.spot import notice
from workers.spot.link import Answer, Link
from workers.spot.notice import Kind, Notice

ENDPOINT = "http://169.254.169.254"
EVENTS_PATH = "/metadata/scheduledevents?api-version=2020-07-01"
INSTANCE_PATH = "/metadata/instance/compute?api-version=2021-02-01"
HEADERS = {"Metadata": "true"}
KINDS = {
    "Preempt": Kind.PREEMPT,  # a spot machine is evicted
    "Terminate": Kind.TERMINATE,  # its scale set deletes it
}


class Azure:
    """Notices of Azure's virtual machines and scale sets."""

    name = "azure"

    def __init__(
        self,
        endpoint: str = ENDPOINT,
        *,
        every: float = 1.0,  # second, as Azure advises
        timeout: float = 5.0,  # seconds
    ) -> None:
        self.every, self._timeout = every, timeout
        self._link = Link(endpoint)
        self._machine = ""
        self._to_acknowledge: tuple[str, ...] = ()

    def probe(self, timeout: float) -> bool:
        """Whether a server answers that knows this machine's name."""
        self._machine = self._ask_machine(timeout)
        return True

    def poll(self) -> Iterator[Notice]:
        """The events that end this very machine."""
        if not self._machine:
            self._machine = self._ask_machine(self._timeout)
        answer = self._get(EVENTS_PATH, self._timeout)
        events = [event for event in _events(answer) if self._is_ours(event)]
        self._to_acknowledge = tuple(event["EventId"] for event in events if len(event["Resources"]) == 1)
        for event in events:
            yield self._notice(event)

    def acknowledge(self) -> None:
        """Let Azure start our events now. One that ends other machines too is left alone: those may not be done."""
        starts = [{"EventId": event} for event in self._to_acknowledge]
        if starts:
            body = json.dumps({"StartRequests": starts})
            headers = {**HEADERS, "Content-Type": "application/json"}
            answer = self._link.request("POST", EVENTS_PATH, headers, timeout=self._timeout, body=body)
            answer.expect(200)

    def close(self) -> None:
        """End a call under way."""
        self._link.close()

    def _ask_machine(self, timeout: float) -> str:
        answer = self._get(INSTANCE_PATH, timeout)
        name = answer.json_object().get("name")
        if not isinstance(name, str) or not name:
            raise answer.fault("answered no machine's name")
        return name.casefold()

    def _get(self, path: str, timeout: float) -> Answer:
        return self._link.request("GET", path, HEADERS, timeout=timeout).expect(200)

    def _is_ours(self, event: dict[str, Any]) -> bool:
        names = {name.casefold() for name in event["Resources"] if isinstance(name, str)}
        return event.get("EventType") in KINDS and self._machine in names

    def _notice(self, event: dict[str, Any]) -> Notice:
        kind, when = KINDS[event["EventType"]], event.get("NotBefore")
        started = event.get("EventStatus") == "Started"  # its NotBefore is empty then
        left = 0.0 if started else notice.seconds_until(when)
        detail = f"scheduled event {event['EventType']} " + ("has started" if started else f"not before {when}")
        return Notice(self.name, kind, left, True, detail, f"{kind} {event['EventId']}")


def _events(answer: Answer) -> Iterator[dict[str, Any]]:
    """The events of a document that have what an event must have. Raises LinkError where it is no such document."""
    found = answer.json_object().get("Events")
    if not isinstance(found, list):
        raise answer.fault("answered no list of events")
    for event in found:
        if (
            isinstance(event, dict)
            and isinstance(event.get("EventId"), str)
            and isinstance(event.get("Resources"), list)
        ):
            yield event
