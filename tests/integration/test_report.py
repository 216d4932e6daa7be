"""A corpus on one page: true, complete in itself, and safe whatever its texts say."""

import base64
import json
import re
from html.parser import HTMLParser
from threading import Event

import pytest
import sqlalchemy as sa

from scheduler import planner
from scheduler.report import charts, facts, page, sound
from storage import batches, corpora, errors
from storage.database import Database
from storage.objects import open_store
from tests import browser, corpus_maker, tones
from workers import assemble, render

ATTACK = "QUIET </script><script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">"
TEXTS = {
    "good-1": ["A good text is this.", "And another one."],
    "bad & quiet": [ATTACK, "Good again it is."],
    "refused": ["REFUSE <b>this</b> text."],
    "once": ["ONCE it was silent, and then it was not."],
}


def made(url, tmp_path):
    database = Database(url)
    (tmp_path / "scratch").mkdir()
    yield render.Mill(database, open_store(str(tmp_path / "store")), tones.Spec(), tones.Tones(), "me")
    database.close()


@pytest.fixture
def mill(sqlite_url, tmp_path):
    yield from made(sqlite_url, tmp_path)


@pytest.fixture
def any_mill(database_url, tmp_path):
    yield from made(database_url, tmp_path)


def work(mill, tmp_path):
    while True:
        planner.plan(mill.database, "tones", planner.Plan(workers=1, linger_seconds=0))
        with mill.database.read() as connection:
            batch_id = batches.next_ready(connection, "tones")
        if batch_id is None:
            break
        render.run(mill, batch_id, Event())
    assemble.run(assemble.Bench(mill.database, mill.store, "me", tmp_path / "scratch"), limit=20)


def write(mill, path, **how):
    options = {"price_per_hour": 2.5, "most_players": 50, "most_bytes": 10**7} | how
    return page.write(mill.database, mill.store, "corpus", path, **options)


class Page(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.tags, self.words = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.words.append(data)

    def attributes(self, tag, name):
        return [attributes.get(name) for found, attributes in self.tags if found == tag]

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())


def test_the_page_tells_what_the_tables_say(any_mill, tmp_path):
    corpus_maker.accepted(any_mill.database, TEXTS)
    work(any_mill, tmp_path)
    written = write(any_mill, tmp_path / "report.html")
    found = written.facts
    assert (found.retries, found.retried_segments) == (2 + 3 + 1, 3)
    assert found.flags == {"silent": 1}
    assert found.rendered_takes == 5
    assert sum(column.takes for column in found.columns) == 5
    assert sum(column.audio_seconds for column in found.columns) == pytest.approx(found.rendered_seconds)
    with any_mill.database.read() as connection:
        spent = corpora.find(connection, "corpus").worker_seconds
    assert found.cost == pytest.approx(2.5 * spent / 3600)
    told = Page((tmp_path / "report.html").read_text())
    for words in ("bad & quiet", "REFUSE <b>this</b> text.", "truncated", "completed with errors", ATTACK):
        assert words in told.text, words
    assert "voicemill review corpus --accept 'bad & quiet:0'" in told.text
    assert "Cost of an audio hour" in told.text
    assert (written.flags, written.players) == (1, 1)


def test_nothing_of_a_text_becomes_part_of_the_page_and_nothing_is_fetched(mill, tmp_path):
    corpus_maker.accepted(mill.database, TEXTS)
    work(mill, tmp_path)
    write(mill, tmp_path / "report.html")
    told = Page((tmp_path / "report.html").read_text())
    tags = {tag for tag, _ in told.tags}
    assert not tags & {"script", "img", "iframe", "link", "object", "embed", "form", "base"}
    assert not [name for _, attributes in told.tags for name in attributes if name.startswith("on")]
    outward = [
        value
        for tag, attributes in told.tags
        for name, value in attributes.items()
        if name in ("src", "href", "xlink:href", "action", "data")
        and not (value or "").startswith(("data:", "#"))
    ]
    assert outward == []
    (policy,) = [value for value in told.attributes("meta", "content") if "default-src" in (value or "")]
    assert policy.startswith("default-src 'none'")
    style = re.search(r"<style>(.*?)</style>", (tmp_path / "report.html").read_text(), re.DOTALL)[1]
    assert "url(" not in style
    assert "@import" not in style


def test_the_players_hold_the_takes_themselves(mill, tmp_path):
    corpus_maker.accepted(mill.database, TEXTS)
    work(mill, tmp_path)
    write(mill, tmp_path / "report.html")
    (source,) = Page((tmp_path / "report.html").read_text()).attributes("audio", "src")
    kind, _, data = source.partition(";base64,")
    assert kind == "data:audio/mpeg"
    sound_of_it = base64.b64decode(data, validate=True)
    assert sound_of_it[:3] == b"ID3" or sound_of_it[0] == 0xFF, "MPEG"
    assert len(sound_of_it) == pytest.approx(6000 * (0.2 + tones.SECONDS_PER_CHARACTER * len(ATTACK)), rel=0.25)


def test_players_are_capped_by_number_and_by_size(mill, tmp_path):
    corpus_maker.accepted(mill.database, [f"QUIET line {n} of silence." for n in range(20)])
    work(mill, tmp_path)
    assert write(mill, tmp_path / "few.html", most_players=3).players == 3
    one = write(mill, tmp_path / "one.html", most_players=1)
    with_sound = (tmp_path / "one.html").read_text()
    size = len(Page(with_sound).attributes("audio", "src")[0])
    assert write(mill, tmp_path / "small.html", most_bytes=4 * size + size // 2).players == 4
    none = write(mill, tmp_path / "none.html", most_players=0)
    assert (none.players, none.flags, one.players) == (0, 20, 1)
    assert "there is room for so much only" in Page((tmp_path / "none.html").read_text()).text


def test_a_take_that_is_gone_is_told(mill, tmp_path):
    corpus_maker.accepted(mill.database, ["QUIET it is."])
    work(mill, tmp_path)
    mill.store.delete([entry.key for entry in mill.store.list("takes/")])
    assert write(mill, tmp_path / "report.html").players == 0
    assert "its take is not in the store any more" in Page((tmp_path / "report.html").read_text()).text


def test_a_corpus_that_has_not_begun_has_a_page_too(any_mill, tmp_path):
    corpus_maker.accepted(any_mill.database, TEXTS)
    written = write(any_mill, tmp_path / "report.html", price_per_hour=None)
    told = Page((tmp_path / "report.html").read_text()).text
    assert (written.facts.columns, written.facts.real_time, written.facts.cost) == ([], None, None)
    assert "Nothing was rendered for this corpus yet." in told
    assert "Cost of an audio hour" not in told


def test_takes_that_were_there_before_are_told_apart(any_mill, tmp_path):
    corpus_maker.accepted(any_mill.database, ["A line.", "Another line."], name="before")
    work(any_mill, tmp_path)
    with any_mill.database.write() as connection:
        connection.execute(sa.text("UPDATE takes SET created_at = created_at - 1000"))
    corpus_maker.accepted(any_mill.database, ["A line.", "A new line."])
    work(any_mill, tmp_path)
    found = write(any_mill, tmp_path / "report.html").facts
    assert (found.rendered_takes, found.known_takes) == (1, 1)


@pytest.mark.parametrize(
    ("spread", "width", "most"),
    [
        (60, 60, 3),
        (2 * 3600, 300, 26),
        (5 * 3600, 3600, 7),
        (40 * 3600, 3600, 42),
        (30 * 24 * 3600, 24 * 3600, 32),
    ],
)
def test_progress_is_by_the_hour_or_by_what_suits(any_mill, tmp_path, spread, width, most):
    corpus_maker.accepted(any_mill.database, [f"Line {n} it is." for n in range(20)])
    work(any_mill, tmp_path)
    with any_mill.database.write() as connection:
        keys = list(connection.execute(sa.text("SELECT take_key FROM takes ORDER BY take_key")).scalars())
        for at, key in enumerate(keys):
            moved = sa.text("UPDATE takes SET created_at = created_at + :by WHERE take_key = :key")
            connection.execute(moved, {"by": spread * at / 19, "key": key})
    with any_mill.database.read() as connection:
        corpus = corpora.find(connection, "corpus")
        found = facts.gather(connection, corpus, as_of=0, price_per_hour=None)
    assert found.column_seconds == width
    assert len(found.columns) <= most
    assert sum(column.takes for column in found.columns) == 20
    assert all(
        later.at - column.at == width for column, later in zip(found.columns, found.columns[1:], strict=False)
    )
    assert charts.progress(found).count("<svg") == 1


def test_no_secret_is_in_it(mill, tmp_path, monkeypatch):
    monkeypatch.setenv("VOICEMILL_BROKER_URL", "amqp://user:hunter2@broker/")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter2")
    corpus_maker.accepted(mill.database, TEXTS)
    work(mill, tmp_path)
    write(mill, tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text()
    assert "hunter2" not in text
    assert "whsec_" not in text
    assert "postgresql" not in text


def test_a_folder_that_cannot_be_written_to_is_told_and_nothing_is_left(mill, tmp_path):
    corpus_maker.accepted(mill.database, ["A line."])
    (tmp_path / "file").write_text("")
    with pytest.raises(errors.VoicemillError, match="Cannot write to"):
        write(mill, tmp_path / "file" / "report.html")


def test_without_its_libraries_it_says_what_to_install(mill, tmp_path, monkeypatch):
    monkeypatch.setattr(page, "LIBRARIES", ("jinja2", "no_such_library"))
    with pytest.raises(page.ReportExtraMissingError, match=r"pip install 'voicemill\[report\]'"):
        write(mill, tmp_path / "report.html")


def test_a_waveform_is_the_outline_of_the_peaks():
    assert sound.drawn(b"") == "M0 20H200"
    loud = sound.drawn(b"\xff\x7f\x00\x80" * 4000)
    heights = [float(y) for y in re.findall(r"\d+ ([\d.]+)", loud)]
    assert (min(heights), max(heights)) == (pytest.approx(1, abs=0.1), pytest.approx(39, abs=0.1))
    assert len(heights) == 2 * sound.COLUMNS


SEE = """
<script>
const waiting = [...document.querySelectorAll('audio')].map(player => new Promise(done => {
  const tell = () => done(player.error ? 'error' : player.duration);
  if (player.readyState > 0 || player.error) tell();
  else { player.onloadedmetadata = tell; player.onerror = tell; }
}));
Promise.all(waiting).then(lengths => {
  const wide = document.documentElement.scrollWidth - document.documentElement.clientWidth;
  const told = {title: document.title, lengths, wide, scripts: document.scripts.length,
                charts: [...document.querySelectorAll('.chart svg')].map(each => each.getBoundingClientRect().height)};
  document.body.setAttribute('data-told', JSON.stringify(told));
});
</script>
"""


@pytest.mark.timeout(200)
@pytest.mark.parametrize("width", [1100, 500])
def test_a_real_browser_plays_it_runs_nothing_and_fits_the_window(mill, tmp_path, width):
    corpus_maker.accepted(mill.database, TEXTS)
    work(mill, tmp_path)
    write(mill, tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text()
    assert "<script" not in browser.run(tmp_path / "report.html", "--dump-dom")
    # The page allows no script, so a copy that does is asked what the browser makes of it.
    looked_at = tmp_path / "seen.html"
    looked_at.write_text(
        text.replace("default-src 'none'", "script-src 'unsafe-inline'").replace("</body>", SEE + "</body>")
    )
    document = browser.run(
        looked_at, f"--window-size={width},2000", "--virtual-time-budget=20000", "--dump-dom"
    )
    (attribute,) = Page(document).attributes("body", "data-told")
    told = json.loads(attribute)
    take = 0.2 + tones.SECONDS_PER_CHARACTER * len(ATTACK)
    assert told["lengths"] == [pytest.approx(take, abs=0.2)]
    assert told["title"] == "corpus · Voicemill"
    assert told["scripts"] == 1, "the test's own"
    assert told["wide"] == 0, "nothing sticks out to the side"
    assert len(told["charts"]) == 2
    assert all(height > 100 for height in told["charts"])
