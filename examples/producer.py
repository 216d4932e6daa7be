"""Sends a small corpus through the broker, with the helper that comes with Voicemill.

VOICEMILL_BROKER_URL=amqp://user:password@host/vhost python examples/producer.py

Texts over 256 KB go to the object store, so VOICEMILL_STORE_URL is needed where there are any.
"""

from workers import producer

JOBS = [
    {"id": "weather", "text": "Fog until noon, then sun. The passes stay closed."},
    {"id": "traffic", "text": "The coast road is open again in both directions.", "voice": "grandmother"},
]

if __name__ == "__main__":
    messages = producer.send("bulletin", JOBS, engine="espeak", options={"format": "opus", "captions": ["vtt"]})
    print(f"sent {len(JOBS)} jobs in {messages} message(s)")
