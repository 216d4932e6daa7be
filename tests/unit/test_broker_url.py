"""Which URLs of brokers are taken, and what is said of others: never a part of a password."""

import pytest

from storage import settings
from workers import broker
from workers.settings import QueueSettings


@pytest.mark.parametrize(
    "url",
    [
        "amqp://u:hunter2@host/vhost",
        "amqp://host//",
        "amqps://u:hun%2Fter2@host:5671/a%2Fb",
        "redis://host",
        "redis://:hunter2@host:6379/3",
        "rediss://host:6379/0?ssl_cert_reqs=required",
        "REDIS://[::1]:6379/",
        "amqp://u:hunter2@a//;amqp://u:hunter2@b//",
    ],
)
def test_a_url_that_leads_to_a_broker(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("VOICEMILL_BROKER_URL", url)
    assert broker.url() == url
    assert broker.is_redis() == url.lower().startswith("redis")
    assert "hunter2" not in broker.shown_url()


@pytest.mark.parametrize(
    "url, reason",
    [
        ("http://me:hunter2@host/", "no broker is reached by http://, but by amqp, amqps, redis, rediss"),
        ("sentinel://host:26379", "no broker is reached by sentinel://"),
        ("memory://", "no broker is reached by memory://"),
        ("hunter2@host", "it is no URL"),
        ("me:hunter2@host", "it is no URL"),
        ("redis://:a/hunter2@host:6379/0", "in a password / is written %2F"),
        ("redis://:hunter2#@host:6379/0", "in a password / is written %2F"),
        ("amqp://u:hunter2@[::1/", "its host or port is none"),
        ("redis://host:many/0", "its host or port is none"),
        ("redis://:hunter2@host:6379/first", "the number of a database"),
        ("redis://host/0?password=hunter2", "its password stands before the host"),
        ("amqp://a//;kafka://u:hunter2@b", "no broker is reached by kafka://"),
    ],
)
def test_one_that_does_not(monkeypatch: pytest.MonkeyPatch, url: str, reason: str) -> None:
    monkeypatch.setenv("VOICEMILL_BROKER_URL", url)
    with pytest.raises(settings.SettingsError) as caught:
        settings.load(QueueSettings)
    assert str(caught.value).startswith("The setting broker_url is wrong (VOICEMILL_BROKER_URL): ")
    assert reason in str(caught.value)
    assert "hunter2" not in f"{caught.value} {caught.value.__cause__} {caught.value.__context__}"
