"""Signatures that the public library accepts, and secrets that do not show themselves."""

import json
import time
import traceback
from base64 import b64decode

import pytest
import sqlalchemy as sa
from standardwebhooks import Webhook, WebhookVerificationError

from storage import outbox, signing
from workers.webhooks import sign

BODY = outbox.body("job.completed", 1_700_000_000.1234, {"id": "kapitel-ä", "corpus": "日本"})


def test_the_public_library_verifies_what_we_sign():
    secret, at = signing.new(), time.time()
    headers = sign.headers("msg_1", at, BODY, [secret])
    assert Webhook(secret.get_secret_value()).verify(BODY.encode(), headers) == json.loads(BODY)
    assert headers["webhook-timestamp"] == str(int(at))


def test_while_rotating_both_secrets_verify_and_no_other_does():
    old, new = signing.new(), signing.new()
    headers = sign.headers("msg_1", time.time(), BODY, [new, old])
    for secret in (old, new):
        Webhook(secret.get_secret_value()).verify(BODY.encode(), headers)
    assert len(headers["webhook-signature"].split(" ")) == 2
    with pytest.raises(WebhookVerificationError):
        Webhook(signing.new().get_secret_value()).verify(BODY.encode(), headers)


@pytest.mark.parametrize("change", ["webhook-id", "webhook-timestamp", "body"])
def test_everything_that_matters_is_signed(change):
    secret, body = signing.new(), BODY
    headers = sign.headers("msg_1", time.time(), BODY, [secret])
    if change == "body":
        body = BODY.replace("kapitel", "Kapitel")
    elif change == "webhook-timestamp":
        headers[change] = str(int(headers[change]) + 1)
    else:
        headers[change] += "0"
    with pytest.raises(WebhookVerificationError):
        Webhook(secret.get_secret_value()).verify(body.encode(), headers)


def test_the_specification_s_own_example():
    """The values of the libraries' shared test: id, time, payload and secret are public, and so is the signature."""
    secret = signing.SecretStr("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    headers = sign.headers("msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330.9, '{"test": 2432232314}', [secret])
    assert headers["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_a_body_is_type_timestamp_and_data():
    assert json.loads(BODY) == {
        "type": "job.completed",
        "timestamp": "2023-11-14T22:13:20.123Z",
        "data": {"id": "kapitel-ä", "corpus": "日本"},
    }


def test_secrets_and_ids_are_as_the_standard_wants_them():
    secret = signing.new().get_secret_value()
    assert secret.startswith("whsec_")
    assert 24 <= len(b64decode(secret.removeprefix("whsec_"))) <= 64
    assert signing.new() != signing.new()
    message_id = outbox.new_message_id()
    assert "." not in message_id
    assert message_id.isascii()
    assert outbox.new_message_id() != message_id


def test_a_secret_does_not_show_itself_in_the_error_of_a_statement():
    secret = signing.new()
    table = sa.Table(
        "kept",
        sa.MetaData(),
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("secret", signing.SecretText()),
    )
    engine = sa.create_engine("sqlite://")
    table.metadata.create_all(engine)
    with engine.connect() as connection:
        connection.execute(table.insert().values(id=1, secret=secret))
        assert connection.execute(sa.select(table.c.secret)).scalar_one() == secret
        with pytest.raises(sa.exc.IntegrityError) as raised:
            connection.execute(table.insert().values(id=1, secret=secret))
    engine.dispose()
    shown = "".join(traceback.TracebackException.from_exception(raised.value, capture_locals=True).format())
    assert "INSERT INTO kept" in shown
    assert secret.get_secret_value() not in shown.replace(repr(secret.get_secret_value()), "") + str(
        raised.value
    )
