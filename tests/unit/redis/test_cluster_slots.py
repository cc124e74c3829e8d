"""Hash slots of keys, the map of slots, and redirections."""

from __future__ import annotations

from binascii import crc_hqx
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ghmirror_tw.redis.cluster_slots import (
    SLOTS,
    Redirection,
    SlotMap,
    read_redirection,
    read_slots,
    slot_of_tag,
)
from ghmirror_tw.redis.server_endpoint import Address

ASK = Address("config.example.com", 6379)

hosts = st.sampled_from(
    ["127.0.0.1", "10.0.3.250", "::1", "fe80::1:2", "m-0001-001.m.abc.euw1.cache.amazonaws.com"]
)
ports = st.integers(1, 65_535)
addresses = st.builds(Address, hosts, ports)


@pytest.mark.parametrize(
    ("key", "slot"),
    [
        (b"123456789", 0x31C3),
        (b"foo", 12_182),
        (b"bar", 5_061),
        (b"", 0),
    ],
)
def test_known_slots(key: bytes, slot: int) -> None:
    """Tags have the slots of the Redis Cluster specification."""
    assert slot_of_tag(key) == slot


@given(st.binary())
def test_slots_are_crc16(key: bytes) -> None:
    """Bit by bit, the checksum has the polynomial 0x1021 and starts from nothing."""
    crc = 0
    for byte in key:
        crc ^= byte << 8
        for _ in range(8):
            crc = (crc << 1 ^ (0x1021 if crc & 0x8000 else 0)) & 0xFFFF
    assert slot_of_tag(key) == crc % SLOTS == crc_hqx(key, 0) % SLOTS


def node(host: Any, port: Any = 6379, about: Any = ()) -> list[Any]:
    """Return a node as in a reply to ``CLUSTER SLOTS``."""
    return [host, port, b"07c37dfeb235213a872192d90877d0cd55635b91", list(about)]


@given(st.lists(addresses, min_size=1, max_size=8), st.data())
def test_ranges_are_read(owners: list[Address], data: st.DataObject) -> None:
    """Each slot in a range belongs to its first node, and other slots to no node."""
    edges = sorted(
        data.draw(
            st.lists(
                st.integers(0, SLOTS - 1),
                min_size=2 * len(owners),
                max_size=2 * len(owners),
                unique=True,
            )
        )
    )
    ranges = list(zip(edges[::2], edges[1::2], owners, strict=True))
    replica = node(b"10.9.9.9")
    slots = read_slots(
        [
            [first, last, node(owner.host.encode(), owner.port), replica]
            for first, last, owner in ranges
        ],
        ASK,
    )
    assert slots.primaries == set(owners)
    near = {edge + step for edge in edges for step in (-1, 0, 1)}
    for slot in near & set(range(SLOTS)):
        owner = next((owner for first, last, owner in ranges if first <= slot <= last), None)
        assert slots.owner(slot) == owner
    for owner in owners:
        assert slots.owner(slot_of_tag(slots.tag(owner))) == owner


@pytest.mark.parametrize(
    ("endpoint", "about", "host"),
    [
        (b"10.0.0.7", [], "10.0.0.7"),
        (b"m-0001-001.example.com", [b"ip", b"10.0.0.7"], "m-0001-001.example.com"),
        (None, [b"ip", b"10.0.0.7"], ASK.host),
        (b"", [], ASK.host),
        (b"?", [b"ip", b"10.0.0.7"], "10.0.0.7"),
        (b"?", [], ASK.host),
        (b"?", [["no", "name"], b"x", b"ip", b"10.0.0.7"], "10.0.0.7"),
    ],
)
def test_endpoints(endpoint: bytes | None, about: list[Any], host: str) -> None:
    """The preferred endpoint counts; NULL is the host of the reply's source."""
    slots = read_slots([[0, 9, node(endpoint, 7000, about)]], ASK)
    assert slots.owner(9) == Address(host, 7000)
    assert not slots.is_complete


def test_nodes_of_older_servers() -> None:
    """Before Redis 4 nodes had no name, and before Redis 7 no further data."""
    slots = read_slots([[0, 9, [b"10.0.0.7", 7000]], [10, SLOTS - 1, node(b"::1")[:3]]], ASK)
    assert slots.primaries == {Address("10.0.0.7", 7000), Address("::1", 6379)}
    assert slots.is_complete


json_like: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.integers() | st.binary(max_size=9) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=5),
)


@given(json_like)
def test_other_replies_are_refused(reply: Any) -> None:
    """Any reply is parsed, or ValueError is raised."""
    try:
        slots = read_slots(reply, ASK)
    except ValueError:
        return
    assert isinstance(slots, SlotMap)


@pytest.mark.parametrize(
    "entry",
    [
        [0, SLOTS, node(b"a")],
        [9, 8, node(b"a")],
        [-1, 8, node(b"a")],
        [0, 8],
        [0, 8, node(b"a", 0)],
        [0, 8, node(b"a", 65_536)],
        [0, 8, node(b"a", b"6379")],
        [0, 8, node(b"a b")],
        [0, 8, node("ä".encode())],
    ],
)
def test_invalid_ranges_are_refused(entry: list[Any]) -> None:
    """One invalid range makes the whole reply invalid."""
    with pytest.raises(ValueError, match=r".+"):
        read_slots([[0, 8, node(b"a")], entry], ASK)


@given(st.integers(0, SLOTS - 1), addresses, st.booleans(), st.booleans())
def test_redirections_are_read(slot: int, address: Address, once: bool, boxed: bool) -> None:
    """MOVED and ASK name a slot and an address; IPv6 is without brackets, but may have them."""
    host = f"[{address.host}]" if boxed and ":" in address.host else address.host
    message = f"{'ASK' if once else 'MOVED'} {slot} {host}:{address.port}"
    assert read_redirection(message, ASK) == Redirection(slot, address, once)


@pytest.mark.parametrize("host", ["", "?"])
def test_redirections_without_a_host(host: str) -> None:
    """The host is that of the error's source."""
    assert read_redirection(f"MOVED 3999 {host}:6381", ASK) == Redirection(
        3999, Address(ASK.host, 6381), once=False
    )


@pytest.mark.parametrize(
    "message", ["", "WRONGTYPE Operation", "MOVEDX 1 a:1", "ASKING", "TRYAGAIN Multiple keys"]
)
def test_other_errors_are_none(message: str) -> None:
    """Only MOVED and ASK are redirections."""
    assert read_redirection(message, ASK) is None


@pytest.mark.parametrize(
    "message",
    ["MOVED", "MOVED 1", "ASK 1 a", "MOVED a b:1", f"MOVED {SLOTS} a:1", "ASK 1 a:0", "ASK 1 a:b"]
    + [f"MOVED 1 a:{'9' * digits}" for digits in (6, 5_000)]
    + [f"MOVED {'9' * 5_000} a:1"],
)
def test_invalid_redirections_are_refused(message: str) -> None:
    """They do not count as replies."""
    with pytest.raises(ValueError, match=r".+"):
        read_redirection(message, ASK)


def test_a_moved_slot_moves_alone() -> None:
    """Its neighbours have the same owners as before."""
    slots = read_slots([[0, SLOTS - 1, node(b"a")]], ASK)
    slots.assign(7, 7, Address("b", 1))
    assert [slots.owner(slot) for slot in (6, 7, 8)] == [
        Address(host, port) for host, port in (("a", 6379), ("b", 1), ("a", 6379))
    ]
