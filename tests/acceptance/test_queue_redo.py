"""`redo`, `review` and `report` where workers do the work."""

import json

import pytest

from tests import corpus_maker, fleet, slow_engine

pytestmark = pytest.mark.timeout(240)
SECRETS = {"AWS_SECRET_ACCESS_KEY": "hunter2-of-the-store", "VOICEMILL_WEBHOOK_SIGNING": "hunter2-of-hooks"}


def test_one_sentence_is_rendered_again_by_whatever_worker_comes(make_fleet, redis_url: str) -> None:
    mill: fleet.Fleet = make_fleet(redis_url)
    corpus_maker.accepted(
        mill.database,
        {"book": ["The first line.", "The second line.", "The third line."], "other": ["Something else."]},
        name="corpus",
        spec=slow_engine.SPEC,
    )
    mill.start("scheduler")
    mill.worker()
    mill.until_ended("corpus")
    before = sum(mill.rendered().values())

    asked = ["redo", "book", "--segment", "1", "--text", "Quite another line", "--json"]
    told = json.loads(mill.run(*asked, settings=SECRETS).stdout)
    assert (told["text"], told["text_before"]) == ("Quite another line.", "The second line.")
    assert (told["state"], told["audio"]) == ("pending", None)
    mill.until(lambda: mill.segments("corpus", "done") == 4)
    mill.until_ended("corpus")
    assert sum(mill.rendered().values()) == before + 1, "one take"

    page = mill.folder / "report.html"
    printed = [
        mill.run("review", "corpus", "--json", settings=SECRETS).stdout,
        mill.run("report", "corpus", "-o", str(page), "--price", "3", "--json", settings=SECRETS).stdout,
        page.read_text(),
    ]
    assert '"redone": 1' in printed[1]
    assert "1 on request" in printed[2]
    for text in (*printed, str(told)):
        assert "hunter2" not in text
        assert "postgresql" not in text
        assert redis_url not in text
