"""Sends a job to Redis with a Redis client and nothing of Voicemill: pip install redis

python examples/producer_redis.py redis://host:6379/0
"""

import base64
import json
import sys
import uuid

import redis

PREFIX = "voicemill:"  # VOICEMILL_REDIS_PREFIX of the scheduler
MESSAGE = {
    "voicemill": 1,
    "corpus": "bulletin",
    "engine": "espeak",
    "jobs": [{"id": "weather", "text": "Fog until noon, then sun. The passes stay closed."}],
}


def send(url: str, message: dict[str, object]) -> None:
    """Put one message, in kombu's envelope, at the end of the list `submit`."""
    envelope = {
        "body": base64.b64encode(json.dumps(message).encode()).decode(),
        "content-type": "application/json",
        "content-encoding": "utf-8",
        "headers": {},
        "properties": {
            "body_encoding": "base64",
            "delivery_mode": 2,
            "delivery_tag": str(uuid.uuid4()),
            "delivery_info": {"exchange": "", "routing_key": "submit"},
            "priority": 0,
        },
    }
    with redis.Redis.from_url(url) as client:
        client.lpush(PREFIX + "submit", json.dumps(envelope))


if __name__ == "__main__":
    send(sys.argv[1], MESSAGE)
