"""Parsers of content: JSON that is rewritten, indented, counted and read, and gzip."""

from __future__ import annotations

import gzip
import json
import re
import zlib
from contextlib import suppress
from typing import Any, Final

from ghmirror_tw.caching.records import digest_of
from ghmirror_tw.caching.storability import (
    has_short_lived_urls,
    reason_in_content,
    reason_in_length,
)
from ghmirror_tw.github.claimed_enterprise_version import with_installed_version
from ghmirror_tw.github.graphql import is_mutation
from ghmirror_tw.github.item_count import count_items
from ghmirror_tw.github.json_indenting import IndentingStream, indented
from ghmirror_tw.github.media_types import is_json
from ghmirror_tw.github.url_rewriting import BaseUrls, Rewriter, opaque_names
from ghmirror_tw.http import content_codings as codings
from ghmirror_tw.http.fields import CONTENT_FIELDS, Fields
from ghmirror_tw.upstream.login_responses import parse_app, parse_login, parse_viewer
from ghmirror_tw.upstream.status_page import UnreadableStatusError, parse_components
from ghmirror_tw.web.content_conversion import Conversion, compressor, is_changed_by
from tests.fuzz.input_values import InputValues, ways

_JSON: Final = Fields(((b"content-type", b"application/json"),))
API: Final = "https://api.github.com"
UPLOADS: Final = "https://uploads.github.com"
REWRITER: Final = Rewriter(API.encode(), UPLOADS.encode())
BASE: Final = BaseUrls(b"http://mirror/api/v3", b"http://mirror/api/uploads")
PATHS: Final = (b"/repos/o/r", b"/repos/o/r/deployments/1", b"/repos/o/r/hooks/1/config")
#: Deeper JSON is not compared, and below `_links` not rewritten.
DEEPEST: Final = 90

_URL: Final = re.compile(rf"({re.escape(API)}|{re.escape(UPLOADS)})(?=[/?#{{]|\Z)")
_OF_OBJECTS: Final = {"files", "custom_properties", "tags"}


class Members(list[Any]):
    """A JSON object as its members, in order, with those of the same name."""


class Number(str):
    """A JSON number as it is spelled."""

    __slots__ = ()


def parsed(raw: bytes) -> Any:
    """Return JSON with all that distinguishes it. Raises ValueError."""
    try:
        return json.loads(
            raw.decode(),
            object_pairs_hook=Members,
            parse_int=Number,
            parse_float=Number,
            parse_constant=_refuse,
        )
    except RecursionError:
        raise ValueError from None


def _refuse(text: str) -> Any:
    raise ValueError(text)


def depth(value: Any) -> int:
    """Return how deep a document is."""
    if isinstance(value, Members):
        value = [each for _, each in value]
    return 1 + max(map(depth, value), default=0) if isinstance(value, list) else 0


def _is_url_name(name: str) -> bool:
    return len(json.dumps(name)) <= 128 and (name in {"url", "href"} or name.endswith("_url"))


def _replaced(text: Any) -> Any:
    if type(text) is not str:
        return text
    found = _URL.match(text)
    if found is None:
        return text
    base = BASE.api if found[1] == API else BASE.uploads
    return base.decode() + text[found.end() :]


def _below_links(value: Any) -> Any:
    if isinstance(value, Members):
        return Members((name, _below_links(each)) for name, each in value)
    return [_below_links(each) for each in value] if isinstance(value, list) else _replaced(value)


def rewritten(value: Any, opaque: frozenset[bytes]) -> Any:
    """Return a document with the mirror's URLs, by the rules for names of members."""
    if isinstance(value, Members):
        return Members((name, _member(name, each, opaque)) for name, each in value)
    return [rewritten(each, opaque) for each in value] if isinstance(value, list) else value


def _member(name: str, value: Any, opaque: frozenset[bytes]) -> Any:
    if not isinstance(value, list):
        return _replaced(value) if _is_url_name(name) else value
    if name == "_links":
        return _below_links(value)
    is_object = isinstance(value, Members)
    quoted = b'"%s"' % name.encode("utf-8", "replace")
    if quoted in opaque and (is_object or name not in _OF_OBJECTS):
        return value
    return rewritten(value, opaque)


def dumped(value: Any) -> str:
    """Return a document as JSON without any choice of spelling."""
    if isinstance(value, Members):
        members = ",".join(f"{json.dumps(name)}:{dumped(each)}" for name, each in value)
        return f"{{{members}}}"
    if isinstance(value, list):
        return f"[{','.join(map(dumped, value))}]"
    return value if isinstance(value, Number) else json.dumps(value)


def _differs_only_in_urls(before: Any, after: Any) -> bool:
    """Return whether only strings that begin with GitHub's URLs differ."""
    if isinstance(before, list):
        return (
            type(before) is type(after)
            and len(before) == len(after)
            and all(map(_differs_only_in_urls, before, after))
        )
    if isinstance(before, tuple):
        return before[0] == after[0] and _differs_only_in_urls(before[1], after[1])
    return bool(before == after or _replaced(before) == after)


def rewriting(raw: bytes) -> None:
    """In pieces as in one; all stays as it is but the URLs of members that are URLs by name."""
    for path in PATHS:
        whole = REWRITER.content(raw, BASE, path)
        for pieces in ways(raw):
            stream = REWRITER.stream(BASE, path)
            made = b"".join([stream.feed(piece) for piece in pieces])
            assert made + stream.close() == whole
        opaque = opaque_names(path)
        if opaque is None:
            assert whole == raw
    try:
        before = parsed(raw)
    except ValueError:
        return
    assert _differs_only_in_urls(before, parsed(REWRITER.content(raw, BASE, PATHS[0])))
    if depth(before) < DEEPEST:
        plain = dumped(before).encode()
        for path in PATHS[:2]:
            opaque = opaque_names(path)
            assert opaque is not None
            after = parsed(REWRITER.content(plain, BASE, path))
            assert after == rewritten(parsed(plain), opaque)


def indenting(raw: bytes) -> None:
    """In pieces as in one; the same JSON, and white space is all that differs."""
    whole = indented(raw)
    for pieces in ways(raw):
        stream = IndentingStream()
        assert b"".join([stream.feed(piece) for piece in pieces]) + stream.close() == whole
    try:
        before = parsed(raw)
    except ValueError:
        return
    assert parsed(whole) == before
    assert indented(whole) == whole
    if depth(before) < DEEPEST and not isinstance(before, str):
        assert whole.split() == indented(b" " + raw.replace(b"\n", b" ")).split()


def converting(raw: bytes) -> None:
    """Content is unpacked, rewritten, indented and packed in pieces as in one."""
    packed = codings.compress(raw)
    expected = indented(REWRITER.content(raw, BASE, PATHS[0]))
    for coded, unpacking in ((raw, None), (packed, codings.GzipDecompressor)):
        for pieces in ways(coded):
            conversion = Conversion(
                unpacking and unpacking(),
                (REWRITER.stream(BASE, PATHS[0]), IndentingStream()),
                compressor(),
            )
            made = b""
            for piece in pieces:
                conversion.feed(piece)
                while (step := conversion.take()) is not None:
                    made += step
            assert gzip.decompress(made + conversion.finish()) == expected
    stream = REWRITER.stream(BASE, PATHS[0])
    assert is_changed_by(packed, (stream,)) is (REWRITER.content(raw, BASE, PATHS[0]) != raw)


def documents(raw: bytes) -> None:
    """Values are those of a parser of JSON, and anything else is none."""
    try:
        value = json.loads(raw.decode())
    except (ValueError, RecursionError):
        value = None
    items = count_items(raw, 100)
    if value is not None:  # of a malformed array the number has no meaning
        assert items == (len(value) if isinstance(value, list) and len(value) <= 100 else None)
    for parse in (parse_login, parse_viewer, parse_app):
        login = parse(raw)
        assert login is None or re.fullmatch(r"[A-Za-z0-9_.-]{1,100}(\[bot\])?", login)
    with suppress(UnreadableStatusError):
        assert isinstance(parse_components(raw), str)
    shown = with_installed_version(raw, b"3.17.0")
    if isinstance(value, dict):
        assert json.loads(shown) == {**value, "installed_version": "3.17.0"} or b"NaN" in shown
    if b"mutation" in raw.lower() and b"mutation" in raw:
        assert is_mutation(raw, Fields())
    if not is_mutation(raw, Fields()) and value is not None:
        assert "mutation" not in json.dumps(value, ensure_ascii=False)
    short_lived = reason_in_content(_JSON, raw, covered=False) is not None
    assert short_lived is has_short_lived_urls(raw)
    assert reason_in_length(raw, is_delimited=True) is None
    assert is_json(raw) is is_json(raw.lower())


def gzipped(raw: bytes) -> None:
    """Decompression never exceeds its limit, and equals that of gzip in any pieces."""
    try:
        whole: bytes | None = codings.decompress(raw, 1 << 16)
    except codings.UndecodableError:
        whole = None
    except codings.ContentTooLargeError:
        return
    try:
        expected: bytes | None = gzip.decompress(raw)
    except (OSError, EOFError, zlib.error):
        expected = None
    if raw:
        # gzip of Python treats other headers of members as the end of the stream, and zeros.
        assert whole is None or expected is None or whole == expected
    for pieces in ways(raw):
        unpacking, made, fails = codings.GzipDecompressor(), b"", False
        try:
            for piece in pieces:
                unpacking.feed(piece)
                while more := unpacking.take(7):
                    assert len(more) <= 7
                    made += more
            unpacking.finish()
        except codings.UndecodableError:
            fails = True
        assert fails is (whole is None)
        assert fails or made == whole
    for coding in (None, b"", b"identity"):
        assert codings.decoded(raw, coding, 10) == raw
    assert codings.estimated_size(raw, None) == len(raw)
    assert codings.estimated_size(raw, b"gzip") >= len(raw)
    assert codings.decompress(codings.compress(raw), len(raw)) == raw
    members = [gzip.compress(part, 1) + bytes(len(part) % 3) for part in raw.split(b"\0", 9)]
    assert codings.decompress(b"".join(members), len(raw)) == raw.replace(b"\0", b"", 9)


def digests(raw: bytes) -> None:
    """The digest differs wherever content or fields that describe it do."""
    inputs = InputValues(raw)
    names = sorted(CONTENT_FIELDS)
    lines = tuple(
        (names[inputs.number(len(names))], inputs.some(20)) for _ in range(inputs.number(4))
    )
    content = inputs.rest()
    digest = digest_of(content, Fields(lines))
    assert digest == digest_of(content, Fields((*lines, (b"x-other", b"a"))))
    if lines:
        assert digest != digest_of(content, Fields(lines[1:]))
        name, value = lines[-1]
        assert digest != digest_of(content, Fields((*lines[:-1], (name, value + b"\n"))))
        if value:
            other = Fields((*lines[:-1], (name, b"")))
            assert digest != digest_of(value + content, other)
    assert digest != digest_of(content + b"\0", Fields(lines))
    if len(lines) > 1:
        (first, value), (second, more) = sorted(lines)[:2]
        joined = Fields(((first, value + second + more), *sorted(lines)[2:]))
        assert digest != digest_of(content, joined)
