"""Which shard of a Redis Cluster has which keys, and what its redirections say.

Pure: bytes and replies in, values out. The rules are those of the Redis Cluster specification
(https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/).
"""

from __future__ import annotations

from binascii import crc_hqx
from collections.abc import Iterator
from itertools import count
from typing import Any, Final

from attrs import define, field, frozen

from ghmirror_tw.redis.address import Address
from ghmirror_tw.runtime.numbers import whole_number

#: How many hash slots there are in every cluster.
SLOTS: Final = 16_384

_MAX_PORT: Final = 65_535


def slot_of_tag(tag: bytes) -> int:
    """Return the hash slot of all keys with this hash tag: CRC16/XMODEM, modulo 16384."""
    return crc_hqx(tag, 0) % SLOTS


def slot_of_key(key: bytes) -> int:
    """Return the hash slot of *key*.

    What stands between its first ``{`` and the first ``}`` after that is its hash tag, unless
    there is nothing; without one the whole key is hashed.
    """
    _, opened, rest = key.partition(b"{")
    tag, closed, _ = rest.partition(b"}")
    return slot_of_tag(tag if opened and closed and tag else key)


@define
class SlotMap:
    """The primary of each slot, as far as it is known."""

    _owners: list[Address | None] = field(factory=lambda: [None] * SLOTS)

    def owner(self, slot: int) -> Address | None:
        """Return where the primary is that has *slot*, or None if nobody has it."""
        return self._owners[slot]

    def take(self, first: int, last: int, owner: Address) -> None:
        """Remember that *owner* has the slots from *first* to *last*."""
        self._owners[first : last + 1] = [owner] * (last + 1 - first)

    def tag(self, owner: Address) -> bytes:
        """Return some hash tag whose slot *owner* has; it must have one."""
        tags = (b"%d" % number for number in count())
        return next(tag for tag in tags if self._owners[slot_of_tag(tag)] == owner)

    @property
    def primaries(self) -> frozenset[Address]:
        """Where all primaries are that have slots."""
        return frozenset(owner for owner in self._owners if owner is not None)

    @property
    def is_complete(self) -> bool:
        """Whether every slot has an owner."""
        return None not in self._owners


def read_slots(reply: Any, asked: Address) -> SlotMap:
    """Return what a reply to ``CLUSTER SLOTS`` says; *asked* is where it came from.

    Replicas are left out. Raises ValueError for what is no such reply.
    """
    slots = SlotMap()
    for first, last, primary in _ranges(reply):
        host, port, about = primary[0], primary[1], primary[3] if len(primary) > 3 else None  # noqa: PLR2004
        slots.take(first, last, Address(_host(host, about, asked), _port(port)))
    return slots


def _ranges(reply: Any) -> Iterator[tuple[int, int, list[Any]]]:
    if not isinstance(reply, list):
        raise ValueError("it is no list")  # noqa: TRY004 - it came from outside
    for entry in reply:
        match entry:
            case [int(first), int(last), [_, _, *_] as primary, *_] if 0 <= first <= last < SLOTS:
                yield first, last, primary
            case _:
                raise ValueError("a range of slots in it can't be read")


def _host(endpoint: Any, about: Any, asked: Address) -> str:
    """Return the host that an endpoint means.

    NULL and empty mean the one that was asked: the node does not know how it is reached. ``?``
    means that hostnames shall be used but this node has none; then its address may stand beside.
    """
    if endpoint is None or endpoint == b"":
        return asked.host
    if endpoint == b"?":
        pairs = about if isinstance(about, list) else []
        # Compared, not looked up: a name may be a list, which is no key of a dict.
        hosts = (host for name, host in zip(pairs[::2], pairs[1::2], strict=False) if name == b"ip")
        endpoint = next(hosts, None) or asked.host.encode()
    if not isinstance(endpoint, bytes):
        raise ValueError("a host in it can't be read")  # noqa: TRY004 - it came from outside
    return _text(endpoint)


def _text(host: bytes) -> str:
    text = host.decode("ascii")  # a UnicodeDecodeError is a ValueError
    if not text.isprintable() or " " in text:
        raise ValueError("a host in it can't be read")
    return text


def _port(port: Any) -> int:
    if not isinstance(port, int) or not 0 < port <= _MAX_PORT:
        raise ValueError("a port in it can't be read")
    return port


@frozen
class Redirection:
    """A node says that another one has *slot*: for good, or for this command only (*once*)."""

    slot: int
    address: Address
    once: bool


def read_redirection(message: str, asked: Address) -> Redirection | None:
    """Return what an error reply from *asked* says, or None if it is no redirection.

    ``MOVED 3999 127.0.0.1:6381`` (for good) or ``ASK …`` (once); without a host, or with ``?``, it
    is the host that was asked. Raises ValueError for a redirection that cannot be understood.
    """
    word, _, rest = message.partition(" ")
    if word not in {"MOVED", "ASK"}:
        return None
    slot, _, endpoint = rest.partition(" ")
    host, colon, port = endpoint.partition(" ")[0].rpartition(":")
    number = whole_number(slot, SLOTS - 1)
    if number is None or not colon:
        raise ValueError("the slot can't be read")
    host = host.removeprefix("[").removesuffix("]")
    known = asked.host if host in {"", "?"} else _text(host.encode())
    return Redirection(number, Address(known, _port(whole_number(port))), once=word == "ASK")
