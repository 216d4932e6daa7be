"""Moto's S3 with three promises of Amazon's.

Of several conditional writes to one key at once, one wins: moto looks whether the key is there and then writes, and its
server runs requests in threads; so writes take turns. Lifecycle rules are given back whole: moto checks them and then
forgets the sizes and the default in them. A restore begins by being under way, where moto's `s3::keyrestore` is not
told to be immediate, and is refused a second time while it is.
"""

import io
import sys
import threading
from typing import Any
from urllib.parse import parse_qs

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from moto.s3.models import FakeKey
from werkzeug.serving import run_simple

application = DomainDispatcherApplication(create_backend_app)
turn = threading.Lock()
lifecycles: dict[str, tuple[bytes, str | None]] = {}  # by bucket: what was put, and the default minimum
MINIMUM = "x-amz-transition-default-minimum-object-size"
BUSY = b"<Error><Code>RestoreAlreadyInProgress</Code><Message>Object restore is already in progress</Message></Error>"


restore = FakeKey.restore


def begin_restore(key: FakeKey, days: int) -> None:
    """What a restore request does."""
    restore(key, days)
    key.status = "IN_PROGRESS"


FakeKey.restore = begin_restore


def serve(environ: Any, start_response: Any) -> Any:
    """One request."""
    asked = parse_qs(environ["QUERY_STRING"], keep_blank_values=True)
    if "lifecycle" in asked:
        with turn:
            return lifecycle(environ, start_response)
    if environ["REQUEST_METHOD"] in ("GET", "HEAD"):
        return application(environ, start_response)
    with turn:
        if "restore" in asked and is_thawing(environ):
            start_response("409 Conflict", [("Content-Type", "application/xml")])
            return [BUSY]
        return list(application(environ, start_response))


def lifecycle(environ: Any, start_response: Any) -> list[bytes]:
    """Rules as they were put, once moto has found nothing wrong with them."""
    bucket, method = environ["PATH_INFO"].strip("/"), environ["REQUEST_METHOD"]
    if method == "GET" and bucket in lifecycles:
        body, minimum = lifecycles[bucket]
        start_response(
            "200 OK", [("Content-Type", "application/xml"), *([(MINIMUM, minimum)] if minimum else [])]
        )
        return [body]
    body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    status, answer = moto(environ, start_response, body)
    if status == 200 and method == "PUT":
        lifecycles[bucket] = body, environ.get("HTTP_" + MINIMUM.upper().replace("-", "_"))
    elif status in (200, 204) and method == "DELETE":
        lifecycles.pop(bucket, None)
    return answer


def is_thawing(environ: Any) -> bool:
    """Whether a restore of the object is under way."""
    said: dict[str, str] = {}

    def note(status: str, headers: list[tuple[str, str]], *_: Any) -> None:
        said.update((name.lower(), value) for name, value in headers)

    list(
        application({**environ, "REQUEST_METHOD": "HEAD", "QUERY_STRING": "", "wsgi.input": io.BytesIO()}, note)
    )
    return 'ongoing-request="true"' in said.get("x-amz-restore", "")


def moto(environ: Any, start_response: Any, body: bytes) -> tuple[int, list[bytes]]:
    """What moto answers to a request with this body."""
    statuses = []

    def note(status: str, headers: Any, *more: Any) -> Any:
        statuses.append(int(status.split()[0]))
        return start_response(status, headers, *more)

    answer = list(application({**environ, "wsgi.input": io.BytesIO(body)}, note))
    return statuses[0], answer


if __name__ == "__main__":
    run_simple("127.0.0.1", int(sys.argv[1]), serve, threaded=True)
