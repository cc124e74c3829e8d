"""Rewriting GitHub's URLs into the mirror's: in JSON, in `Link` and in `Location`.

Clients insist that the URLs they are given lead to the host they asked. Only what is a URL of the
API is touched: a JSON string value that starts with it, never an object's name, never text that
mentions it.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

from attrs import define, field, frozen

from ghmirror_tw.policy.fields import Fields
from ghmirror_tw.policy.pagination import LINK_VALUE

#: How far we look for the end of a string to tell an object's name from a value, in bytes. What
#: is longer is taken for a value; so much, and one chunk, is held in memory at most.
LOOK_AHEAD_BYTES: Final = 64 * 1024

#: The rest of a JSON string (RFC 8259, section 7), and the first byte of what follows it.
_REST_OF_STRING: Final = rb'(?s:[^"\\]*+(?:\\.[^"\\]*+)*+"[ \t\r\n]*+%s)'
_WHAT_FOLLOWS: Final = re.compile(_REST_OF_STRING % rb"(.)", re.DOTALL)

#: What may come after the API's URL, lest it be the beginning of another host's name.
_BOUNDARY: Final = rb'[/?#{"]|\\/'

#: Media types of GitHub's whose content is somebody's file or page, whatever their suffix says
#: (GitHub: media types). Text with the suffix `+json` that is not JSON must not be touched.
_NOT_JSON: Final = frozenset({b"raw", b"diff", b"patch", b"html", b"sha", b"base64"})


@lru_cache(64)
def is_json(content_type: bytes | None) -> bool:
    """Tell whether content is JSON of GitHub's making, by its media type (RFC 6839, section 3.1).

    `application/vnd.github.raw+json` and its like are not: what they carry is somebody's file.
    """
    essence = (content_type or b"").partition(b";")[0].strip(b" \t").lower()
    subtype = essence.partition(b"/")[2]
    if subtype != b"json" and not subtype.endswith(b"+json"):
        return False
    kinds = re.split(rb"[.+]", subtype) if subtype.startswith(b"vnd.github.") else ()
    return _NOT_JSON.isdisjoint(kinds)


def _in_json(url: bytes) -> tuple[re.Pattern[bytes], re.Pattern[bytes]]:
    """Return patterns of *url* where a string opens, and only where that string is a value.

    In valid JSON, a quotation mark without a backslash before it and a letter after it can only
    open a string; with a colon before it, that of a value. Others are names if a colon follows
    them. Slashes may be escaped. A literal prefix comes first, since that is found fastest.
    """
    first, *others = (re.escape(part) for part in url.split(b"/"))
    rest = b"".join(rb"\\?/" + part for part in others) + rb"(?=%s)" % _BOUNDARY
    opens = rb'"%s(?<!\\"%s)' % (first, first) + rest
    after_colon = rb'(?<=:"%s)' % first + rest
    elsewhere = rb'(?<![:\\]"%s)' % first + rest + rb"(?!%s)" % (_REST_OF_STRING % rb":")
    value = rb'"%s(?:%s|%s)' % (first, after_colon, elsewhere)
    return re.compile(opens), re.compile(value)


def _in_text(url: bytes) -> re.Pattern[bytes]:
    return re.compile(re.escape(url) + rb"(?=[/?#{]|\Z)")


@frozen
class Rewriter:
    """Puts another base in the place of *api_url*, which has no slash at its end."""

    api_url: bytes
    _value: re.Pattern[bytes] = field(init=False, eq=False, repr=False)
    _opening: re.Pattern[bytes] = field(init=False, eq=False, repr=False)
    _start: re.Pattern[bytes] = field(init=False, eq=False, repr=False)
    #: What is nowhere in content that has nothing to rewrite, and is found sooner than a pattern.
    _host: bytes = field(init=False, eq=False, repr=False)

    def __attrs_post_init__(self) -> None:
        opening, value = _in_json(self.api_url)
        object.__setattr__(self, "_opening", opening)
        object.__setattr__(self, "_value", value)
        object.__setattr__(self, "_start", _in_text(self.api_url))
        object.__setattr__(self, "_host", self.api_url.split(b"/")[2])

    def content(self, body: bytes, base: bytes) -> bytes:
        """Return JSON *body* with *base* in place of the API's URL where string values start.

        All other bytes stay as they are. *base* has no slash at its end and needs no escaping.
        """
        if base == self.api_url or self._host not in body:
            return body
        if len(body) > LOOK_AHEAD_BYTES:
            stream = self.stream(base)
            return stream.feed(body) + stream.finish()
        return self._value.sub((b'"' + base).replace(b"\\", rb"\\"), body)

    def stream(self, base: bytes) -> RewritingStream:
        """Return what does to a body in pieces the same as `content` does to it as a whole."""
        return RewritingStream(b"" if base == self.api_url else self.api_url, base, self._opening)

    def fields(self, fields: Fields, base: bytes) -> Fields:
        """Return *fields* with *base* in place of the API's URL in `Link` and `Location`."""
        if base == self.api_url or (
            fields.get(b"link") is None and fields.get(b"location") is None
        ):
            return fields
        return Fields.of(tuple([(name, self._field(name, value, base)) for name, value in fields]))

    def _field(self, name: bytes, value: bytes, base: bytes) -> bytes:
        if name == b"location":
            return self._target(value, base)
        if name == b"link":
            return LINK_VALUE.sub(
                lambda link: b"<%s>%s" % (self._target(link[1], base), link[2]), value
            )
        return value

    def _target(self, target: bytes, base: bytes) -> bytes:
        found = self._start.match(target)
        return target if found is None else base + target[found.end() :]


@define
class RewritingStream:
    """Rewrites a JSON body that comes in pieces, holding back only what is not decided yet."""

    _api_url: bytes
    _base: bytes
    _opening: re.Pattern[bytes]
    _buffer: bytes = field(default=b"", init=False)
    #: How much of the buffer has been passed on, and is kept to see what comes before the rest.
    _passed: int = field(default=0, init=False)

    def feed(self, chunk: bytes) -> bytes:
        """Return what can be passed on, now that *chunk* has come."""
        if not self._api_url:
            return chunk
        return self._advance(self._buffer + chunk, ended=False)

    def finish(self) -> bytes:
        """Return what had been held back, now that nothing more comes."""
        return self._advance(self._buffer, ended=True)

    def _advance(self, buffer: bytes, *, ended: bool) -> bytes:
        pieces: list[bytes] = []
        done, decided = self._passed, len(buffer)
        for found in self._opening.finditer(buffer, done):
            is_name = self._is_name(buffer, found, ended=ended)
            if is_name is None:
                decided = found.start()
                break
            if not is_name:
                pieces += buffer[done : found.start()], b'"', self._base
                done = found.end()
        else:
            if not ended:
                decided = self._undecided_tail(buffer, done)
        pieces.append(buffer[done:decided])
        # One byte tells whether a quotation mark that comes next is escaped, or opens a value.
        self._passed = min(decided, 1)
        self._buffer = buffer[decided - self._passed :]
        return b"".join(pieces)

    @staticmethod
    def _is_name(buffer: bytes, found: re.Match[bytes], *, ended: bool) -> bool | None:
        """Tell whether a string is an object's name; None if that can't be told yet."""
        start = found.start()
        if buffer[start - 1 : start] == b":":
            return False
        limit = start + LOOK_AHEAD_BYTES
        follows = _WHAT_FOLLOWS.match(buffer, found.end(), limit)
        if follows is not None:
            return follows[1] == b":"
        return None if len(buffer) < limit and not ended else False

    def _undecided_tail(self, buffer: bytes, done: int) -> int:
        """Return where a beginning of the API's URL starts at the end of *buffer*, or its end."""
        start = buffer.rfind(b'"', max(done, len(buffer) - 2 * len(self._api_url) - 2))
        if start < 0 or buffer[start - 1 : start] == b"\\":
            return len(buffer)
        tail = buffer[start + 1 :].replace(rb"\/", b"/").removesuffix(b"\\")
        return start if self._api_url.startswith(tail) else len(buffer)
