"""A small receiver for trying webhooks out on this machine: it verifies each event and hands it on to be shown."""

from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from standardwebhooks import Webhook, WebhookVerificationError

from storage import errors

LONGEST_BODY = 1_000_000  # bytes
TIMEOUT = 30.0  # seconds that a sender may be silent


class BadSecretError(errors.InputError):
    """That is no webhook secret. It begins with whsec_ and was shown when the endpoint was added or rotated."""


class PortTakenError(errors.InputError):
    """Nothing can listen on port {port}: {reason}. Choose another with --port."""


@dataclass(frozen=True, slots=True)
class Received:
    """A request that came in."""

    message_id: str
    event: dict[str, Any] | None  # None where it was refused
    refusal: str | None = None
    is_repeat: bool = False  # the same `webhook-id` was here before


class Receiver(ThreadingHTTPServer):
    """Listens on the loopback address; `serve_forever` until it is shut down."""

    daemon_threads = True

    def __init__(self, port: int, secret: str, told: Callable[[Received], None]) -> None:
        if not secret.startswith("whsec_"):
            raise BadSecretError
        try:
            self.webhook = Webhook(secret)
        except Exception as error:
            raise BadSecretError from error
        self.told = told
        self._seen: set[str] = set()
        try:
            super().__init__(("127.0.0.1", port), _Handler)
        except OSError as error:
            raise PortTakenError(port=port, reason=error.strerror) from error

    def receive(self, headers: dict[str, str], body: bytes) -> Received:
        """Verify one request."""
        message_id = headers.get("webhook-id", "")
        try:
            event = self.webhook.verify(body, headers)
        except (WebhookVerificationError, ValueError) as error:
            return Received(message_id, None, refusal=str(error))
        repeat = message_id in self._seen
        self._seen.add(message_id)
        return Received(message_id, event, is_repeat=repeat)


class _Handler(BaseHTTPRequestHandler):
    timeout = TIMEOUT
    server: Receiver

    def do_POST(self) -> None:
        """Answer 204 to what is signed well, 401 to all else."""
        length = self.headers.get("Content-Length", "")
        if not length.isdigit() or int(length) > LONGEST_BODY:
            self.send_error(413)
            return
        headers = {name.lower(): value for name, value in self.headers.items()}
        received = self.server.receive(headers, self.rfile.read(int(length)))
        self.send_response(401 if received.event is None else 204)
        self.end_headers()
        self.server.told(received)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: what came in is shown by whoever asked for it."""
