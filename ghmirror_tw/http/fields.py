"""Field lines of a message, and which of them mean what (RFC 9110, section 5)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, TypeVar

from attrs import define

#: Fields that describe content and are stored with it: all of a representation but its content.
CONTENT_FIELDS: Final = frozenset(
    {
        b"content-type",
        b"content-language",
        b"content-disposition",
        b"vary",
        b"x-github-media-type",
        b"x-github-api-version-selected",
        b"deprecation",
        b"sunset",
    }
)

#: Fields that end at the next hop (RFC 9110, section 7.6.1), and those that we answer to ourselves.
HOP_BY_HOP: Final = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authentication-info",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
        b"http2-settings",
    }
)

#: Fields by which a message is delimited and coded on one connection; each hop makes its own.
FRAMING: Final = frozenset({b"content-length", b"content-encoding"})

#: Fields that describe one message, or the content of just that message; they are not merged into
#: another one (RFC 9111, section 3.2). Enterprise servers send `Status` with each response.
MESSAGE_FIELDS: Final = frozenset(
    {b"status", b"content-range", b"content-md5", b"digest", b"content-digest", b"repr-digest"}
)


def tokens(value: bytes) -> list[bytes]:
    """Return the members of a comma-separated list, lower case (RFC 9110, section 5.6.1)."""
    return [part for raw in value.split(b",") if (part := raw.strip(b" \t").lower())]


T = TypeVar("T")


@define(eq=False, init=False, repr=False)
class Fields:
    """The field lines of a message, in order; names are lower case, values untouched bytes.

    They never change, so what is made of them may be made once; see `once`.
    """

    lines: tuple[tuple[bytes, bytes], ...]
    _made: dict[Callable[[Fields], Any], Any] | None
    #: The first value of each name, once somebody asks for one.
    _first: dict[bytes, bytes] | None
    #: What they were put together from.
    _parts: tuple[Fields, Fields] | None

    def __init__(self, lines: Iterable[tuple[bytes, bytes]] = ()) -> None:
        self.lines = tuple([(name.lower(), value) for name, value in lines])
        self._made = self._first = self._parts = None

    @classmethod
    def of(cls, lines: tuple[tuple[bytes, bytes], ...]) -> Fields:
        """Return fields of *lines* whose names are lower case already."""
        fields = cls.__new__(cls)
        fields.lines = lines
        fields._made = fields._first = fields._parts = None  # noqa: SLF001
        return fields

    def __eq__(self, other: object) -> bool:
        return self.lines == other.lines if isinstance(other, Fields) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.lines)

    def __repr__(self) -> str:
        return f"Fields({self.lines!r})"

    def __iter__(self) -> Iterator[tuple[bytes, bytes]]:
        return iter(self.lines)

    def once(self, make: Callable[[Fields], T]) -> T:
        """Return what *make* makes of these fields; it is asked only once, unless it raises.

        Fields of requests are often the same objects: a client says the same again and again.
        """
        made = self._made
        if made is None:
            made = self._made = {}
        elif make in made:
            known: T = made[make]
            return known
        result = made[make] = make(self)
        return result

    def get(self, name: bytes) -> bytes | None:
        """Return the value of the first line called *name* (lower case), or None."""
        first = self._first
        if first is None:
            first = self._first = dict(reversed(self.lines))
        return first.get(name)

    def get_all(self, name: bytes) -> list[bytes]:
        """Return the values of all lines called *name* (lower case), in order."""
        value = self.get(name)
        if value is None:
            return []
        if self._first is not None and len(self._first) == len(self.lines):
            return [value]  # no name comes twice
        return [line[1] for line in self.lines if line[0] == name]

    def combined(self, name: bytes) -> bytes | None:
        """Return all lines called *name* as one list value (RFC 9110, section 5.3), or None."""
        if self.get(name) is None:
            return None
        return b", ".join(self.get_all(name))

    def listed(self, name: bytes) -> list[bytes]:
        """Return the lower-case list members of all lines called *name*."""
        value = self.combined(name)
        return tokens(value) if value else []

    def only(self, names: frozenset[bytes]) -> Fields:
        """Return the lines whose names are in *names*."""
        return Fields.of(tuple([line for line in self.lines if line[0] in names]))

    def without(self, names: frozenset[bytes]) -> Fields:
        """Return the lines whose names are not in *names*."""
        return Fields.of(tuple([line for line in self.lines if line[0] not in names]))

    def with_line(self, name: bytes, value: bytes | None) -> Fields:
        """Return these lines with exactly one called *name* (lower case), or none for None."""
        kept = [line for line in self.lines if line[0] != name]
        if value is not None:
            kept.append((name, value))
        return Fields.of(tuple(kept))

    def plus(self, more: Fields) -> Fields:
        """Return these lines, and those of *more* behind them."""
        together = Fields.of(self.lines + more.lines)
        together._parts = (self, more)  # noqa: SLF001
        return together

    def end_to_end(self) -> Fields:
        """Return the lines that are meant for the far end (RFC 9110, section 7.6.1)."""
        named = self.listed(b"connection")
        return self.without(HOP_BY_HOP.union(named) if named else HOP_BY_HOP)


def serialised(fields: Fields) -> bytes:
    """Return fields as they are sent, each on a line of its own (RFC 9112, section 5).

    Raises ValueError where that would be other lines than there are fields.
    """
    return fields.once(_serialised)


def _serialised(fields: Fields) -> bytes:
    if fields._parts is not None:  # noqa: SLF001
        return b"".join(map(serialised, fields._parts))  # noqa: SLF001
    lines = fields.lines
    block = b"".join([b"%b: %b\r\n" % line for line in lines])
    # One CR and one LF a line are those that were put there; a space before a name would make it
    # part of the value before it.
    if (
        block.count(b"\n") != len(lines)
        or block.count(b"\r") != len(lines)
        or b"\0" in block
        or b"\n " in block
        or b"\n\t" in block
        or block.startswith((b" ", b"\t"))
    ):
        raise ValueError("a field that is no line")
    return block
