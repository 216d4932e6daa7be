"""Which addresses webhooks may be sent to."""

import socket
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from threading import Event

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.webhooks import addresses

STRICT, PRIVATE_TOO = addresses.Policy(), addresses.Policy(allow_private=True)
PRIVATE = [
    "127.0.0.1",
    "127.9.9.9",
    "10.1.2.3",
    "172.31.255.255",
    "192.168.0.1",
    "100.64.0.1",
    "::1",
    "fd12::1",
]
NEVER = [
    *(
        "0.0.0.0",
        "0.1.2.3",
        "169.254.1.1",
        "224.0.0.1",
        "239.1.1.1",
        "255.255.255.255",
        "240.0.0.1",
        "198.18.0.1",
    ),
    *("::", "fe80::1", "fe80::1%2", "ff02::1", "fec0::1", "2001:db8::1", "64:ff9b:1::1", "100::1"),
    *("169.254.169.254", "100.100.100.200", "168.63.129.16", "192.0.0.192", "fd00:ec2::254", "fd20:ce::254"),
]
PUBLIC = [
    "8.8.8.8",
    "93.184.216.34",
    "172.32.0.1",
    "100.128.0.1",
    "2606:2800:220:1::1",
    "2a00:1450::1",
    "64:ff9b::808:808",
]


@pytest.mark.parametrize("text", PUBLIC)
def test_public(text):
    assert STRICT.refusal(ip_address(text)) is None


@pytest.mark.parametrize("text", PRIVATE)
def test_private_unless_allowed(text):
    assert STRICT.refusal(ip_address(text)) == "private"
    assert PRIVATE_TOO.refusal(ip_address(text)) is None


@pytest.mark.parametrize("text", NEVER)
def test_never_unless_named(text):
    address = ip_address(text)
    assert PRIVATE_TOO.refusal(address) in ("special", "metadata")
    named = addresses.Policy(allow_networks=(ip_network(text.partition("%")[0]),))
    assert named.refusal(ip_address(text.partition("%")[0])) is None


def embedded(address):
    """The IPv6 addresses that lead to an IPv4 one."""
    number = int(address)
    yield IPv6Address(0xFFFF << 32 | number)  # mapped
    yield IPv6Address(number)  # compatible
    yield IPv6Address(int(IPv6Address("64:ff9b::")) | number)  # NAT64
    yield IPv6Address(int(IPv6Address("64:ff9b:1::")) | number)  # NAT64, local
    yield IPv6Address(0x2002 << 112 | number << 80 | 1)  # 6to4
    yield IPv6Address(0x2001 << 112 | number << 64 | 1)  # Teredo: the server
    yield IPv6Address(0x2001 << 112 | 0x08080808 << 64 | (number ^ 0xFFFF_FFFF))  # Teredo: the client


@given(st.ip_addresses(v=4))
def test_a_refused_address_is_refused_however_it_is_wrapped(address):
    if STRICT.refusal(address) is not None:
        assert all(STRICT.refusal(wrapped) is not None for wrapped in embedded(address))


@given(
    st.one_of(
        st.ip_addresses(),
        st.sampled_from([*addresses.PRIVATE, *addresses.METADATA, *addresses.NEVER]).flatmap(
            lambda network: st.ip_addresses(network=network)
        ),
    )
)
def test_what_python_calls_not_global_is_never_taken_for_public(address):
    if STRICT.refusal(address) is None:
        meant = addresses._meant(address)
        assert meant.is_global
        assert not meant.is_multicast


def place(text):
    family = socket.AF_INET6 if ":" in text else socket.AF_INET
    return family, (text, 443)


def test_of_several_addresses_only_those_that_may_be_are_left():
    assert STRICT.check("host", [place("10.0.0.1"), place("8.8.8.8"), place("::1")]) == [place("8.8.8.8")]


def test_where_none_is_left_it_says_which_and_what_to_do():
    with pytest.raises(addresses.AddressRefusedError, match=r"intranet is at 10.0.0.1.*PRIVATE=true"):
        STRICT.check("intranet", [place("10.0.0.1"), place("::1")])
    with pytest.raises(addresses.AddressRefusedError, match=r"metadata addresses.*ALLOW_NETWORKS"):
        PRIVATE_TOO.check("sly", [place("169.254.169.254")])


@pytest.mark.parametrize(
    "host", ["2130706433", "0x7f.1", "0177.0.0.1", "127.1", "localhost", "::ffff:127.0.0.1"]
)
def test_loopback_by_whatever_name_is_refused(host):
    with pytest.raises(addresses.AddressRefusedError):
        STRICT.check(host, addresses.lookup(host, 80))


def test_a_look_up_that_hangs_is_left_behind():
    release = Event()

    def hang(_host, _port):
        release.wait()
        return []

    with pytest.raises(addresses.NoAddressError, match=r"did not answer in 0\.05 s"):
        addresses.within(0.05, hang, "slow.example", 80)
    release.set()


def test_a_look_up_that_fails_says_why():
    def fail(_host, _port):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    with pytest.raises(addresses.NoAddressError, match="Name or service not known"):
        addresses.within(1, fail, "none.example", 80)
    with pytest.raises(addresses.NoAddressError, match="know none"):
        addresses.within(1, lambda _host, _port: [], "none.example", 80)


def test_both_kinds_of_address_are_known():
    assert isinstance(ip_address("64:ff9b::7f00:1"), IPv6Address)
    assert addresses._meant(ip_address("64:ff9b::7f00:1")) == IPv4Address("127.0.0.1")
