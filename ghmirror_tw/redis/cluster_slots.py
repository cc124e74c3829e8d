"""Hash slots of a Redis Cluster: the slot of a key, the map of slots, and redirections.

Pure: bytes and replies in, values out. The rules are those of the Redis Cluster specification
(https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/).
"""

from __future__ import annotations

from binascii import crc_hqx
from collections.abc import Iterator
from itertools import count
from typing import Any, Final

from attrs import define, field, frozen

from ghmirror_tw.redis.server_endpoint import Address
from ghmirror_tw.runtime.whole_numbers import whole_number

#: How many hash slots there are in every cluster.
SLOTS: Final = 16_384

_MAX_PORT: Final = 65_535


def slot_of_tag(tag: bytes) -> int:
    """Return the hash slot of all keys with this hash tag: CRC16/XMODEM, modulo 16384."""
    return crc_hqx(tag, 0) % SLOTS


@define
class SlotMap:
    """The primary of each slot, where it is known."""

    owners: list[Address | None] = field(factory=lambda: [None] * SLOTS)

    def owner(self, slot: int) -> Address | None:
        """Return the address of the primary of *slot*; None: no shard has it."""
        return self.owners[slot]

    def assign(self, first: int, last: int, owner: Address) -> None:
        """Assign the slots from *first* to *last* to *owner*."""
        self.owners[first : last + 1] = [owner] * (last + 1 - first)

    def tag(self, owner: Address) -> bytes:
        """Return a hash tag whose slot belongs to *owner*; at least one must."""
        tags = (b"%d" % number for number in count())
        return next(tag for tag in tags if self.owners[slot_of_tag(tag)] == owner)

    @property
    def primaries(self) -> frozenset[Address]:
        """The addresses of all primaries with slots."""
        return frozenset(owner for owner in self.owners if owner is not None)

    @property
    def is_complete(self) -> bool:
        """Whether every slot has an owner."""
        return None not in self.owners


def read_slots(reply: Any, source: Address) -> SlotMap:
    """Return the map in a reply to ``CLUSTER SLOTS`` from *source*.

    Replicas are left out. Raises ValueError for an invalid reply.
    """
    slots = SlotMap()
    for first, last, primary in _ranges(reply):
        host, port, about = primary[0], primary[1], primary[3] if len(primary) > 3 else None  # noqa: PLR2004
        slots.assign(first, last, Address(_host(host, about, source), _port(port)))
    return slots


def _ranges(reply: Any) -> Iterator[tuple[int, int, list[Any]]]:
    if not isinstance(reply, list):
        raise ValueError("not a list")  # noqa: TRY004 - it is input
    for entry in reply:
        match entry:
            case [int(first), int(last), [_, _, *_] as primary, *_] if 0 <= first <= last < SLOTS:
                yield first, last, primary
            case _:
                raise ValueError("invalid range of slots")


def _host(endpoint: Any, about: Any, source: Address) -> str:
    """Return the host of an endpoint.

    NULL and empty mean the host of *source*: the node does not know its own address. ``?`` means
    that hostnames are preferred but the node has none; *about* may have its IP address.
    """
    if endpoint is None or endpoint == b"":
        return source.host
    if endpoint == b"?":
        pairs = about if isinstance(about, list) else []
        # Compared, not looked up: a name may be a list, which is no key of a dict.
        hosts = (host for name, host in zip(pairs[::2], pairs[1::2], strict=False) if name == b"ip")
        endpoint = next(hosts, None) or source.host.encode()
    if not isinstance(endpoint, bytes):
        raise ValueError("invalid host")  # noqa: TRY004 - it is input
    return _text(endpoint)


def _text(host: bytes) -> str:
    text = host.decode("ascii")  # a UnicodeDecodeError is a ValueError
    if not text.isprintable() or " " in text:
        raise ValueError("invalid host")
    return text


def _port(port: Any) -> int:
    if not isinstance(port, int) or not 0 < port <= _MAX_PORT:
        raise ValueError("invalid port")
    return port


@frozen
class Redirection:
    """A redirection of *slot* to *address*: permanent, or for this command only (*once*)."""

    slot: int
    address: Address
    once: bool


def read_redirection(message: str, source: Address) -> Redirection | None:
    """Return the redirection in an error reply from *source*; None: it has none.

    ``MOVED 3999 127.0.0.1:6381`` is permanent, ``ASK …`` is for one command. Without a host, or
    with ``?``, the host is that of *source*. Raises ValueError for an invalid redirection.
    """
    word, _, rest = message.partition(" ")
    if word not in {"MOVED", "ASK"}:
        return None
    slot, _, endpoint = rest.partition(" ")
    host, colon, port = endpoint.partition(" ")[0].rpartition(":")
    number = whole_number(slot, SLOTS - 1)
    if number is None or not colon:
        raise ValueError("invalid slot")
    host = host.removeprefix("[").removesuffix("]")
    named = source.host if host in {"", "?"} else _text(host.encode())
    return Redirection(number, Address(named, _port(whole_number(port))), once=word == "ASK")
