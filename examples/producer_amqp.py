"""Sends a job to RabbitMQ with an AMQP client and nothing of Voicemill: pip install amqp

python examples/producer_amqp.py amqp://user:password@host:5672/vhost
"""

import json
import sys
from urllib.parse import unquote, urlsplit

import amqp

MESSAGE = {
    "voicemill": 1,
    "corpus": "bulletin",
    "engine": "espeak",
    "jobs": [{"id": "weather", "text": "Fog until noon, then sun. The passes stay closed."}],
}


def send(url: str, message: dict[str, object]) -> None:
    """Publish one message to the queue `submit` and wait until RabbitMQ has it."""
    parts = urlsplit(url)
    with amqp.Connection(
        host=f"{parts.hostname}:{parts.port or 5672}",
        userid=unquote(parts.username or "guest"),
        password=unquote(parts.password or "guest"),
        virtual_host=unquote(parts.path[1:]) or "/",
        confirm_publish=True,
    ) as connection:
        channel = connection.channel()
        channel.queue_declare("submit", passive=True)  # fails where no scheduler has ever been started
        body = amqp.Message(
            json.dumps(message), content_type="application/json", content_encoding="utf-8", delivery_mode=2
        )
        channel.basic_publish(body, exchange="", routing_key="submit")


if __name__ == "__main__":
    send(sys.argv[1], MESSAGE)
