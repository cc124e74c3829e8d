"""A sealed record opens unchanged, or not at all."""

from __future__ import annotations

import struct
import sys
import tracemalloc
from typing import Any

import msgpack
import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from ghmirror_tw.caching.records import Entry, Grant, Representation, digest_of
from ghmirror_tw.caching.representation_from_response import representation_of
from ghmirror_tw.http.content_codings import compress
from ghmirror_tw.http.fields import Fields
from ghmirror_tw.store.record_kinds import (
    ENTRY,
    EPOCH,
    GRANT,
    REFUSAL,
    REPRESENTATION,
    RecordKind,
    is_whole,
)
from ghmirror_tw.store.record_sealing import MAGIC, VERSION, Codec

CODEC = Codec(b"secret")
NAME = b"{0123}:g:abc"
TIMES = st.floats(0, 1e11)
DIGESTS = st.binary(min_size=32, max_size=32).map(bytes.hex)
VALUES = st.none() | st.binary(max_size=50)
LOGINS = st.none() | st.from_regex("[a-z0-9-]{1,20}", fullmatch=True)
SECRETS = st.sampled_from([b"", b"secret"])

GRANTS = st.builds(
    Grant,
    digest=DIGESTS,
    etag=st.none() | st.from_regex(rb'\A(W/)?"[!#-~]{0,50}"\Z'),
    last_modified=VALUES,
    link=VALUES,
    requested_at=TIMES,
    validated_at=TIMES,
    shareable=st.booleans(),
    principal=LOGINS,
    expires_at=TIMES | st.just(float("inf")),
    scopes=VALUES,
    sso=VALUES,
    poll_interval=VALUES,
    epoch=st.none() | st.binary(min_size=8, max_size=8),
    borrowed_date=st.booleans(),
)
ENTRIES = st.builds(
    Entry,
    digest=DIGESTS,
    received_at=TIMES,
    validated_at=TIMES,
    shareable=st.booleans(),
    size=st.integers(0, 2**40),
    link=VALUES,
    last_modified=VALUES,
    principal=LOGINS,
    supersedes=st.none() | DIGESTS,
)


def represented(content: bytes, *more: tuple[bytes, bytes]) -> Representation:
    fields = Fields(((b"content-type", b"text/plain"), *more))
    return representation_of(fields, content, None, 10**7)[0]


REPRESENTATIONS = st.builds(
    represented, st.binary(max_size=200), st.tuples(st.just(b"vary"), st.binary(max_size=20))
)


@given(SECRETS, st.binary(max_size=40), GRANTS)
def test_grants_are_opened(secret: bytes, name: bytes, grant: Grant) -> None:
    """They are equal to the sealed ones, under the same name."""
    codec = Codec(secret)
    assert codec.open(GRANT, name, codec.seal(GRANT, name, grant)) == grant


@given(SECRETS, st.binary(max_size=40), ENTRIES)
def test_entries_are_opened(secret: bytes, name: bytes, entry: Entry) -> None:
    """They are equal to the sealed ones, under the same name."""
    codec = Codec(secret)
    assert codec.open(ENTRY, name, codec.seal(ENTRY, name, entry)) == entry


@given(SECRETS, st.binary(max_size=40), TIMES)
def test_refusals_are_opened(secret: bytes, name: bytes, at: float) -> None:
    """They are equal to the sealed ones, under the same name."""
    codec = Codec(secret)
    assert codec.open(REFUSAL, name, codec.seal(REFUSAL, name, at)) == at


@given(SECRETS, st.binary(max_size=40), REPRESENTATIONS)
def test_representations_are_opened(secret: bytes, name: bytes, stored: Representation) -> None:
    """They are equal to the sealed ones, under the same name."""
    codec = Codec(secret)
    assert codec.open(REPRESENTATION, name, codec.seal(REPRESENTATION, name, stored)) == stored


@given(GRANTS, st.data())
def test_no_byte_of_a_sealed_grant_can_be_changed(grant: Grant, data: st.DataObject) -> None:
    """A changed, truncated or extended record does not open."""
    blob = CODEC.seal(GRANT, NAME, grant)
    at = data.draw(st.integers(0, len(blob) - 1))
    changed = data.draw(st.integers(1, 255))
    flipped = blob[:at] + bytes([blob[at] ^ changed]) + blob[at + 1 :]
    for other in (flipped, blob[:at], blob + b"\0"):
        assert CODEC.open(GRANT, NAME, other) is None


@given(REPRESENTATIONS, st.data())
def test_no_byte_of_a_representation_can_be_changed(
    stored: Representation, data: st.DataObject
) -> None:
    """Its content is what its digest covers, with a secret or without; only packing may differ."""
    for codec in (CODEC, Codec()):
        blob = codec.seal(REPRESENTATION, NAME, stored)
        at = data.draw(st.integers(0, len(blob) - 1))
        flipped = blob[:at] + bytes([blob[at] ^ data.draw(st.integers(1, 255))]) + blob[at + 1 :]
        opened = codec.open(REPRESENTATION, NAME, flipped)
        if opened is not None:
            assert opened.content() == stored.content()
            assert opened.fields == stored.fields


@given(st.binary(max_size=300))
def test_garbage_does_not_open(garbage: bytes) -> None:
    """No bytes raise an error."""
    header = bytes([MAGIC, VERSION])
    for codec in (CODEC, Codec()):
        for blob in (garbage, header + garbage):
            assert codec.open(GRANT, NAME, blob) is None
            assert codec.open(ENTRY, NAME, blob) is None
            assert codec.open(REPRESENTATION, NAME, blob) is None
    for nothing in (None, b""):
        assert CODEC.open(REFUSAL, NAME, nothing) is None


def unsealed(kind: bytes, *values: object) -> bytes:
    payload: bytes = msgpack.packb(values)
    return struct.pack(">BBcBddI", MAGIC, VERSION, kind, 0, 1.0, 2.0, len(payload)) + payload


@pytest.mark.parametrize("complete", [False, True])
def test_an_entry_of_an_earlier_version_is_read(complete: bool) -> None:
    """Its last value is ignored."""
    blob = unsealed(b"E", b"d" * 32, True, 3, b"<x>", None, b"alice", None, complete)
    entry = Entry("64" * 32, 2.0, 1.0, True, 3, b"<x>", None, "alice")
    assert Codec().open(ENTRY, NAME, blob) == entry
    assert Codec().seal(ENTRY, NAME, entry) == unsealed(
        b"E", b"d" * 32, True, 3, b"<x>", None, b"alice", None, False
    )


@pytest.mark.parametrize(
    "values",
    [
        (),
        (1,),
        (b"d" * 32, '"text"', None, None, 1.0, True, None, False),
        (b"d" * 32, b"*", None, None, 1.0, True, None, False),
        (b"d" * 32, b'"a", "b"', None, None, 1.0, True, None, False),
        (b"d" * 32, None, None, None, 1, True, None, False),
        (b"d" * 32, None, None, None, 1.0, 1, None, False),
        (b"d" * 32, None, None, None, 1.0, True, b"\xff", False),
        (None, None, None, None, 1.0, True, None, False),
    ],
)
def test_a_payload_of_other_types_does_not_open(values: tuple[object, ...]) -> None:
    """Without a seal, each value still needs its type."""
    good = (b"d" * 32, b'"t"', None, None, 1.0, True, None, False)
    assert Codec().open(GRANT, NAME, unsealed(b"G", *good)) is not None
    blob = unsealed(b"G", *values)
    if values[1:2] == ('"text"',):  # MessagePack's texts are bytes to us, as good as any others
        assert Codec().open(GRANT, NAME, blob) is not None
    else:
        assert Codec().open(GRANT, NAME, blob) is None


def test_a_record_is_bound_to_its_name_its_kind_and_its_secret() -> None:
    """Under another name, or with another secret or none, it does not open."""
    time = CODEC.seal(REFUSAL, NAME, 1.0)
    assert CODEC.open(REFUSAL, NAME + b"x", time) is None
    assert CODEC.open(ENTRY, NAME, time) is None
    assert Codec(b"other").open(REFUSAL, NAME, time) is None
    assert Codec().open(REFUSAL, NAME, time) is None
    assert CODEC.open(REFUSAL, NAME, Codec().seal(REFUSAL, NAME, 1.0)) is None


def test_a_newer_version_is_not_read() -> None:
    """Its meaning is unknown."""
    blob = bytearray(Codec().seal(REFUSAL, NAME, 1.0))
    blob[1] = VERSION + 1
    assert Codec().open(REFUSAL, NAME, bytes(blob)) is None


def test_a_refusal_of_a_newer_version_counts() -> None:
    """By its header, which all versions share, and now at the latest; nothing else counts."""
    blob = bytearray(CODEC.seal(REFUSAL, NAME, 5.0))
    assert CODEC.refused_at(NAME, bytes(blob), 9.0) == 5.0
    assert CODEC.refused_at(b"other", bytes(blob), 9.0) == 0.0
    blob[1] = VERSION + 1
    assert CODEC.refused_at(NAME, bytes(blob), 9.0) == 5.0
    assert CODEC.refused_at(NAME, bytes(blob), 4.0) == 4.0
    for nothing in (None, b"", bytes(blob[:10]), b"x" * 40):
        assert CODEC.refused_at(NAME, nothing, 9.0) == 0.0


def test_epochs_are_opened() -> None:
    """It is sealed for its name, as all records are."""
    sealed = CODEC.seal(EPOCH, NAME, b"12345678")
    assert CODEC.open(EPOCH, NAME, sealed) == b"12345678"
    for wrong in (None, b"junk", sealed[:-1], Codec(b"other").seal(EPOCH, NAME, b"12345678")):
        assert CODEC.open(EPOCH, NAME, wrong) is None
    assert CODEC.open(EPOCH, b"other", sealed) is None


def test_content_of_another_digest_is_not_whole() -> None:
    """Other content, other fields, another size, no gzip at all, or more than the limit."""
    stored = represented(b"content")
    assert is_whole(stored, stored.size)
    for changes in (
        {"packed": compress(b"other")},
        {"fields": Fields()},
        {"size": 3},
        {"size": 8},
        {"size": -1},
        {"packed": b"none"},
    ):
        assert not is_whole(evolve(stored, **changes), 10**7)
    assert not is_whole(stored, stored.size - 1)


def peak_of_opening(codec: Codec, kind: RecordKind[Any], blob: bytes) -> int:
    """Return the peak memory in bytes of the attempt to open *blob*, which fails."""
    tracemalloc.start()
    try:
        assert codec.open(kind, NAME, blob) is None
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("stated", [10**8, 10**6, sys.maxsize, 2**64 - 1])
def test_a_forged_record_uses_no_more_memory_than_the_largest_content(stated: int) -> None:
    """Its gzip is a thousand times as large without its coding; its digest would be right."""
    codec, largest = Codec(largest_content_bytes=10**6), 10**6
    content = bytes(10**8)
    forged = evolve(represented(b""), packed=compress(content), size=stated)
    forged = evolve(forged, digest=digest_of(content, forged.fields))
    blob = Codec().seal(REPRESENTATION, NAME, forged)
    assert len(blob) < 10**6
    assert peak_of_opening(codec, REPRESENTATION, blob) < 4 * largest


def test_content_of_the_largest_size_opens() -> None:
    """One byte more does not."""
    stored = represented(bytes(1000))
    blob = Codec().seal(REPRESENTATION, NAME, stored)
    assert Codec(largest_content_bytes=1000).open(REPRESENTATION, NAME, blob) == stored
    assert Codec(largest_content_bytes=999).open(REPRESENTATION, NAME, blob) is None


@pytest.mark.parametrize("array", [b"\xdd" + struct.pack(">I", 10**6), b"\xdc\xff\xff"])
def test_a_forged_payload_uses_no_more_memory_than_a_few_times_its_size(array: bytes) -> None:
    """Lengths of arrays in arrays are not believed."""
    payload = array * 1000 + b"\xc0" * 10**6
    head = struct.pack(">BBcBddI", MAGIC, VERSION, b"G", 0, 1.0, 2.0, len(payload))
    assert peak_of_opening(Codec(), GRANT, head + payload) < 16 * len(payload)


def test_a_secret_is_not_shown() -> None:
    """Its representation leaves it out."""
    assert "secret" not in repr(CODEC)


def test_records_are_small() -> None:
    """The record of a grant has a few hundred bytes."""
    grant = Grant("ab" * 32, b'"%s"' % (b"c" * 64), None, None, 1.0, 2.0, principal="octocat")
    assert len(CODEC.seal(GRANT, NAME, grant)) < 200


def test_grants_of_earlier_versions_are_read() -> None:
    """A grant without the later fields is written as before, so that each version reads it."""
    grant = Grant("ab" * 32, b'"t"', None, None, 1.0, 2.0)
    payload = msgpack.packb(
        (bytes.fromhex(grant.digest), b'"t"', None, None, 2.0, False, None, False)
    )
    head = struct.pack(">BBcBddI", MAGIC, VERSION, b"G", 0, 1.0, grant.expires_at, len(payload))
    codec = Codec()
    assert codec.open(GRANT, NAME, head + payload) == grant
    # For them, what permits nothing was restored.
    assert codec.seal(GRANT, NAME, grant) == head + payload[:-1] + b"\xc3"


# Secrets.


def test_secrets_have_fingerprints() -> None:
    """Short, the same each time, different for each secret; none without a secret."""
    assert Codec(b"secret").fingerprint == CODEC.fingerprint
    assert len(bytes.fromhex(CODEC.fingerprint)) == 4
    assert Codec(b"other").fingerprint != CODEC.fingerprint
    assert Codec().fingerprint == ""


def test_a_fingerprint_seals_nothing() -> None:
    """The keyed state is not used up by it, nor by a record."""
    codec = Codec(b"secret")
    assert codec.fingerprint == codec.fingerprint
    assert codec.seal(REFUSAL, NAME, 1.0) == CODEC.seal(REFUSAL, NAME, 1.0)
    assert codec.fingerprint == CODEC.fingerprint


@given(GRANTS, ENTRIES, REPRESENTATIONS, TIMES)
def test_records_of_any_kind_open(
    grant: Grant, entry: Entry, representation: Representation, at: float
) -> None:
    """Under their own name, with the secret that has sealed them, and not otherwise."""
    other, plain = Codec(b"other"), Codec()
    for codec in (CODEC, plain):
        for blob in (
            codec.seal(GRANT, NAME, grant),
            codec.seal(ENTRY, NAME, entry),
            codec.seal(REPRESENTATION, NAME, representation),
            codec.seal(REFUSAL, NAME, at),
        ):
            assert codec.opens(NAME, blob)
            assert not other.opens(NAME, blob)
            assert plain.opens(NAME, blob) == (codec is plain)
            assert CODEC.opens(NAME, blob) == (codec is CODEC)
            assert not CODEC.opens(NAME + b"x", blob)


@pytest.mark.parametrize("blob", [b"", b"x", bytes(200), b"\xff" * 200])
def test_other_bytes_are_no_record(blob: bytes) -> None:
    """None of them opens."""
    assert not CODEC.opens(NAME, blob)
    assert not Codec().opens(NAME, blob)


def is_found_and_resealed(both: Codec, former: Codec, kind: RecordKind[Any], record: Any) -> None:
    """Assert that *both* opens what *former* has sealed, and seals it with its own secret."""
    blob = former.seal(kind, NAME, record)
    assert both.open(kind, NAME, blob) == record
    assert both.opens(NAME, blob)
    assert not both.seals(NAME, blob)
    assert both.open(kind, NAME + b"x", blob) is None or not former.secret
    again = both.resealed(NAME, blob)
    assert again == Codec(b"new").seal(kind, NAME, record)
    assert both.seals(NAME, again)
    assert both.resealed(NAME, again) == again
    assert Codec(b"new").open(kind, NAME, blob) is None
    assert Codec(b"new").resealed(NAME, blob) == blob


def test_records_of_older_secrets_are_opened() -> None:
    """Each kind; a secret that is not listed opens nothing, and none seals but the current one."""
    grant = Grant("ab" * 32, b'"t"', None, None, 1.0, 2.0)
    stored = represented(b"[1]" * 100)
    both = Codec.by((b"new", b"old", b""))
    assert (both.secret, both.older) == (b"new", (b"old", b""))
    for former in (Codec(b"old"), Codec()):
        is_found_and_resealed(both, former, GRANT, grant)
        is_found_and_resealed(both, former, REPRESENTATION, stored)
        is_found_and_resealed(both, former, REFUSAL, 5.0)
        assert both.refused_at(NAME, former.seal(REFUSAL, NAME, 5.0), 9.0) == 5.0
    foreign = Codec(b"foreign").seal(GRANT, NAME, grant)
    assert both.open(GRANT, NAME, foreign) is None
    assert both.resealed(NAME, foreign) == foreign
    for damaged in (b"", b"x", foreign[:30], foreign[:-1]):
        assert both.resealed(NAME, damaged) == damaged
    assert both.seal(GRANT, NAME, grant) == Codec(b"new").seal(GRANT, NAME, grant)


def test_fingerprints_of_older_secrets_follow() -> None:
    """The first is that of the current secret, which snapshots carry."""
    codec = Codec.by((b"new", b"old"))
    assert codec.fingerprint == Codec(b"new").fingerprint
    assert codec.fingerprints == (Codec(b"new").fingerprint, Codec(b"old").fingerprint)
    assert Codec.by(()).fingerprints == ("",)
    assert "old" not in repr(codec)
