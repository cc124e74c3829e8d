"""Entity-tags: syntax and weak comparison (RFC 9110, section 8.8.3)."""

from __future__ import annotations

import re
from typing import Final

from ghmirror_tw.http.fields import Fields
from ghmirror_tw.http.json_scanning import end_of

#: `entity-tag` of RFC 9110, section 8.8.3: visible bytes between quotation marks.
_ENTITY_TAG: Final = re.compile(rb'(?:W/)?"[\x21\x23-\x7e\x80-\xff]*"')
_ETAG: Final = frozenset({b"etag"})
_BETWEEN_MEMBERS: Final = re.compile(rb"[ \t,]*+")
_SPACES: Final = re.compile(rb"[ \t]*+")


def is_entity_tag(tag: bytes) -> bool:
    """Return whether *tag* is one entity-tag, weak or strong (RFC 9110, section 8.8.3)."""
    return _ENTITY_TAG.fullmatch(tag) is not None


def without_invalid_etag(fields: Fields) -> Fields:
    """Return the fields of a response, without an `ETag` that is not exactly one entity-tag.

    An invalid value, such as `*`, could match any representation when it is sent as a validator.
    """
    values = fields.get_all(b"etag")
    if not values or (len(values) == 1 and is_entity_tag(values[0])):
        return fields
    return fields.without(_ETAG)


def opaque_tag(tag: bytes) -> bytes:
    """Return the opaque-tag: *tag* with its quotation marks, without the mark of weakness."""
    return tag.removeprefix(b"W/")


def as_weak(tag: bytes) -> bytes:
    """Return *tag* as a weak entity-tag, for content that is equivalent but not identical."""
    return b"W/" + opaque_tag(tag)


def weakly_equal(a: bytes, b: bytes) -> bool:
    """Compare two entity-tags weakly: by opaque-tag alone (RFC 9110, section 8.8.3.2)."""
    return a == b or opaque_tag(a) == opaque_tag(b)


def parse_entity_tags(value: bytes) -> tuple[bytes, ...]:
    """Return the entity-tags of an `If-None-Match` list (RFC 9110, section 13.1.2).

    A comma inside quotation marks belongs to its tag. Malformed members are ignored: at worst the
    client receives content that it has already.
    """
    found = []
    at = end_of(_BETWEEN_MEMBERS, value, 0)
    while at < len(value):
        tag = _ENTITY_TAG.match(value, at)
        if tag is not None:
            end = end_of(_SPACES, value, tag.end())
            if end == len(value) or value[end : end + 1] == b",":
                found.append(tag[0])
                at = end_of(_BETWEEN_MEMBERS, value, end)
                continue
        comma = value.find(b",", at)
        at = len(value) if comma < 0 else end_of(_BETWEEN_MEMBERS, value, comma)
    return tuple(found)


def if_none_match_matches(if_none_match: bytes, tag: bytes | None) -> bool:
    """Return whether an `If-None-Match` value matches a representation with *tag*.

    `*` matches any representation, even without a tag (None). A list matches by weak comparison
    (RFC 9110, section 13.1.2).
    """
    if if_none_match.strip(b" \t") == b"*":
        return True
    if tag is None:
        return False
    return any(weakly_equal(member, tag) for member in parse_entity_tags(if_none_match))
