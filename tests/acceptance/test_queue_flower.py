"""What a person sees in Flower."""

import html
import json
import re
import urllib.request
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests import browser, corpus_maker, fleet, servers, slow_engine

pytestmark = pytest.mark.timeout(180)


def test_flower_says_what_is_going_on(
    mill: fleet.Fleet, broker_url: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    port, settings = servers.free_port(), {"FLOWER_UNAUTHENTICATED_API": "true"}
    if broker_url.startswith("amqp"):
        api = request.getfixturevalue("rabbitmq")["management_url"]
        settings["FLOWER_BROKER_API"] = f"{api.replace('//', '//guest:guest@')}/api/"
    mill.start("flower", "--port", str(port), settings=settings)

    def get(path: str) -> str:
        with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
            return str(answer.read().decode())
        return ""

    def tasks() -> list[dict[str, Any]]:
        return sorted(json.loads(get("/api/tasks") or "{}").values(), key=lambda task: task["received"] or 0)

    mill.until(lambda: get("/healthcheck"))
    mill.start("scheduler")
    mill.worker()
    corpus_maker.accepted(
        mill.database, [f"Sentence number {n}." for n in range(30)], name="corpus", spec=slow_engine.SPEC
    )
    mill.until_ended("corpus")
    mill.until(
        lambda: (
            sum(
                map(
                    int,
                    re.findall(r"'(\d+) jobs assembled'", " ".join(str(task["result"]) for task in tasks())),
                )
            )
            == 30
        )
    )

    def rendered() -> list[dict[str, Any]]:
        """Those that rendered something: on a slow machine a second ring finds the batch taken."""
        return [task for task in tasks() if task["name"] == "render" and "real time" in (task["result"] or "")]

    mill.until(rendered)
    found = tasks()
    assert {task["name"] for task in found} <= {"render", "assemble", "deliver"}, "ticks would bury them"
    (rendering,) = rendered()
    assert re.fullmatch(r"batch 1: 30 segments, \d\d s of speech", rendering["args"])
    assert re.fullmatch(r"'batch 1: 30 of 30, \d+x real time'", rendering["result"])

    page = get("/workers")
    for name in ("scheduler-", "render-slow-", "assemble-"):
        assert name in page
    assert "batch 1" in get(f"/task/{rendering['uuid']}")
    mill.until(lambda: "render.slow" in get("/broker"))

    address = f"http://127.0.0.1:{port}/tasks"
    seen = shown(browser.visit(address, tmp_path, "--dump-dom"))
    assert re.search(r"batch 1: 30 segments, \d\d s of speech", seen)
    assert re.search(r"batch 1: 30 of 30, \d+x real time", seen)
    assert "SUCCESS" in seen
    picture = tmp_path / "flower.png"
    browser.visit(address, tmp_path, f"--screenshot={picture}", "--window-size=1600,900")
    assert picture.read_bytes().startswith(b"\x89PNG")


def shown(document: str) -> str:
    """The text of a page, as a person reads it."""
    without_code = re.sub(r"(?s)<(script|style)\b.*?</\1>", " ", document)
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", without_code)).split())
