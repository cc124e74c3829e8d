"""Different questions have different keys, and credentials are named without being kept."""

import base64
import hashlib
import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ghmirror_tw.caching.key import CacheKey, CredentialNames, origin_of, token_in
from ghmirror_tw.http.fields import Fields
from ghmirror_tw.http.messages import Request

#: Values that could run into each other if they were just put together.
parts = st.sampled_from([b"", b"-", b"1:", b"1:a", b"a", b"--", b"0:", b"2:a-"]) | st.binary()
others = st.lists(st.tuples(parts, parts), max_size=3).map(tuple)
optional = st.none() | parts
keys = st.builds(CacheKey, parts, optional, optional, optional, others, parts)


@given(keys, keys)
def test_keys_are_equal_exactly_if_their_names_are(a: CacheKey, b: CacheKey) -> None:
    """No two questions share a name, and one question has one name."""
    assert (a == b) is (a.name == b.name)


@given(st.lists(st.none() | parts, min_size=3, max_size=3), st.permutations(range(3)))
def test_fields_are_not_confused(values: list[bytes | None], order: list[int]) -> None:
    """The same values in other fields are another key."""
    moved = [values[index] for index in order]
    (a, b, c), (d, e, f) = values, moved
    same = CacheKey(b"/", a, b, c).name == CacheKey(b"/", d, e, f).name
    assert same is (values == moved)


def test_the_key_of_a_request() -> None:
    """Target byte for byte, and the three fields that select; absent and empty differ."""
    fields = Fields(
        (
            (b"ACCEPT", b"application/json"),
            (b"Authorization", b"token x"),
            (b"X-GitHub-Api-Version", b"2022-11-28"),
            (b"X-Requested-With", b""),
        )
    )
    key = CacheKey.of(b"/a?b=%2F", fields)
    assert key == CacheKey(b"/a?b=%2F", b"application/json", b"2022-11-28", b"")
    assert key != CacheKey.of(b"/a?b=%2f", fields)
    assert key != CacheKey.of(b"/a?b=%2F", fields.with_line(b"x-requested-with", None))
    assert key == CacheKey.of(b"/a?b=%2F", fields.with_line(b"authorization", b"token y"))


def test_other_fields_of_githubs_own_select_too() -> None:
    """All but a one-time password, in whatever order they come."""
    one, other = (b"X-GitHub-Next-Global-ID", b"1"), (b"X-GitHub-Else", b"")
    key = CacheKey.of(b"/a", Fields((one, other)))
    assert key.others == ((b"x-github-else", b""), (b"x-github-next-global-id", b"1"))
    assert key == CacheKey.of(b"/a", Fields((other, one)))
    assert len({key, CacheKey.of(b"/a", Fields((one,))), CacheKey(b"/a")}) == 3
    assert CacheKey.of(b"/a", Fields(((b"X-GitHub-OTP", b"1"),))) == CacheKey(b"/a")


def test_names_of_keys_are_stable() -> None:
    """A name is the same in every replica and version, or the shared cache would be lost."""
    assert CacheKey(b"/zen").name == hashlib.sha256(b"4:/zen---").hexdigest()[:40]


@given(st.none() | parts, st.none() | parts, parts)
def test_credentials_are_told_apart(a: bytes | None, b: bytes | None, secret: bytes) -> None:
    """Two credentials have two names, with a secret and without; one has one."""
    names = CredentialNames(secret)
    assert (names.name(a) == names.name(b)) is (a == b)
    assert CredentialNames(secret).name(a) == names.name(a)


@given(st.none() | parts, st.binary(max_size=64), st.binary(max_size=64))
def test_names_differ_by_secret(credential: bytes | None, one: bytes, other: bytes) -> None:
    """Who has another secret, or none, can't tell whom a name stands for."""
    # HMAC pads short keys with zero bytes, so those at the end make no other key.
    same = one.rstrip(b"\0") == other.rstrip(b"\0") and bool(one) == bool(other)
    names = CredentialNames(one).name(credential), CredentialNames(other).name(credential)
    assert (names[0] == names[1]) is same


def test_names_are_keyed_hashes() -> None:
    """With a secret it is HMAC-SHA-256, and the secret is not shown."""
    expected = hmac.digest(b"s3cret", b"credential\x007:token x", "sha256").hex()[:32]
    assert CredentialNames(b"s3cret").name(b"token x") == expected
    assert len(CredentialNames().name(None)) == 32
    assert "s3cret" not in repr(CredentialNames(b"s3cret"))


@pytest.mark.parametrize(
    ("target", "path"), [(b"/a?b?c", b"/a"), (b"/a", b"/a"), (b"/?", b"/"), (b"/a%3Fb", b"/a%3Fb")]
)
def test_the_path_of_a_question(target: bytes, path: bytes) -> None:
    """The path ends at the first question mark."""
    assert Request(b"GET", target, Fields()).path == path


def test_the_credential_of_a_question() -> None:
    """It is the `Authorization` value as sent, and is not shown."""
    request = Request(b"GET", b"/", Fields(((b"Authorization", b"token s3cret"),)))
    assert request.authorization == b"token s3cret"
    assert Request(b"GET", b"/", Fields()).authorization is None
    assert "s3cret" not in repr(request)


def test_the_path_is_the_target_without_its_query() -> None:
    """Byte for byte."""
    assert CacheKey(b"/a%2Fb?c=d?e").path == b"/a%2Fb"
    assert CacheKey(b"/a").path == b"/a"


def _basic(pair: bytes) -> bytes:
    return b"Basic " + base64.b64encode(pair)


@pytest.mark.parametrize(
    "authorization",
    [
        b"token abc",
        b"Bearer abc",
        b"bearer  abc ",
        _basic(b"octocat:abc"),
        _basic(b"abc:"),
        _basic(b"abc"),
        _basic(b"abc:x-oauth-basic"),
    ],
)
def test_a_token_is_the_same_however_it_is_sent(authorization: bytes) -> None:
    """Its limits are; its literal value, on which entity-tags depend, is not."""
    names = CredentialNames(b"s3cret")
    fields = Fields(((b"authorization", authorization),))
    assert token_in(authorization) == b"abc"
    assert names.token_of(fields) == names.name(b"token abc")
    assert names.of(fields) == names.name(authorization)


@pytest.mark.parametrize("authorization", [None, b"", b"abc", b"Basic !", b"Basic OmE", b"token "])
def test_what_holds_no_token_is_a_credential_of_its_own(authorization: bytes | None) -> None:
    """Whatever it is, it shares no limits with anything else."""
    names = CredentialNames()
    lines = () if authorization is None else ((b"authorization", authorization),)
    assert names.token_of(Fields(lines)) == names.name(authorization)


def test_servers_have_keys_and_credentials_of_their_own() -> None:
    """So that mirrors of two servers may share one Redis; GitHub.com's names are as ever."""
    assert origin_of("https://api.github.com/") == origin_of("https://API.GitHub.com") == b""
    one, other = origin_of("https://github.example/api/v3/"), origin_of("https://b.example")
    assert one == b"https://github.example/api/v3"
    fields = Fields(((b"authorization", b"token x"),))
    names = [CacheKey.of(b"/a", fields, origin).name for origin in (b"", one, other)]
    assert len(set(names)) == 3
    assert names[0] == CacheKey(b"/a").name
    for secret in (b"", b"secret"):
        of_each = [CredentialNames(secret, origin).of(fields) for origin in (b"", one, other)]
        assert len(set(of_each)) == 3
        assert of_each[0] == CredentialNames(secret).of(fields)
