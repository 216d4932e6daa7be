"""The headers of one attempt, as Standard Webhooks 1.0.0 has them."""

import math
from collections.abc import Sequence
from datetime import UTC, datetime

from pydantic import SecretStr
from standardwebhooks import Webhook


def headers(message_id: str, at: float, body: str, secrets: Sequence[SecretStr]) -> dict[str, str]:
    """Id, time of the attempt (seconds since 1970) and a signature by each secret; sign and send the very same body."""
    second = datetime.fromtimestamp(math.floor(at), UTC)
    signatures = (Webhook(secret.get_secret_value()).sign(message_id, second, body) for secret in secrets)
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(math.floor(at)),
        "webhook-signature": " ".join(signatures),
    }
