"""`redo`, `review` and `report` where workers do the work."""

import json
from collections.abc import Callable

import pytest

from storage import endpoints
from tests import corpus_maker, fleet, hidden, slow_engine

pytestmark = pytest.mark.timeout(240)


def test_one_sentence_is_rendered_again_by_whatever_worker_comes(
    make_fleet: Callable[..., fleet.Fleet], redis_url: str, postgres_url: str, s3_url: str
) -> None:
    secrets = hidden.Secrets()
    mill = make_fleet(
        secrets.broker_url(redis_url),
        database_url=secrets.database_url(postgres_url),
        store_url=s3_url,
        settings=secrets.settings,
    )
    with mill.database.write() as connection:
        told = endpoints.add(connection, "https://hooks.invalid/").secret
    secrets.webhooks.append(told.get_secret_value())
    corpus_maker.accepted(
        mill.database,
        {"book": ["The first line.", "The second line.", "The third line."], "other": ["Something else."]},
        name="corpus",
        spec=slow_engine.SPEC,
    )
    scheduler, worker = mill.start("scheduler"), mill.worker()
    mill.until_ended("corpus")
    before = sum(mill.rendered().values())

    asked = ["redo", "book", "--segment", "1", "--text", "Quite another line", "--json"]
    redone = mill.run(*asked)
    told = json.loads(redone.stdout)
    assert (told["text"], told["text_before"]) == ("Quite another line.", "The second line.")
    assert (told["state"], told["audio"]) == ("pending", None)
    mill.until(lambda: mill.segments("corpus", "done") == 4)
    mill.until_ended("corpus")
    assert sum(mill.rendered().values()) == before + 1, "one take"

    page = mill.folder / "report.html"
    review = mill.run("review", "corpus", "--json")
    report = mill.run("report", "corpus", "-o", str(page), "--price", "3", "--json")
    assert '"redone": 1' in report.stdout
    assert "1 on request" in page.read_text()
    assert secrets.missing(mill) == {}
    printed = [done.stdout + done.stderr for done in (redone, review, report)]
    for text in (*printed, page.read_text(), scheduler.log(), worker.log()):
        assert secrets.shown(text) == []
    for text in (*printed, page.read_text()):
        assert "postgresql" not in text
        assert "redis://" not in text
