"""The fields of a message: its field lines, and sets of field names (RFC 9110, section 5)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, TypeVar

from attrs import define

#: Fields that describe content: with it, they are a representation.
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

#: Fields for the next hop alone (RFC 9110, section 7.6.1), or for the mirror itself.
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

#: Fields that delimit and code a message on one connection; each hop sends its own.
FRAMING: Final = frozenset({b"content-length", b"content-encoding"})

#: Fields that describe one message, or its content; they do not update those of a stored response
#: (RFC 9111, section 3.2). Enterprise servers send `Status` with each response.
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

    They are immutable, so values that derive from them can be memoised; see `memoised`.
    """

    lines: tuple[tuple[bytes, bytes], ...]
    _memo: dict[Callable[[Fields], Any], Any] | None
    #: The first value of each name, built at the first look-up.
    _first: dict[bytes, bytes] | None
    #: The two parts of which `plus` made these fields: serialised each on its own, each once.
    _parts: tuple[Fields, Fields] | None

    def __init__(self, lines: Iterable[tuple[bytes, bytes]] = ()) -> None:
        self.lines = tuple([(name.lower(), value) for name, value in lines])
        self._memo = self._first = self._parts = None

    @classmethod
    def of(cls, lines: tuple[tuple[bytes, bytes], ...]) -> Fields:
        """Return fields of *lines* whose names are lower case already."""
        fields = cls.__new__(cls)
        fields.lines = lines
        fields._memo = fields._first = fields._parts = None  # noqa: SLF001
        return fields

    def __eq__(self, other: object) -> bool:
        return self.lines == other.lines if isinstance(other, Fields) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.lines)

    def __repr__(self) -> str:
        return f"Fields({self.lines!r})"

    def __iter__(self) -> Iterator[tuple[bytes, bytes]]:
        return iter(self.lines)

    def memoised(self, derive: Callable[[Fields], T]) -> T:
        """Return ``derive(self)``, computed once unless it raises.

        The fields of a client's repeated requests are one object (see `request_head_cache`), so
        each of its credential names, keys and negotiations costs a look-up of 0.1 µs.
        """
        memo = self._memo
        if memo is None:
            memo = self._memo = {}
        elif derive in memo:
            known: T = memo[derive]
            return known
        result = memo[derive] = derive(self)
        return result

    def get(self, name: bytes) -> bytes | None:
        """Return the value of the first line called *name* (lower case), or None."""
        first = self._first
        if first is None:
            first = self._index()
        return first.get(name)

    def _index(self) -> dict[bytes, bytes]:
        first = self._first = dict(reversed(self.lines))
        return first

    def get_each(self, *names: bytes) -> Iterator[bytes | None]:
        """Return what `get` does, for each of *names*."""
        first = self._first
        if first is None:
            first = self._index()
        return map(first.get, names)

    def get_all(self, name: bytes) -> list[bytes]:
        """Return the values of all lines called *name* (lower case), in order."""
        first = self._first
        if first is None:
            first = self._index()
        if name not in first:
            return []
        if len(first) == len(self.lines):
            return [first[name]]  # no name occurs twice
        return [line[1] for line in self.lines if line[0] == name]

    def combined(self, name: bytes) -> bytes | None:
        """Return all lines called *name* as one list value (RFC 9110, section 5.3), or None."""
        first = self._first
        if first is None:
            first = self._index()
        if name not in first or len(first) == len(self.lines):
            return first.get(name)
        return b", ".join(self.get_all(name))

    def in_one_line(self, name: bytes) -> Fields:
        """Return these lines with all called *name* as one list, in place of the first."""
        values = self.get_all(name)
        if len(values) <= 1:
            return self
        first = next(at for at, line in enumerate(self.lines) if line[0] == name)
        rest = [line for line in self.lines[first:] if line[0] != name]
        return Fields.of((*self.lines[:first], (name, b", ".join(values)), *rest))

    def listed(self, name: bytes) -> list[bytes]:
        """Return the lower-case list members of all lines called *name*."""
        value = self.combined(name)
        return tokens(value) if value else []

    def only(self, names: frozenset[bytes]) -> Fields:
        """Return the lines whose names are in *names*."""
        return Fields.of(tuple([line for line in self.lines if line[0] in names]))

    def without(self, names: frozenset[bytes]) -> Fields:
        """Return the lines whose names are not in *names*."""
        kept = [line for line in self.lines if line[0] not in names]
        # Mostly all are kept, and what was derived from them is used again.
        return self if len(kept) == len(self.lines) else Fields.of(tuple(kept))

    def with_line(self, name: bytes, value: bytes | None) -> Fields:
        """Return these lines with exactly one called *name* (lower case), or none for None."""
        kept = [line for line in self.lines if line[0] != name]
        if value is not None:
            kept.append((name, value))
        return Fields.of(tuple(kept))

    def plus(self, more: Fields) -> Fields:
        """Return these lines, followed by those of *more*."""
        joined = Fields.of(self.lines + more.lines)
        joined._parts = (self, more)  # noqa: SLF001
        return joined

    def end_to_end(self) -> Fields:
        """Return the lines without hop-by-hop fields (RFC 9110, section 7.6.1)."""
        named = self.listed(b"connection")
        return self.without(HOP_BY_HOP.union(named) if named else HOP_BY_HOP)


def serialised(fields: Fields) -> bytes:
    """Return fields as they are sent, one a line (RFC 9112, section 5).

    Raises ValueError for a name or value that would change the lines.
    """
    parts = fields._parts  # noqa: SLF001
    if parts is None:
        return fields.memoised(_serialised)
    return parts[0].memoised(_serialised) + parts[1].memoised(_serialised)


def _serialised(fields: Fields) -> bytes:
    lines = fields.lines
    block = b"".join([b"%b: %b\r\n" % line for line in lines])
    # A receiver takes a further CR or LF for the end of a line, and a line that begins with a space
    # for the rest of the value before.
    if (
        block.count(b"\n") != len(lines)
        or block.count(b"\r") != len(lines)
        or b"\0" in block
        or b"\n " in block
        or b"\n\t" in block
        or block.startswith((b" ", b"\t"))
    ):
        raise ValueError("a field that would not be one line")
    return block
