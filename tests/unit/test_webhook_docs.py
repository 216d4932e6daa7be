"""docs/webhooks.md tells of what the code does."""

import re
from pathlib import Path

from storage import deliveries
from storage.outbox import EventType
from workers.webhooks import schedule
from workers.webhooks.settings import WebhookSettings

DOC = (Path(__file__).parents[2] / "docs" / "webhooks.md").read_text(encoding="utf-8")


def test_deliveries_are_drawn_as_coded():
    drawn = set(re.findall(r"^    (\w+) --> (\w+)$", DOC, re.MULTILINE))
    assert drawn == {(source, target) for source, targets in deliveries.STEPS.items() for target in targets}
    assert set(deliveries.STEPS) == set(deliveries.State)


def test_every_event_and_every_setting_is_there():
    assert set(re.findall(r"^\| `([a-z_]+\.[a-z_]+)` \|", DOC, re.MULTILINE)) == set(EventType)
    names = {f"VOICEMILL_{name.upper()}" for name in WebhookSettings.model_fields}
    assert set(re.findall(r"VOICEMILL_WEBHOOK_\w+", DOC)) - {"VOICEMILL_WEBHOOK_SECRET"} == names


def test_the_schedule_is_there():
    units = {"s": 1, "min": 60, "h": 3600}
    told = re.search(r"tried again after (.*?), each with", DOC, re.DOTALL).group(1)
    waits = [int(number) * units[unit] for number, unit in re.findall(r"(\d+) (s|min|h)\b", told)]
    assert waits == list(schedule.ATTEMPTS[1:])
