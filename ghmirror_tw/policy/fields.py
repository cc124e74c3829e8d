"""Field lines of a message, and which of them mean what (RFC 9110, section 5)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from attrs import field, frozen

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


def tokens(value: bytes) -> list[bytes]:
    """Return the members of a comma-separated list, lower case (RFC 9110, section 5.6.1)."""
    return [part for raw in value.split(b",") if (part := raw.strip(b" \t").lower())]


def _lower(lines: Iterable[tuple[bytes, bytes]]) -> tuple[tuple[bytes, bytes], ...]:
    return tuple((name.lower(), value) for name, value in lines)


@frozen
class Fields:
    """The field lines of a message, in order; names are lower case, values untouched bytes."""

    lines: tuple[tuple[bytes, bytes], ...] = field(default=(), converter=_lower)

    def __iter__(self) -> Iterator[tuple[bytes, bytes]]:
        return iter(self.lines)

    def get(self, name: bytes) -> bytes | None:
        """Return the value of the first line called *name* (lower case), or None."""
        for line_name, value in self.lines:
            if line_name == name:
                return value
        return None

    def get_all(self, name: bytes) -> list[bytes]:
        """Return the values of all lines called *name* (lower case), in order."""
        return [value for line_name, value in self.lines if line_name == name]

    def combined(self, name: bytes) -> bytes | None:
        """Return all lines called *name* as one list value (RFC 9110, section 5.3), or None."""
        values = self.get_all(name)
        return b", ".join(values) if values else None

    def listed(self, name: bytes) -> list[bytes]:
        """Return the lower-case list members of all lines called *name*."""
        return tokens(self.combined(name) or b"")

    def only(self, names: frozenset[bytes]) -> Fields:
        """Return the lines whose names are in *names*."""
        return of_lower(tuple(line for line in self.lines if line[0] in names))

    def without(self, names: frozenset[bytes]) -> Fields:
        """Return the lines whose names are not in *names*."""
        return of_lower(tuple(line for line in self.lines if line[0] not in names))

    def with_line(self, name: bytes, value: bytes | None) -> Fields:
        """Return these lines with exactly one called *name* (lower case), or none for None."""
        kept = tuple(line for line in self.lines if line[0] != name)
        return of_lower(kept if value is None else (*kept, (name, value)))

    def updated(self, newer: Fields) -> Fields:
        """Return these lines, with every field that *newer* has replaced by what it says there."""
        names = {name for name, _ in newer.lines}
        kept = tuple(line for line in self.lines if line[0] not in names)
        return of_lower(kept + newer.lines)

    def end_to_end(self) -> Fields:
        """Return the lines that are meant for the far end (RFC 9110, section 7.6.1)."""
        return self.without(HOP_BY_HOP | frozenset(self.listed(b"connection")))


def of_lower(lines: tuple[tuple[bytes, bytes], ...]) -> Fields:
    """Return fields of lines whose names are lower case already."""
    fields = Fields.__new__(Fields)
    object.__setattr__(fields, "lines", lines)
    return fields


def serialised(fields: Fields) -> bytes:
    """Return fields as they are sent, each on a line of its own (RFC 9112, section 5).

    Raises ValueError where that would be other lines than there are fields.
    """
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
