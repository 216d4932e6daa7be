"""Moto's S3 with three promises of Amazon's.

Of several conditional writes to one key at once, one wins: moto looks whether the key is there and then writes, and its
server runs requests in threads; so writes take turns. Lifecycle rules are given back as moto has understood them, with
the only two things that it forgets: sizes in the `And` of a filter, and the default minimum. A restore begins by being
under way, where moto's `s3::keyrestore` is not told to be immediate, and is refused a second time while it is.
"""

import io
import sys
import threading
from typing import Any
from urllib.parse import parse_qs
from xml.etree import ElementTree

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from moto.s3.models import FakeKey
from werkzeug.serving import run_simple

application = DomainDispatcherApplication(create_backend_app)
turn = threading.Lock()
sizes: dict[str, list[dict[str, str]]] = {}  # by bucket: those in the `And` of each of its rules
minimums: dict[str, str] = {}  # by bucket
SIZES = ("ObjectSizeGreaterThan", "ObjectSizeLessThan")
SPACE = "http://s3.amazonaws.com/doc/2006-03-01/"
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
    """Rules as moto keeps them, and what it forgets of them."""
    bucket, method = environ["PATH_INFO"].strip("/"), environ["REQUEST_METHOD"]
    body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    status, headers, answer = moto(environ, body)
    if status.startswith("200") and method == "PUT":
        sizes[bucket] = sizes_in(body)
        minimums[bucket] = environ.get("HTTP_" + MINIMUM.upper().replace("-", "_"), "all_storage_classes_128K")
    elif status.startswith("200") and method == "GET":
        answer = with_sizes(answer, sizes[bucket])
        told = {MINIMUM: minimums[bucket], "Content-Length": str(len(answer))}
        replaced = {name.lower() for name in told}
        headers = [*(each for each in headers if each[0].lower() not in replaced), *told.items()]
    start_response(status, headers)
    return [answer]


def sizes_in(body: bytes) -> list[dict[str, str]]:
    """The sizes in the `And` of each rule of a request."""
    found = []
    for rule in ElementTree.fromstring(body).findall("{*}Rule"):
        told = {name: rule.findtext(f"{{*}}Filter/{{*}}And/{{*}}{name}") for name in SIZES}
        found.append({name: text for name, text in told.items() if text is not None})
    return found


def with_sizes(answer: bytes, forgotten: list[dict[str, str]]) -> bytes:
    """Moto's answer with the sizes put back."""
    root = ElementTree.fromstring(answer.strip())
    for rule, found in zip(root.findall("{*}Rule"), forgotten, strict=True):
        for name, text in found.items():
            both = rule.find("{*}Filter/{*}And")
            assert both is not None, "a rule with sizes has an `And`"
            ElementTree.SubElement(both, f"{{{SPACE}}}{name}").text = text
    whole: bytes = ElementTree.tostring(root, default_namespace=SPACE)
    return whole


def is_thawing(environ: Any) -> bool:
    """Whether a restore of the object is under way."""
    said: dict[str, str] = {}

    def note(status: str, headers: list[tuple[str, str]], *_: Any) -> None:
        said.update((name.lower(), value) for name, value in headers)

    list(
        application({**environ, "REQUEST_METHOD": "HEAD", "QUERY_STRING": "", "wsgi.input": io.BytesIO()}, note)
    )
    return 'ongoing-request="true"' in said.get("x-amz-restore", "")


def moto(environ: Any, body: bytes) -> tuple[str, list[tuple[str, str]], bytes]:
    """What moto answers to a request with this body: status, headers, body."""
    said: list[tuple[str, list[tuple[str, str]]]] = []

    def note(status: str, headers: list[tuple[str, str]], *_: Any) -> None:
        said.append((status, headers))

    answer = b"".join(application({**environ, "wsgi.input": io.BytesIO(body)}, note))
    return *said[0], answer


if __name__ == "__main__":
    run_simple("127.0.0.1", int(sys.argv[1]), serve, threaded=True)
