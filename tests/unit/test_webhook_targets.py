"""Which URLs are taken, and what is made of them."""

import pytest

from workers.webhooks import targets


@pytest.mark.parametrize(
    ("url", "scheme", "authority", "port", "path"),
    [
        ("https://example.com", "https", "example.com", 443, "/"),
        ("HTTPS://Example.COM/Hook?a=1&b=%20", "https", "example.com", 443, "/Hook?a=1&b=%20"),
        ("http://example.com:8080/", "http", "example.com:8080", 8080, "/"),
        ("https://example.com:80/", "https", "example.com:80", 80, "/"),
        ("https://bücher.example/straße", "https", "xn--bcher-kva.example", 443, "/stra%C3%9Fe"),
        ("https://faß.example/", "https", "xn--fa-hia.example", 443, "/"),
        ("https://例え.jp/", "https", "xn--r8jz45g.jp", 443, "/"),
        ("http://[2001:DB8::1]:9000/x", "http", "[2001:db8::1]:9000", 9000, "/x"),
        ("http://my_service:5678/x", "http", "my_service:5678", 5678, "/x"),
        ("http://192.0.2.7/x", "http", "192.0.2.7", 80, "/x"),
    ],
)
def test_taken(url, scheme, authority, port, path):
    target = targets.parse(url)
    assert (target.scheme, target.authority, target.port, target.path) == (scheme, authority, port, path)


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("ftp://example.com/", "must begin with"),
        ("example.com/hook", "must begin with"),
        ("file:///etc/passwd", "must begin with"),
        ("https:///hook", "names no host"),
        ("https://example.com/#x", "fragment"),
        ("https://example.com:25/", "port 25"),
        ("https://example.com:22/", "port 22"),
        ("https://example.com:99999/", "Port out of range"),
        ("https://example.com/a b", "a space"),
        ("https://example.com/\r\nX-Injected: 1", "control character"),
        ("https://exa%0d%0ample.com/", "no host name"),
        ("https://[::1/", "Invalid IPv6"),
        ("https://xn--\u00fc.example/", "no host name"),
    ],
)
def test_refused(url, reason):
    with pytest.raises(targets.BadUrlError, match=reason):
        targets.parse(url)


@pytest.mark.parametrize("url", ["https://me:hunter2@example.com/", "ftp://me:hunter2@example.com/ x"])
def test_a_password_is_refused_and_not_repeated(url):
    with pytest.raises(targets.BadUrlError) as raised:
        targets.parse(url)
    assert "hunter2" not in str(raised.value)
