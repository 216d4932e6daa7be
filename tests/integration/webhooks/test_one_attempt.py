"""One attempt against every kind of receiver."""

import datetime
import ipaddress
import socket
import ssl
import time
from email.utils import format_datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from storage import signing
from tests import receivers
from workers.webhooks import send, sign
from workers.webhooks.settings import WebhookSettings

BODY = '{"type":"job.completed","timestamp":"2023-11-14T22:13:20.123Z","data":{"id":"straße"}}'
PATIENT = {"webhook_connect_seconds": 10, "webhook_total_seconds": 20}
HASTY = {"webhook_connect_seconds": 0.5, "webhook_total_seconds": 0.5}


def sender(lookup=None, **given):
    settings = WebhookSettings(**{"webhook_allow_private": True, **PATIENT, **given})
    return send.Sender(settings, lookup) if lookup else send.Sender(settings)


def post(url, secret=None, by=None, **given):
    headers = sign.headers("msg_1", time.time(), BODY, [secret or signing.new()])
    return (by or sender(**given)).post(url, headers, BODY.encode())


def test_the_receiver_gets_the_very_bytes_that_were_signed():
    secret = signing.new()
    with receivers.Receiver(secret.get_secret_value()) as receiver:
        answer = post(receiver.url, secret)
    (request,) = receiver.requests
    assert answer.accepted
    assert receiver.problems == []
    assert request.line == "POST /hook?for=tests HTTP/1.1"
    assert request.body == BODY.encode()
    assert request.headers["content-type"] == "application/json"
    assert request.headers["host"] == f"127.0.0.1:{receiver.port}"


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
def test_2xx_is_success(status):
    with receivers.Receiver(behaviour=receivers.answers(status, body=b"")) as receiver:
        assert post(receiver.url).accepted


@pytest.mark.parametrize("status", [300, 301, 302, 303, 304, 307, 308, 400, 401, 404, 410, 429, 500, 503])
def test_all_else_is_not_and_nothing_is_followed(status):
    with receivers.Receiver() as elsewhere:
        behaviour = receivers.answers(status, {"Location": elsewhere.url})
        with receivers.Receiver(behaviour=behaviour) as receiver:
            answer = post(receiver.url)
        assert (answer.status, answer.accepted) == (status, False)
        assert len(receiver.requests) == 1
    assert elsewhere.connections == 0


@pytest.mark.parametrize(
    ("behaviour", "error"),
    [
        (receivers.hangs, "no answer within 0.5 s"),
        (receivers.dribbles(b""), "no answer within 0.5 s"),
        (receivers.dribbles(b"HTTP/1.1 200 OK\r\nX-Slow: "), "no answer within 0.5 s"),
        (receivers.answers_too_late, "no answer within 0.5 s"),
        (receivers.hangs_up, "it closed the connection without an answer"),
        (receivers.says(b"HTTP/1.1 20"), "its answer is not HTTP: BadStatusLine"),
        (receivers.says(b"SSH-2.0-OpenSSH_9.6\r\n"), "its answer is not HTTP: BadStatusLine"),
        (receivers.says(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000), "its answer is not HTTP: LineTooLong"),
        (receivers.says(b"HTTP/1.1 100 Continue\r\n\r\n" * 10_000), "its answer is not HTTP: HTTPException"),
    ],
)
def test_what_is_no_answer_fails_in_time(behaviour, error):
    started = time.monotonic()
    with receivers.Receiver(behaviour=behaviour) as receiver:
        answer = post(receiver.url, **HASTY)
        assert time.monotonic() - started < 5
    assert (answer.status, answer.error) == (None, error)


@pytest.mark.parametrize(
    "behaviour",
    [
        receivers.dribbles(b"HTTP/1.1 200 OK\r\n\r\n"),
        receivers.dribbles(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
        receivers.says(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\ncut"),
        receivers.says(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\nhello"),
        receivers.says(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-" + b"F" * 99 + b"\r\n"),
        receivers.says(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"F" * 99 + b"\r\nx"),
        receivers.says(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nmany\r\nhello"),
    ],
)
def test_once_the_status_is_said_the_rest_of_the_answer_does_not_matter(behaviour):
    with receivers.Receiver(behaviour=behaviour) as receiver:
        assert post(receiver.url, **HASTY).accepted


def test_a_refusal_with_a_body_that_cannot_be_read_is_a_refusal():
    said = b"HTTP/1.1 503 No\r\nRetry-After: 7\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\nhello"
    with receivers.Receiver(behaviour=receivers.says(said)) as receiver:
        assert post(receiver.url) == send.Answer(status=503, retry_after=7.0, body="")


@pytest.mark.parametrize("broken", [TypeError, IndexError, RecursionError])
def test_whatever_a_parser_makes_of_an_answer_is_an_answer(monkeypatch, broken):
    def stumble(_text):
        raise broken

    monkeypatch.setattr(send, "parsedate_to_datetime", stumble)  # it did, in Pythons before ours
    with receivers.Receiver(behaviour=receivers.answers(429, {"Retry-After": "tomorrow"})) as receiver:
        answer = post(receiver.url)
    assert (answer.status, answer.error) == (None, f"its answer cannot be read: {broken.__name__}")


@pytest.mark.parametrize("status", [200, 500])
def test_of_ten_megabytes_only_the_beginning_is_read_and_less_is_kept(status):
    body = "ü\x00\x1b[31m".encode() + b"x" * 10_000_000
    with receivers.Receiver(behaviour=receivers.answers(status, body=body)) as receiver:
        answer = post(receiver.url)
    assert answer.status == status
    assert answer.body.startswith("ü��[31mx")
    assert len(answer.body) == 1024


def test_nobody_there():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    assert post(f"http://127.0.0.1:{port}/").error == "Connection refused"


def test_a_full_backlog_is_given_up_in_time():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        queued = [socket.socket() for _ in range(4)]
        for waiting in queued:
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        answer = post(f"http://127.0.0.1:{listener.getsockname()[1]}/", webhook_connect_seconds=0.2)
        for waiting in queued:
            waiting.close()
    assert answer.error == "It cannot be reached within 0.2 s."


def in_an_hour():
    return format_datetime(datetime.datetime.now(datetime.UTC) + datetime.timedelta(hours=1), usegmt=True)


@pytest.mark.parametrize(
    ("text", "least", "most"),
    [
        ("120", 120, 120),
        (in_an_hour, 3500, 3600),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0, 0),
        ("soon", None, None),
    ],
)
def test_retry_after_is_understood(text, least, most):
    text = text if isinstance(text, str) else text()
    with receivers.Receiver(behaviour=receivers.answers(429, {"Retry-After": text})) as receiver:
        found = post(receiver.url).retry_after
    assert found == least if least is None else least <= found <= most


def test_proxies_of_the_environment_are_not_used(monkeypatch):
    with receivers.Receiver() as proxy, receivers.Receiver() as receiver:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        assert post(receiver.url).accepted
    assert (proxy.connections, len(receiver.requests)) == (0, 1)


# Addresses


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "2130706433", "[::ffff:127.0.0.1]"])
def test_loopback_is_refused_and_never_connected_to(host):
    with receivers.Receiver() as receiver:
        answer = post(f"http://{host}:{receiver.port}/", webhook_allow_private=False)
    assert "webhooks are not sent to private addresses" in answer.error
    assert receiver.connections == 0


def test_a_name_that_changes_its_address_is_looked_up_once_and_connected_to_where_it_was_checked():
    with receivers.Receiver(host="127.0.0.2") as allowed, receivers.Receiver() as inside:
        answers = ["127.0.0.2", "127.0.0.1", "127.0.0.1"]
        ports = {"127.0.0.2": allowed.port, "127.0.0.1": inside.port}
        looked_up = []

        def rebinding(host, _port):
            looked_up.append(host)
            address = answers[len(looked_up) - 1]
            return [(socket.AF_INET, (address, ports[address]))]

        by = sender(rebinding, webhook_allow_private=False, webhook_allow_networks=["127.0.0.2/32"])
        assert post("http://rebinding.example:8080/", by=by).accepted
        assert looked_up == ["rebinding.example"]
        assert allowed.requests[0].headers["host"] == "rebinding.example:8080"
        refused = post("http://rebinding.example:8080/", by=by)
    assert "not sent to private addresses" in refused.error
    assert inside.connections == 0


def test_of_mixed_addresses_the_refused_one_is_not_connected_to():
    with receivers.Receiver(host="127.0.0.2") as allowed, receivers.Receiver() as inside:
        places = [(socket.AF_INET, ("127.0.0.1", inside.port)), (socket.AF_INET, ("127.0.0.2", allowed.port))]
        by = sender(
            lambda _host, _port: places, webhook_allow_private=False, webhook_allow_networks=["127.0.0.2/32"]
        )
        assert post("http://mixed.example/", by=by).accepted
    assert inside.connections == 0


def test_where_one_address_is_dead_the_next_is_tried():
    with receivers.Receiver() as receiver, socket.create_server(("127.0.0.3", 0)) as listener:
        dead = listener.getsockname()
        listener.close()
        places = [(socket.AF_INET, dead), (socket.AF_INET, ("127.0.0.1", receiver.port))]
        assert post("http://two.example/", by=sender(lambda _host, _port: places)).accepted


# TLS


@pytest.fixture(scope="session")
def certificates(tmp_path_factory):
    """A certificate of its own authority, for `hooks.example` and 127.0.0.1."""
    folder = tmp_path_factory.mktemp("certificates")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "Voicemill tests")])
    now = datetime.datetime.now(datetime.UTC)
    names = [x509.DNSName("hooks.example"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    usage = x509.KeyUsage(True, False, False, False, False, True, True, False, False)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), 1, now, now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(identifier, critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), critical=False
        )
        .sign(key, hashes.SHA256())
    )
    (folder / "cert.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (folder / "key.pem").write_bytes(private)
    return folder


@pytest.fixture
def tls(certificates):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates / "cert.pem", certificates / "key.pem")
    return context


def test_a_certificate_that_nobody_vouches_for_is_refused_before_anything_is_sent(tls):
    with receivers.Receiver(tls=tls) as receiver:
        answer = post(receiver.url)
    assert answer.error.startswith("its certificate is not good: self")
    assert receiver.requests == []


def test_a_certificate_that_is_vouched_for_is_taken_for_its_own_names_only(tls, certificates):
    trusting = {"webhook_ca_file": certificates / "cert.pem"}
    with receivers.Receiver(tls=tls) as receiver:
        assert post(receiver.url, **trusting).accepted

        def here(_host, _port):
            return [(socket.AF_INET, ("127.0.0.1", receiver.port))]

        assert post("https://hooks.example/", by=sender(here, **trusting)).accepted
        wrong = post("https://other.example/", by=sender(here, **trusting))
    assert "Hostname mismatch" in wrong.error
    assert [request.headers["host"] for request in receiver.requests[1:]] == ["hooks.example"]


def test_a_receiver_that_hangs_in_the_handshake_is_given_up_in_time():
    with socket.create_server(("127.0.0.1", 0)) as listener:  # accepts in the backlog and says nothing
        answer = post(f"https://127.0.0.1:{listener.getsockname()[1]}/", **HASTY)
    assert answer.error == "no answer within 0.5 s"


def test_plain_http_on_a_tls_port_is_a_failure():
    with receivers.Receiver(behaviour=receivers.hangs_up) as receiver:
        receiver._exchange = lambda connection: connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        answer = post(receiver.url.replace("http:", "https:"))
    assert answer.status is None
    assert answer.error
