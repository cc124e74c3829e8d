"""Rewriting of GitHub's URLs into the mirror's: in JSON, in `Link` and in `Location`.

Clients require that the URLs of a response lead to the host that they sent the request to. In JSON
only members that are URLs by their name are rewritten: `url`, `..._url`, `href`, and every string
below `_links`. All other strings can be a user's text, and never change. Some objects hold a
user's data even under such names, and are passed on as they are: the `config` of a hook, the
`files` of a gist, whose names are those of files, the `payload` of a deployment, the
`custom_properties` of a repository and the `tags` of an artifact, whose names users choose.

`RewritingStream` is a scanner over bytes: it builds no objects, runs in linear time, and holds
back a few hundred bytes at most.
"""

from __future__ import annotations

import re
from typing import Final

from attrs import define, field

from ghmirror_tw.http.fields import Fields
from ghmirror_tw.http.json_scanning import REST_OF_STRING, STRING, end_of
from ghmirror_tw.http.links import LINK_VALUE
from ghmirror_tw.runtime.frozen_values import frozen_value

#: White space between tokens. More of it than this between a name and its value is not GitHub's.
_SPACE: Final = rb"[ \t\r\n]{0,64}+"

#: As many bytes as white space, a colon, quotation mark and boundary take at most.
_MOST_SPACE: Final = 64 + 1 + 64 + 1 + 6

#: A slash in a JSON string, and the bytes that may follow the API's URL: others would continue the
#: name of another host.
_SLASH: Final = rb"(?:/|\\/|\\u002[fF])"
_BOUNDARY: Final = rb'(?=[/?#{"]|\\/|\\u002[fF])'

#: Everything up to a string that may be a name of interest, or that has no end yet.
_UNINTERESTING: Final = re.compile(
    rb'(?s:(?:[^"]++|%s(?<!url")(?<!"href")(?<!"_links")(?<!"config")(?<!"files")(?<!"payload")'
    rb'(?<!"custom_properties")(?<!"tags"))*+)' % STRING
)

#: Everything up to a bracket, or to a string that has no end yet.
_NO_BRACKETS: Final = re.compile(rb'(?s:(?:[^"{}\[\]]++|%s)*+)' % STRING)

#: Everything up to a token or a string.
_NO_TOKENS: Final = re.compile(rb'[^"{}\[\]:,]*+')
_WHOLE_STRING: Final = re.compile(rb"(?s:%s)" % STRING)
_REST_OF_STRING: Final = re.compile(rb"(?s:%s)" % REST_OF_STRING)

#: The bytes between a name and its value.
_COLON: Final = re.compile(_SPACE + b":" + _SPACE)

#: A string that is longer than this is no name of interest, in bytes.
_LONGEST_NAME: Final = 128

#: Objects and arrays below `_links` are at most so deep; deeper content is not GitHub's.
_DEEPEST: Final = 100

#: Deliveries of a hook, which repeat a signed request byte for byte, and the settings of a hook as
#: the whole content (GitHub: repository, organization and App webhooks).
_OF_HOOKS: Final = re.compile(
    rb"/(?:repos/[^/]+/[^/]+|(?:repositories|orgs|organizations|enterprises)/[^/]+|app|admin)"
    rb"/hooks?(?:/[^/]+)?/(?:deliveries|config)(?:/|\Z)"
)

_OF_DEPLOYMENTS: Final = re.compile(rb"/deployments(?:/|\Z)")
_URLS: Final = frozenset({b'"url"', b'"href"'})
_LINKS: Final = b'"_links"'

#: Only an object with such a name holds a user's data: the files of a commit, unlike those of a
#: gist, are an array, whose URLs are GitHub's.
_OBJECTS: Final = frozenset({b'"files"', b'"custom_properties"', b'"tags"'})
_OPAQUE: Final = frozenset({b'"config"'}) | _OBJECTS
_OPAQUE_IN_DEPLOYMENTS: Final = _OPAQUE | {b'"payload"'}


def opaque_names(path: bytes) -> frozenset[bytes] | None:
    """Return the quoted names of objects that stay unchanged in responses for *path*.

    None: the whole content stays unchanged.
    """
    if _OF_HOOKS.match(path):
        return None
    return _OPAQUE_IN_DEPLOYMENTS if _OF_DEPLOYMENTS.search(path) else _OPAQUE


@frozen_value
class BaseUrls:
    """The URLs that a client gets in place of GitHub's, without a slash at their end."""

    api: bytes
    uploads: bytes


@frozen_value
class Rewriter:
    """Replaces *api_url*, and *uploads_url* where GitHub has one; neither ends in a slash."""

    api_url: bytes
    uploads_url: bytes | None = None
    _in_text: re.Pattern[bytes] = field(init=False, eq=False, repr=False)
    _in_json: re.Pattern[bytes] = field(init=False, eq=False, repr=False)
    #: The hosts of these URLs: content without them has no URL to replace, and a search is fast.
    _hosts: tuple[bytes, ...] = field(init=False, eq=False, repr=False)

    def __attrs_post_init__(self) -> None:
        urls = [self.api_url, *([] if self.uploads_url is None else [self.uploads_url])]
        in_text = b"|".join(b"(%s)" % re.escape(url) for url in urls)
        in_json = b"|".join(
            b"(%s)" % _SLASH.join(re.escape(part) for part in url.split(b"/")) for url in urls
        )
        object.__setattr__(self, "_in_text", re.compile(rb"(?:%s)(?=[/?#{]|\Z)" % in_text))
        object.__setattr__(self, "_in_json", re.compile(rb'"(?:%s)%s' % (in_json, _BOUNDARY)))
        object.__setattr__(self, "_hosts", tuple({url.split(b"/")[2] for url in urls}))

    def changes(self, base: BaseUrls, path: bytes = b"") -> bool:
        """Return whether rewriting can change JSON for *path* at all."""
        return base.api != self.api_url and opaque_names(path) is not None

    def content(self, body: bytes, base: BaseUrls, path: bytes = b"") -> bytes:
        """Return JSON *body*, a response for *path*, with *base* in place of GitHub's URLs.

        All other bytes stay as they are.
        """
        if not (self.changes(base, path) and any(host in body for host in self._hosts)):
            return body
        stream = self.stream(base, path)
        return stream.feed(body) + stream.close()

    def stream(self, base: BaseUrls, path: bytes = b"") -> RewritingStream:
        """Return a scanner that rewrites content piece by piece (see `content`)."""
        opaque = opaque_names(path) if self.changes(base, path) else None
        longest = max(map(len, (self.api_url, self.uploads_url or b"")))
        return RewritingStream(
            opaque, self._in_json, (base.api, base.uploads), _MOST_SPACE + 6 * longest
        )

    def fields(self, fields: Fields, base: BaseUrls) -> Fields:
        """Return *fields* with *base* in place of GitHub's URLs in `Link` and `Location`."""
        if base.api == self.api_url or not any(fields.get_each(b"link", b"location")):
            return fields
        return Fields.of(tuple([(name, self._field(name, value, base)) for name, value in fields]))

    def _field(self, name: bytes, value: bytes, base: BaseUrls) -> bytes:
        if name == b"location":
            return self._target(value, base)
        if name == b"link":
            return LINK_VALUE.sub(
                lambda link: b"<%s>%s" % (self._target(link[1], base), link[2]), value
            )
        return value

    def _target(self, target: bytes, base: BaseUrls) -> bytes:
        found = self._in_text.match(target)
        if found is None:
            return target
        return (base.api if found.lastindex == 1 else base.uploads) + target[found.end() :]


@define
class RewritingStream:
    """Rewrites JSON piece by piece: `feed` each piece, then `close`.

    *opaque*: names of objects that stay unchanged; None: the whole content does. *urls*: the
    pattern of a URL, which matches *window* bytes at most. *replacements*: one for each of its
    groups.
    """

    _opaque: frozenset[bytes] | None
    _urls: re.Pattern[bytes]
    _replacements: tuple[bytes, ...]
    _window: int
    _buffer: bytes = field(default=b"", init=False)
    _in_string: bool = field(default=False, init=False)
    #: The open brackets, from that of an opaque object, or of `_links`, inward.
    _open: bytearray = field(factory=bytearray, init=False)
    _below_links: bool = field(default=False, init=False)
    #: The last token below `_links`.
    _last: int = field(default=0, init=False)
    _pieces: list[bytes] = field(factory=list, init=False)
    #: The position in the buffer up to which the pieces reach.
    _done: int = field(default=0, init=False)

    def feed(self, chunk: bytes) -> bytes:
        """Return the bytes that can be passed on with *chunk* received."""
        if self._opaque is None:
            return chunk
        return self._advance(self._buffer + chunk, ended=False)

    def close(self) -> bytes:
        """Return the bytes that were held back, at the end of the content."""
        return self._advance(self._buffer, ended=True)

    def _advance(self, buffer: bytes, *, ended: bool) -> bytes:
        """Return the part of *buffer* that is decided, and hold back the rest."""
        at, held = 0, False
        while at < len(buffer) and not held:
            if self._in_string:
                at, held = self._leave_string(buffer, at)
            elif not self._open:
                at, held = self._find_member(buffer, at, ended=ended)
            elif self._below_links:
                at, held = self._find_link(buffer, at, ended=ended)
            else:
                at = self._skip_opaque(buffer, at)
        if ended:
            at = len(buffer)
        self._pieces.append(buffer[self._done : at])
        self._buffer, passed = buffer[at:], b"".join(self._pieces)
        self._pieces, self._done = [], 0
        return passed

    def _leave_string(self, buffer: bytes, at: int) -> tuple[int, bool]:
        """Return where the string ends, or the buffer, and whether to wait for more of it."""
        at = end_of(_REST_OF_STRING, buffer, at)
        if buffer[at : at + 1] == b'"':
            self._in_string = False
            return at + 1, False
        return at, True

    def _find_member(self, buffer: bytes, at: int, *, ended: bool) -> tuple[int, bool]:
        """Handle the next member of interest; return where to continue, and whether to wait."""
        at = end_of(_UNINTERESTING, buffer, at)
        string = _WHOLE_STRING.match(buffer, at)
        if string is not None:
            if self._is_short(buffer, string.end()) and not ended:
                return at, True
            return self._handle_member(buffer, string), False
        if at < len(buffer):
            if len(buffer) - at < _LONGEST_NAME and not ended:
                return at, True
            self._in_string = True
            at += 1
        return at, False

    def _handle_member(self, buffer: bytes, string: re.Match[bytes]) -> int:
        """Handle a string that may be a name of interest; return where to continue."""
        name = string[0]
        colon = _COLON.match(buffer, string.end())
        if colon is None or len(name) > _LONGEST_NAME:
            return string.end()
        at = colon.end()
        if name in _URLS or name.endswith(b'_url"'):
            return self._replace(buffer, at)
        if name == _LINKS or name in (self._opaque or ()):
            token = buffer[at : at + 1]
            if token == b"{" or (token == b"[" and name not in _OBJECTS):
                self._below_links = name == _LINKS
                self._last = token[0]
                self._open += token
                at += 1
        return at

    def _find_link(self, buffer: bytes, at: int, *, ended: bool) -> tuple[int, bool]:
        """Handle the next token below `_links`; return where to continue, and whether to wait."""
        at = end_of(_NO_TOKENS, buffer, at)
        if at == len(buffer):
            return at, False
        token = buffer[at]
        if token == b'"'[0]:
            if self._is_short(buffer, at) and not ended:
                return at, True
            is_value = self._last == b":"[0] or self._open[-1] == b"["[0]
            if is_value:
                at = self._replace(buffer, at)
            if not self._in_string:
                self._in_string = True
                at += 1
            self._last = token
            return at, False
        if token in b"{[":
            self._open.append(token)
            if len(self._open) > _DEEPEST:
                self._below_links = False
        elif token in b"}]":
            self._open.pop()
        self._last = token
        return at + 1, False

    def _skip_opaque(self, buffer: bytes, at: int) -> int:
        """Skip to the next bracket in an object that stays unchanged; return where to continue."""
        at = end_of(_NO_BRACKETS, buffer, at)
        if at == len(buffer):
            return at
        token = buffer[at]
        if token == b'"'[0]:
            self._in_string = True
        elif token in b"{[":
            self._open.append(token)
        else:
            self._open.pop()
        return at + 1

    def _is_short(self, buffer: bytes, at: int) -> bool:
        """Return whether too little of *buffer* is left behind *at* to match a URL there."""
        return len(buffer) - at < self._window

    def _replace(self, buffer: bytes, at: int) -> int:
        """Replace GitHub's URL at the beginning of a string value; return where to continue."""
        found = self._urls.match(buffer, at)
        if found is not None:
            assert found.lastindex is not None
            self._pieces += buffer[self._done : at + 1], self._replacements[found.lastindex - 1]
            self._done = at = found.end()
            self._in_string = True
        return at
